"""Every setting the app reads, as data; the only reader of the environment.

`SETTINGS` is the whole truth: what a setting is for, whether it is required and what it defaults to.
The README's table and the completeness tests come from `table()`.
"""

import base64
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from shared.errors import ZalionError

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class SettingsError(ZalionError):
    """Settings are missing or malformed. In words it names each and what it is for, never its value.

    Callers, whom nobody has checked by then, are told only where that is written.
    """

    code = "misconfigured"
    title = "The service is not configured"

    def __init__(self, wrong: Sequence[str]) -> None:
        super().__init__(
            "This deployment is not configured.", fix="Its log names every wrong setting: `settings.wrong`."
        )
        self._wrong = wrong

    def __str__(self) -> str:
        return "\n".join(["Settings to correct:", *self._wrong])


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        parse: from the text to the value; raises ValueError that says the rule, not the value.
        default: the text that stands in for a setting that is not there.
        required: whether the app cannot start without it.
    """

    name: str
    purpose: str
    parse: Callable[[str], Any]
    default: str | None = None
    required: bool = True

    def read(self, environ: Mapping[str, str]) -> Any:
        """Return the value, or None for an absent optional one. Raises ValueError."""
        text = environ.get(self.name, "").strip() or self.default
        if text is not None:
            return self.parse(text)
        if self.required:
            raise ValueError("is missing")
        return None


@dataclass(frozen=True, slots=True)
class StorageAccess:
    """How to reach the data storage account: by connection string, or by URLs and a managed identity."""

    connection_string: str | None = field(default=None, repr=False)
    table_url: str = ""
    blob_url: str = ""
    queue_url: str = ""
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The app's settings, checked. Each field is the setting of the same name in upper case.

    Attributes:
        allowed_private_hosts: lower case.
        max_mail_bytes: octets.
    """

    storage: StorageAccess
    key_vault_url: str
    key_vault_verify_challenge: bool
    azure_client_id: str | None
    auth_issuer: str
    auth_audience: str
    auth_jwks_url: str
    public_url: str
    return_urls: tuple[str, ...]
    allowed_private_hosts: frozenset[str]
    max_mail_bytes: int
    log_level: LogLevel
    microsoft_client_id: str | None
    microsoft_secret_name: str
    entra_url: str
    graph_url: str
    google_client_id: str | None
    google_secret_name: str
    google_key_name: str
    google_topic: str | None
    google_subscription: str | None
    google_audience: str | None
    google_pusher: str | None
    google_accounts_url: str
    google_oauth_url: str
    google_certs_url: str
    gmail_url: str
    dns_server: str | None
    autoconfig_urls: tuple[str, ...]
    mx_port: int

    @property
    def endpoints(self) -> Mapping[str, str]:
        """Where the cloud providers are, and whom they push as, by the names that their modules give."""
        return {
            "entra": self.entra_url,
            "graph": self.graph_url,
            "gmail": self.gmail_url,
            "google_accounts": self.google_accounts_url,
            "google_oauth": self.google_oauth_url,
            "google_certs": self.google_certs_url,
            "google_topic": self.google_topic or "",
            "google_subscription": self.google_subscription or "",
            "google_audience": self.google_audience or f"{self.public_url}/api/notifications/google",
            "google_pusher": self.google_pusher or "",
        }


def _text(text: str) -> str:
    return text


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("must be a URL") from None  # its own text would quote the value


def _https(text: str) -> str:
    url = _split(text)
    if url.scheme != "https" or not url.hostname or url.username or url.fragment:
        raise ValueError("must be an https URL")
    return text.rstrip("/")


def _web(text: str) -> str:
    url = _split(text)
    if url.scheme == "http" and url.hostname in ("localhost", "127.0.0.1", "::1"):
        return text.rstrip("/")  # RFC 8252 §7.3: loopback is the one place where plain http is no risk
    return _https(text)


def _connection_string(text: str) -> str:
    """Check what every SDK wants of one: the table SDK is the strictest about `UseDevelopmentStorage`."""
    if text.lower() == "usedevelopmentstorage=true":
        return text
    parts = (part.partition("=") for part in text.rstrip(";").split(";"))
    given = {name.lower(): value for name, _, value in parts}
    place = given.get("accountname") or all(given.get(f"{store}endpoint") for store in _STORES)
    by_key = given.get("accountname") and _is_key(given.get("accountkey", ""))
    if not all(given.values()) or not (by_key or (place and given.get("sharedaccesssignature"))):
        raise ValueError("must be a connection string with AccountName and AccountKey")
    return text


