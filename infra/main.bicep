// The app on Azure Functions Flex Consumption: no keys, one managed identity, two storage accounts, one vault.
// Plain resources only, so that it can be checked without the network (tests/test_infra.py). Deploy with `azd up`.
targetScope = 'resourceGroup'

@description('Short name of this environment; part of every resource name.')
@minLength(3)
@maxLength(11)
param name string

param location string = resourceGroup().location

@description('Issuer, audience and key set of the tokens that Zalion\'s callers carry.')
param authIssuer string
param authAudience string
param authJwksUrl string

@description('Exact URLs that a browser may be sent back to after a consent.')
param returnUrls string

@description('Exact origins of the frontend.')
param corsOrigins array

@description('Hosts with private addresses that mailboxes may name; empty unless the network reaches some.')
param allowedPrivateHosts string = ''

@description('Client id of Zalion\'s multi-tenant Entra app; empty if customers bring their own. Its secret, microsoft-client-secret, is put into the vault by hand: infra/README.md.')
param microsoftClientId string = ''

@description('Client id of Zalion\'s OAuth client at Google; its secret and the service account\'s key file are put into the vault by hand (google-client-secret, google-service-account).')
param googleClientId string = ''

@description('Zalion\'s Google Cloud project, with the Pub/Sub topic and push subscription "gmail" and the service account that pushes.')
param googleProject string = ''

@description('Mail addresses that are told of alerts; more receivers can be added to the action group.')
param alertReceivers array = []

param logLevel string = 'INFO'
param maxMailBytes string = '35000000'

var suffix = uniqueString(resourceGroup().id, name)
var appName = 'func-${name}-${suffix}'
var queueNames = ['sync', 'sync-poison', 'deliver', 'deliver-poison']
var tableNames = ['records', 'due']
// Built-in roles, https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var blobOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var queueContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var tableContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
var secretsOfficer = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${name}-${suffix}'
  location: location
}

resource host 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: take('sth${name}${suffix}', 24)
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource hostBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: host
  name: 'default'
}

resource package 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: hostBlobs
  name: 'package'
}

resource data 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: take('std${name}${suffix}', 24)
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_ZRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource dataBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: data
  name: 'default'
  properties: { deleteRetentionPolicy: { enabled: true, days: 7 } }
}

resource mail 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: dataBlobs
  name: 'mail'
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: data
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = [for queue in queueNames: {
  parent: queueService
  name: queue
}]

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' = {
  parent: data
  name: 'default'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2024-01-01' = [for table in tableNames: {
  parent: tableService
  name: table
}]

// What the app destroys it also purges, so that nobody can recover it. Seven days, the least Azure allows, is how long
// anything else that is deleted stays recoverable, and a secret whose purge failed.
resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: take('kv-${name}-${suffix}', 24)
  location: location
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
  }
}

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-${name}-${suffix}'
  location: location
  properties: { sku: { name: 'PerGB2018' }, retentionInDays: 30 }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${name}-${suffix}'
  location: location
  kind: 'web'
  properties: { Application_Type: 'web', WorkspaceResourceId: logs.id, DisableLocalAuth: true }
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: 'plan-${name}-${suffix}'
  location: location
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

