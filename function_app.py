"""The Azure Functions app: registers the blueprints, nothing else."""

import azure.functions as func

from handlers import (
    audit,
    cases,
    consent,
    domains,
    integrations,
    jobs,
    mailboxes,
    notifications,
    service,
    timers,
)
from shared import bootstrap

bootstrap.start()
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

for module in (service, integrations, domains, consent, mailboxes, cases, audit, notifications, jobs, timers):
    app.register_functions(module.bp)