def _is_key(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _items(text: str) -> tuple[str, ...]:
    return tuple(item for item in (part.strip() for part in text.split(",")) if item)


def _urls(text: str) -> tuple[str, ...]:
    urls = _items(text)
    for url in urls:
        _web(url)
    return urls


def _patterns(text: str) -> tuple[str, ...]:
    urls = _items(text)
    for url in urls:
        _https(url)
        if "{domain}" not in url:
            raise ValueError("must be https URLs with {domain} in them")
    return urls


def _hosts(text: str) -> frozenset[str]:
    return frozenset(item.lower() for item in _items(text))


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError("must be a whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**16):
        raise ValueError("must be a port between 1 and 65535")
    return int(text)


def _dns_server(text: str) -> str:
    address, colon, port = text.partition(":")
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise ValueError("must be an IPv4 address, or address:port") from None
    if colon:
        _port(port)
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return text

    return parse


def _shaped(pattern: str, form: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {form}")
        return text

    return parse


_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
_NAME = r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
"""https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names"""

_PUBSUB = ("GOOGLE_TOPIC", "GOOGLE_SUBSCRIPTION", "GOOGLE_PUSHER")
"""With one of them missing Gmail would be asked for a push that nobody takes, or none."""

_STORES = ("table", "blob", "queue")
_STORAGE_URLS = ("STORAGE__tableServiceUri", "STORAGE__blobServiceUri", "STORAGE__queueServiceUri")
_HOST_FORMS = (
    "AzureWebJobsStorage",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__blobServiceUri",
)

SETTINGS = (
    Setting("STORAGE", "connection string of the data account (local)", _connection_string, required=False),
    Setting(
        _STORAGE_URLS[0], "the data account's tables, instead of STORAGE (Azure)", _https, required=False
    ),
    Setting(_STORAGE_URLS[1], "the data account's blobs, instead of STORAGE (Azure)", _https, required=False),
    Setting(
        _STORAGE_URLS[2], "the data account's queues, instead of STORAGE (Azure)", _https, required=False
    ),
    Setting("STORAGE__clientId", "client id of the identity that may use it", _text, required=False),
    Setting(
        "STORAGE__credential",
        "makes the Functions host use that identity for the queue triggers",
        _one_of("managedidentity"),
        required=False,
    ),
    Setting(
        _HOST_FORMS[0], "connection string of the Functions host's account (local)", _text, required=False
    ),
    Setting(_HOST_FORMS[1], "the host's account, instead of AzureWebJobsStorage", _text, required=False),
    Setting(_HOST_FORMS[2], "the host's blobs, instead of AzureWebJobsStorage", _https, required=False),
    Setting("AzureWebJobsStorage__queueServiceUri", "its queues, beside its blobs", _https, required=False),
    Setting("AzureWebJobsStorage__tableServiceUri", "its tables, beside its blobs", _https, required=False),
    Setting(
        "AzureWebJobsStorage__clientId", "client id of the identity that may use it", _text, required=False
    ),
    Setting(
        "AzureWebJobsStorage__credential",
        "makes the Functions host use that identity for its own account",
        _one_of("managedidentity"),
        required=False,
    ),
    Setting("KEY_VAULT_URL", "the vault that keeps every secret", _https),
    Setting(
        "KEY_VAULT_VERIFY_CHALLENGE",
        "whether the vault's host must match the resource it asks a token for; false in the sandbox only",
        _flag,
        "true",
    ),
    Setting("AZURE_CLIENT_ID", "client id of the app's user-assigned identity", _text, required=False),
    Setting("AUTH_ISSUER", "who issues the callers' tokens: their `iss`", _text),
    Setting("AUTH_AUDIENCE", "what the callers' tokens are for: their `aud`", _text),
    Setting("AUTH_JWKS_URL", "where the issuer publishes its keys (RFC 7517)", _https),
    Setting("PUBLIC_URL", "where browsers and providers reach this app; base of the redirect URIs", _web),
    Setting("RETURN_URLS", "comma-separated exact URLs of the frontend to return to after a consent", _urls),
    Setting(
        "ALLOWED_PRIVATE_HOSTS",
        "comma-separated mail hosts that may resolve to private addresses",
        _hosts,
        "",
    ),
    Setting(
        "MAX_MAIL_BYTES",
        "largest mail accepted for sending, in octets: files take 78 for 57",
        _bytes,
        "35000000",
    ),
    Setting(
        "MICROSOFT_CLIENT_ID",
        "client id of Zalion's multi-tenant app; without it customers bring their own registration",
        _text,
        required=False,
    ),
    Setting(
        "MICROSOFT_SECRET_NAME",
        "name of that app's client secret in the vault",
        _text,
        "microsoft-client-secret",
    ),
    Setting("ENTRA_URL", "Microsoft's sign-in service", _https, "https://login.microsoftonline.com"),
    Setting("GRAPH_URL", "Microsoft Graph", _https, "https://graph.microsoft.com/v1.0"),
    Setting(
        "GOOGLE_CLIENT_ID",
        "client id of Zalion's OAuth client in its Google Cloud project; without it there is no Gmail",
        _text,
        required=False,
    ),
    Setting("GOOGLE_SECRET_NAME", "name of its client secret in the vault", _text, "google-client-secret"),
    Setting(
        "GOOGLE_KEY_NAME",
        "name of the key file (JSON) in the vault of the service account for domain-wide delegation",
        _text,
        "google-service-account",
    ),
    Setting(
        "GOOGLE_TOPIC",
        "Pub/Sub topic of that project (projects/P/topics/T) for Gmail; without it there is no push",
        _shaped(f"projects/{_PROJECT}/topics/{_NAME}", "projects/<id>/topics/<name>"),
        required=False,
    ),
    Setting(
        "GOOGLE_SUBSCRIPTION",
        "its push subscription (projects/P/subscriptions/S), to PUBLIC_URL/api/notifications/google",
        _shaped(f"projects/{_PROJECT}/subscriptions/{_NAME}", "projects/<id>/subscriptions/<name>"),
        required=False,
    ),
    Setting(
        "GOOGLE_AUDIENCE", "audience of the subscription's tokens, if not that URL", _text, required=False
    ),
    Setting(
        "GOOGLE_PUSHER",
        "service account (e-mail) that signs them",
        _shaped(r"[a-z0-9.-]+@[a-z0-9.-]+\.gserviceaccount\.com", "a service account's e-mail address"),
        required=False,
    ),
    Setting("GOOGLE_ACCOUNTS_URL", "Google's sign-in page", _https, "https://accounts.google.com"),
    Setting("GOOGLE_OAUTH_URL", "Google's token service", _https, "https://oauth2.googleapis.com"),
    Setting("GOOGLE_CERTS_URL", "Google's public keys", _https, "https://www.googleapis.com/oauth2/v3/certs"),
    Setting("GMAIL_URL", "Gmail's API", _https, "https://gmail.googleapis.com"),
    Setting(
        "DNS_SERVER",
        "address[:port] of the DNS server asked about customers' domains; without it the system's",
        _dns_server,
        required=False,
    ),
    Setting(
        "AUTOCONFIG_URLS",
        "comma-separated URLs where a `{domain}` publishes its mail settings; others in the sandbox only",
        _patterns,
        "https://autoconfig.{domain}/mail/config-v1.1.xml,"
        "https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml",
    ),
    Setting(
        "MX_PORT", "where mail servers take mail from each other; another in the sandbox only", _port, "25"
    ),
    Setting("LOG_LEVEL", "lowest level that is logged", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"),
)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings, from the process environment unless given another.

    Raises SettingsError naming every setting that is wrong.
    """
    source = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for setting in SETTINGS:
        try:
            values[setting.name] = setting.read(source)
        except ValueError as error:
            wrong.append(f"{setting.name} {error}: {setting.purpose}")
    wrong += _forms(source)
    if wrong:
        raise SettingsError(wrong)
    plain = {name.lower(): value for name, value in values.items() if name.lower() in Settings.__slots__}
    return Settings(**{**plain, "storage": _storage(values)})


def table() -> list[tuple[str, str, str]]:
    """Return (name, `required`, `optional` or the default, purpose) of every setting, for the README."""
    return [(setting.name, _presence(setting), setting.purpose) for setting in SETTINGS]


def _presence(setting: Setting) -> str:
    if setting.default is not None:
        return setting.default or "empty"
    return "required" if setting.required else "optional"


def _forms(environ: Mapping[str, str]) -> list[str]:
    wrong = []
    if not environ.get("STORAGE") and not all(environ.get(name) for name in _STORAGE_URLS):
        wrong.append(f"STORAGE is missing: either it or all of {', '.join(_STORAGE_URLS)}: the data account")
    if not any(environ.get(name) for name in _HOST_FORMS):
        wrong.append(f"AzureWebJobsStorage is missing: one of {', '.join(_HOST_FORMS)}: the host's account")
    missing = [
        setting
        for setting in SETTINGS
        if setting.name in _PUBSUB and not environ.get(setting.name, "").strip()
    ]
    if len(missing) < len(_PUBSUB):
        together = f"{', '.join(_PUBSUB)} are given together or not at all"
        wrong += [f"{setting.name} is missing: {setting.purpose} ({together})" for setting in missing]
    return wrong


def _storage(values: Mapping[str, Any]) -> StorageAccess:
    if values["STORAGE"]:
        return StorageAccess(connection_string=values["STORAGE"])
    table_url, blob_url, queue_url = (values[name] for name in _STORAGE_URLS)
    client_id = values["STORAGE__clientId"] or values["AZURE_CLIENT_ID"]
    return StorageAccess(None, table_url, blob_url, queue_url, client_id)