var settings = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  AzureWebJobsStorage__blobServiceUri: host.properties.primaryEndpoints.blob
  AzureWebJobsStorage__queueServiceUri: host.properties.primaryEndpoints.queue
  AzureWebJobsStorage__tableServiceUri: host.properties.primaryEndpoints.table
  STORAGE__credential: 'managedidentity'
  STORAGE__clientId: identity.properties.clientId
  STORAGE__blobServiceUri: data.properties.primaryEndpoints.blob
  STORAGE__queueServiceUri: data.properties.primaryEndpoints.queue
  STORAGE__tableServiceUri: data.properties.primaryEndpoints.table
  KEY_VAULT_URL: vault.properties.vaultUri
  KEY_VAULT_VERIFY_CHALLENGE: 'true'
  AZURE_CLIENT_ID: identity.properties.clientId
  AUTH_ISSUER: authIssuer
  AUTH_AUDIENCE: authAudience
  AUTH_JWKS_URL: authJwksUrl
  PUBLIC_URL: 'https://${appName}.azurewebsites.net'
  RETURN_URLS: returnUrls
  ALLOWED_PRIVATE_HOSTS: allowedPrivateHosts
  MAX_MAIL_BYTES: maxMailBytes
  MICROSOFT_CLIENT_ID: microsoftClientId
  MICROSOFT_SECRET_NAME: 'microsoft-client-secret'
  ENTRA_URL: environment().authentication.loginEndpoint
  GRAPH_URL: 'https://graph.microsoft.com/v1.0'
  GOOGLE_CLIENT_ID: googleClientId
  GOOGLE_SECRET_NAME: 'google-client-secret'
  GOOGLE_KEY_NAME: 'google-service-account'
  GOOGLE_TOPIC: empty(googleProject) ? '' : 'projects/${googleProject}/topics/gmail'
  GOOGLE_SUBSCRIPTION: empty(googleProject) ? '' : 'projects/${googleProject}/subscriptions/gmail'
  GOOGLE_AUDIENCE: ''
  GOOGLE_PUSHER: empty(googleProject) ? '' : 'gmail-push@${googleProject}.iam.gserviceaccount.com'
  GOOGLE_ACCOUNTS_URL: 'https://accounts.google.com'
  GOOGLE_OAUTH_URL: 'https://oauth2.googleapis.com'
  GOOGLE_CERTS_URL: 'https://www.googleapis.com/oauth2/v3/certs'
  GMAIL_URL: 'https://gmail.googleapis.com'
  DNS_SERVER: '' // the platform's resolver
  AUTOCONFIG_URLS: 'https://autoconfig.{domain}/mail/config-v1.1.xml,https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml'
  MX_PORT: '25'
  LOG_LEVEL: logLevel
  PYTHON_THREADPOOL_THREAD_COUNT: '32' // see tests/test_infra.py
  APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: appName
  location: location
  kind: 'functionapp,linux'
  tags: { 'azd-service-name': 'email' }
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
      cors: { allowedOrigins: corsOrigins }
      appSettings: [for setting in items(settings): { name: setting.key, value: setting.value }]
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${host.properties.primaryEndpoints.blob}${package.name}'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identity.id }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: 40
        alwaysReady: [{ name: 'http', instanceCount: 1 }]
        triggers: { http: { perInstanceConcurrency: 16 } }
      }
    }
  }
  dependsOn: [grants]
}

resource noPasswordDeploy 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = [for kind in ['scm', 'ftp']: {
  parent: app
  name: kind
  properties: { allow: false }
}]

module grants 'roles.bicep' = {
  name: 'roles'
  params: {
    principalId: identity.properties.principalId
    hostAccount: host.name
    dataAccount: data.name
    vaultName: vault.name
    insightsName: insights.name
    hostRoles: [blobOwner, queueContributor, tableContributor]
    dataRoles: [blobContributor, queueContributor, tableContributor]
    vaultRoles: [secretsOfficer] // purging a secret is among its rights
    insightsRoles: [metricsPublisher] // its keys are off (DisableLocalAuth)
  }
}

resource told 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'alerts-${name}'
  location: 'global'
  properties: {
    groupShortName: take(name, 12)
    enabled: true
    emailReceivers: [for address in alertReceivers: {
      name: address
      emailAddress: address
      useCommonAlertSchema: true
    }]
  }
}

// Every event that the code logs at ERROR or CRITICAL (tests/test_infra.py); host.json keeps traces out of the sampling.
resource poisonAlert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'poison-${name}'
  location: location
  properties: {
    displayName: 'Something failed on our side'
    severity: 1
    enabled: true
    scopes: [insights.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT5M'
    criteria: {
      allOf: [{
        query: 'traces | where message has "api.unclear" or message has "health.failed" or message has "job.failed" or message has "job.poisoned" or message has "registration.refused" or message has "request.failed" or message has "settings.wrong" or message has "sign_in.unclear" or message has "tick.failed"'
        timeAggregation: 'Count'
        operator: 'GreaterThan'
        threshold: 0
      }]
    }
    actions: { actionGroups: [told.id] }
  }
}

// Where the timer does not run nothing is read or sent, and our code has no word to log. The host's own record of
// each run is there whatever `logLevel` is.
resource silenceAlert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'silence-${name}'
  location: location
  properties: {
    displayName: 'The timer does not run'
    severity: 1
    enabled: true
    scopes: [insights.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [{
        query: 'requests | where name == "tick"'
        timeAggregation: 'Count'
        operator: 'LessThan'
        threshold: 1
      }]
    }
    actions: { actionGroups: [told.id] }
  }
}

output url string = 'https://${app.properties.defaultHostName}/api'
