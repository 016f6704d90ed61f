"""What the document says beyond the shapes of `shared.contract`: providers' forms, secrets, codes. Pure."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from shared.contract import Body
from shared.errors import ZalionError
from shared.explanations import OUTCOMES, TEXTS
from shared.providers import registry
from shared.providers.base import Field

REFERENCE = "#/components/schemas/{name}"

PROBLEMS = (
    "copy_missing",
    "delegation",
    "delegation_left",
    "disconnected",
    "draft_gone",
    "gave_up",
    "mail_refused",
    "partly_refused",
    "push_silent",
    "secret_ending",
)
"""Codes that only the problem of a mailbox, an e-mail or an integration has."""

_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "date": {"type": "string", "format": "date"},
}
_PROVIDERS = {"provider", "receivesWith", "sendsWith"}
_WRITTEN = {
    "if": {"properties": {"text": {"type": "null"}}},
    "then": {"required": ["html"], "properties": {"html": {"type": "string"}}},
}
"""Not `anyOf`: generators make types of its halves, and some send nothing else."""

_EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "SendEmail": [
        {
            "mailboxId": "8d4f7a1c2b3e4f50",
            "to": [{"address": "supplier@supplier.example", "name": "Supplier"}],
            "subject": "Offer 4711",
            "text": "Please send your offer.",
            "attachments": [
                {"name": "list.txt", "contentType": "text/plain", "contentBase64": "MTB4IHNjcmV3cw=="}
            ],
        }
    ],
    "ConnectMailbox": [
        {
            "address": "carol@company.example",
            "receivesWith": "microsoft",
            "sendsWith": "microsoft",
            "returnUrl": "https://app.zalion.example/mailboxes",
        },
        {
            "address": "carol@company.example",
            "receivesWith": "imap",
            "sendsWith": "smtp",
            "settings": {"imap": {"host": "imap.company.example"}, "smtp": {"host": "smtp.company.example"}},
            "secret": {"password": "the password of the mailbox"},
        },
    ],
}


def complete(components: dict[str, Any]) -> None:
    """Add to the shapes' schemas what the shapes leave open."""
    components |= _of_providers()
    for shape in ("ConnectMailbox", "PatchMailbox"):
        for name in ("settings", "secret"):
            components[shape]["properties"][name] = _reference(f"Mailbox{name.title()}")
    components["SendEmail"] |= _WRITTEN
    components |= {shape: {**components[shape], "examples": given} for shape, given in _EXAMPLES.items()}
    _name_providers(components)
    _tell_defaults(components)
    _tell_codes(components)


def _name_providers(components: dict[str, Any]) -> None:
    """List the providers wherever one is named."""
    for schema in components.values():
        for name in _PROVIDERS & schema.get("properties", {}).keys():
            entry = schema["properties"][name]
            [text] = [one for one in entry.get("anyOf", [entry]) if one["type"] == "string"]
            text["enum"] = [*registry.names()]


def _tell_defaults(components: dict[str, Any]) -> None:
    """Say in words what a body's left-out field means: what has a `default`, generators demand or send."""
    for shape in Body.__subclasses__():
        for entry in components.get(shape.__name__, {}).get("properties", {}).values():
            if default := entry.pop("default", None):
                entry["description"] = _told(entry.get("description"), f"Default: `{json.dumps(default)}`.")


def _tell_codes(components: dict[str, Any]) -> None:
    """List the codes of refusals, and those of what is kept as a problem, which name a reason, too."""
    told: dict[str, str] = {}
    for error in errors():
        told.setdefault(error.code, f"`{error.code}` ({error.status}): {error.title}.")
    components["ProblemResource"]["properties"]["code"] |= {
        "enum": sorted(told),
        "description": " ".join(told[code] for code in sorted(told)),
    }
    components["ProblemDetail"]["properties"]["code"] |= {
        "description": "One of the examples; of a mail that came back also its status (5.1.1, RFC 3463).",
        "examples": sorted({*told, *PROBLEMS, *(TEXTS.keys() - OUTCOMES)}),
    }


def errors(base: type[ZalionError] = ZalionError) -> Iterator[type[ZalionError]]:
    """Return the class of every error there is."""
    yield base
    for kind in base.__subclasses__():
        yield from errors(kind)


def _of_providers() -> dict[str, Any]:
    """Return the schemas of what a mailbox is asked for, by the providers' own forms."""
    providers = [registry.provider(name) for name in registry.names()]
    forms = {f"{one.name.title()}Settings": _form(one.title, one.form) for one in providers}
    settings = {one.name: _reference(f"{one.name.title()}Settings") for one in providers}
    secrets = {one.name: _reference("Secret") for one in providers if one.oauth is None}
    by_provider = _closed("By provider.", secrets)
    return forms | {
        "MailboxSettings": _closed("What each of the mailbox's providers is asked for.", settings),
        "MailboxSecret": {
            "description": "One secret for both sides, or one for each provider: "
            '`{"imap": {...}, "smtp": {...}}`. None for a provider that users sign in at.',
            "anyOf": [_reference("Secret"), by_provider],
        },
    }


def _form(title: str, form: Iterable[Field]) -> dict[str, Any]:
    own = {field.name: _entry(field) for field in form if field.level == "mailbox"}
    return _closed(f"What a mailbox is asked for: {title}. IT may give other defaults.", own)


def _entry(field: Field) -> dict[str, Any]:
    """Return one field; what is required is so in words, for IT may have given it for all mailboxes.

    So is its default: that is for a new mailbox where IT gave no other, and null takes back what was given.
    """
    words = [
        field.purpose,
        *(["Required, unless IT has given it for all mailboxes"] if field.required else []),
        *([f"IT has to allow it: `{field.allowed_by}`"] if field.allowed_by else []),
        *(["Only an administrator may choose another value"] if field.admin_only else []),
        *([f"Default: `{json.dumps(field.default)}`"] if field.default is not None else []),
    ]
    range_ = {"minimum": field.least, "maximum": field.most} if field.type == "integer" else {}
    entry = {**_TYPES[field.type], **range_, **({"enum": [*field.choices]} if field.choices else {})}
    told = {"description": f"{'. '.join(words)}."}
    return entry | told if field.required else {"anyOf": [entry, {"type": "null"}], **told}


def _told(*parts: str | None) -> str:
    return " ".join(filter(None, parts))


def _closed(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(name=name)}
