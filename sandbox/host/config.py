"""What the host is told: host.json, local.settings.json and the environment."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Settings = Mapping[str, str]
Encoding = Literal["base64", "none"]

_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2}):(\d{1,2})(\.\d{1,7})?")
_PLACEHOLDER = re.compile(r"%([^%]+)%")


class ConfigError(Exception):
    """The host cannot start; the message says what to change, and never a setting's value."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """`extensions.queues` of host.json; times in seconds, the defaults are the real host's.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue#hostjson-settings
    """

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: float = 0
    max_polling_interval: float = 60
    encoding: Encoding = "base64"


@dataclass(frozen=True, slots=True)
class Identity:
    """A storage connection without a key; `client_id` names a user-assigned identity."""

    url: str
    managed: bool
    client_id: str | None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the host knows before it sees the app."""

    app_dir: Path
    port: int
    settings: Settings
    route_prefix: str = "api"
    custom_headers: Mapping[str, str] = field(default_factory=dict)
    queues: QueueOptions = QueueOptions()
    cors: tuple[str, ...] = ()
    cors_credentials: bool = False
    key: str | None = None


def seconds(time_span: str) -> float:
    """Read a .NET TimeSpan, `[d.]hh:mm:ss[.fff]`; raises ConfigError."""
    match = _TIME_SPAN.fullmatch(time_span)
    if not match:
        raise ConfigError(f"{time_span!r} is not a time span such as 00:00:30.")
    days, hours, minutes, whole, fraction = match.groups()
    return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + int(whole) + float(fraction or 0)


def expand(text: str, settings: Settings) -> str:
    """Replace every `%NAME%` by that app setting; raises ConfigError for one that is not set."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in settings:
            raise ConfigError(
                f"%{match[1]}% is used by a binding, but the app setting {match[1]} is not set."
            )
        return settings[match[1]]

    return _PLACEHOLDER.sub(value, text)


def connection(name: str, settings: Settings) -> str | Identity:
    """Resolve a binding's `connection` to a connection string or an identity; raises ConfigError.

    The name is tried with the prefix `AzureWebJobs` first, as the real host does. Sources:
    https://learn.microsoft.com/azure/azure-functions/functions-reference#configure-an-identity-based-connection
    """
    name = name or "AzureWebJobsStorage"
    for key in (f"AzureWebJobs{name}", name):
        if settings.get(key):
            return settings[key]
        account = settings.get(f"{key}__accountName")
        url = settings.get(f"{key}__queueServiceUri") or (
            account and f"https://{account}.queue.core.windows.net"
        )
        if url:
            managed = settings.get(f"{key}__credential", "").lower() == "managedidentity"
            return Identity(url, managed, settings.get(f"{key}__clientId"))
    raise ConfigError(
        f"The connection {name} needs an app setting: {name} (connection string) or {name}__queueServiceUri."
    )


def read_local_settings(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Read local.settings.json: its Values and its Host section; raises ConfigError."""
    content = _read_json(path)
    if content.get("IsEncrypted"):
        raise ConfigError(f"{path} is encrypted; run `func settings decrypt` first.")
    values = content.get("Values", {})
    for name, value in values.items():
        if not isinstance(value, str):
            raise ConfigError(f"{path}: Values.{name} must be a string (app settings always are).")
    return values, content.get("Host", {})


def load(app_dir: Path, port: int, environment: Settings, settings_file: Path | None = None) -> Config:
    """Put host.json, local.settings.json and the environment together; the environment wins.

    `settings_file` must exist when given; by default the app's local.settings.json is read if there
    is one. Raises ConfigError.
    """
    host = _read_json(app_dir / "host.json")
    if host.get("version") != "2.0":
        raise ConfigError(f'{app_dir / "host.json"} must state "version": "2.0".')
    local = settings_file or app_dir / "local.settings.json"
    values, local_host = read_local_settings(local) if settings_file or local.exists() else ({}, {})
    settings = {**values, **environment}
    extensions = host.get("extensions", {})
    http = extensions.get("http", {})
    return Config(
        app_dir=app_dir,
        port=port,
        settings=settings,
        route_prefix=http.get("routePrefix", "api").strip("/"),
        custom_headers=http.get("customHeaders", {}),
        queues=_queue_options(extensions.get("queues", {})),
        cors=tuple(origin.strip() for origin in local_host.get("CORS", "").split(",") if origin.strip()),
        cors_credentials=bool(local_host.get("CORSCredentials", False)),
        key=settings.get("SANDBOX_FUNCTION_KEY") or None,
    )


def _queue_options(section: Mapping[str, Any]) -> QueueOptions:
    batch_size = int(section.get("batchSize", 16))
    encoding = section.get("messageEncoding", "base64").lower()
    if not 1 <= batch_size <= 32:
        raise ConfigError("host.json: extensions.queues.batchSize must be between 1 and 32.")
    if encoding not in {"base64", "none"}:
        raise ConfigError("host.json: extensions.queues.messageEncoding must be base64 or none.")
    return QueueOptions(
        batch_size=batch_size,
        new_batch_threshold=int(section.get("newBatchThreshold", batch_size // 2)),
        max_dequeue_count=int(section.get("maxDequeueCount", 5)),
        visibility_timeout=seconds(section.get("visibilityTimeout", "00:00:00")),
        max_polling_interval=max(0.1, seconds(section.get("maxPollingInterval", "00:01:00"))),
        encoding=encoding,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must contain a JSON object.")
    return content
