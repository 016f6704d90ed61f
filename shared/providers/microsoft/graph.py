"""One mailbox at Microsoft Graph: its paths, its fields, and what its refusals mean.

Every request asks for immutable ids: others change when a mail is moved.
https://learn.microsoft.com/graph/outlook-immutable-id
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from shared import explaining, mime
from shared.errors import (
    ConsentRequired,
    CursorExpired,
    NotFound,
    RateLimited,
    Rejected,
    Temporary,
    ZalionError,
)
from shared.model import Envelope
from shared.providers import aadsts
from shared.providers.base import Connection
from shared.providers.http import Answer, Api

TITLE = "Microsoft Graph"
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}

IN_REPLY_TO, REFERENCES = "String 0x1042", "String 0x1039"
"""The MAPI properties of these headers: Sent mail has no internetMessageHeaders (docs#18761, 2025-11)."""

THREADING = {"in-reply-to", "references"}

FIELDS = (
    "id,internetMessageId,conversationId,parentFolderId,subject,isDraft,from,sender,toRecipients,ccRecipients,"
    "sentDateTime,receivedDateTime,internetMessageHeaders"
)
"""What an envelope is made of: no body, no preview."""

PAGE = 50
"""Mails a page; larger ones with headers end in 504."""

BATCH = 20
"""https://learn.microsoft.com/graph/json-batching"""


class Session:
    """A mailbox, spoken for by one credential; opened on first use."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.api = Api.of(connection, "graph", TITLE, refusal, IMMUTABLE)
        settings = connection.settings
        own = not settings.get("shared") and settings.get("access") != "application"
        self.path = "/me" if own else f"/users/{segment(connection.address)}"

    def close(self) -> None:
        """End the session; never raises."""
        self.api.close()

    def get(self, path: str, **params: str) -> Any:
        """Return the JSON of a path of this mailbox; OData's own parameters (in lower case) get their $."""
        named = {f"${key}" if key.islower() else key: value for key, value in params.items()}
        return self.asked("GET", self.path + path, params=named)

    def asked(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON of an answer; `options` are those of `Api.call`.

        Raises what that does, and Temporary for a success that is no JSON: a page of something on the way.
        """
        return _told(self.api.call(method, path, **options).json)

    def all(self, path: str, **params: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the pages of a list of this mailbox."""
        return self.listed(self.path + path, **params)

    def listed(self, path: str, **params: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the pages of any list."""
        page = self.asked("GET", path, params={f"${k}": v for k, v in params.items()})
        while True:
            yield page["value"]
            if "@odata.nextLink" not in page:
                return
            page = self.asked("GET", page["@odata.nextLink"])

    def batch(self, paths: Sequence[str]) -> list[Any]:
        """Return the JSON of several paths of this mailbox, None where one is not found.

        One after the other: Graph would serve four of them at once, which is all that a mailbox has. What
        follows one that fails is not served, and asked for again.
        """
        found: dict[int, Any] = {}
        while left := [n for n in range(len(paths)) if n not in found][:BATCH]:
            requests = [
                {
                    "id": str(n),
                    "method": "GET",
                    "url": self.path + paths[n],
                    "headers": IMMUTABLE,
                    **({"dependsOn": [str(before)]} if before is not None else {}),
                }
                for before, n in zip([None, *left], left, strict=False)
            ]
            answer = self.asked("POST", "/$batch", json={"requests": requests})
            served = [one for one in answer["responses"] if one["status"] != HTTPStatus.FAILED_DEPENDENCY]
            if not served:
                raise Temporary("Microsoft Graph served nothing of a batch.", retry_after=60)
            found |= {int(one["id"]): _inner(one) for one in served}
        return [found[n] for n in range(len(paths))]

    def envelopes(self, items: Sequence[Mapping[str, Any]], folders: Mapping[str, str]) -> list[Envelope]:
        """Make envelopes of messages; for mail sent from here its threading is asked for.

        Args:
            items: messages with `FIELDS`.
            folders: folder id -> role, where it has one.
        """
        own = self.connection.address
        sent = {item["id"] for item in items if _left_here(item, folders.get(item["parentFolderId"]), own)}
        bare = [item["id"] for item in items if item["id"] in sent and not _names(item) & THREADING]
        wanted = f"id eq '{IN_REPLY_TO}' or id eq '{REFERENCES}'"
        expand = quote(f"singleValueExtendedProperties($filter={wanted})", safe="$()")
        answers = self.batch([f"/messages/{segment(id_)}?$select=id&$expand={expand}" for id_ in bare])
        threading = dict(zip(bare, answers, strict=True))
        return [_envelope(item, threading.get(item["id"]), is_sent=item["id"] in sent) for item in items]


class Duplicate(Rejected):
    """There is such a subscription already."""


class Unreached(Rejected):
    """Graph did not reach our address, or did not like what it answered."""


def segment(id_: str) -> str:
    """Quote an id as one part of a path: ids may hold a slash."""
    return quote(id_, safe="")


def literal(text: str) -> str:
    """Quote a string for $filter (OData 4.01 section 5.1.1.6.1)."""
    return "'" + text.replace("'", "''") + "'"


def moment(at: datetime) -> str:
    """Write a time for $filter."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(text: str | None) -> datetime | None:
    """Read a time of Graph's."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def refusal(answer: Answer) -> ZalionError:
    """Say what a refusal of Graph means: by its code, else by its status.

    Codes are compared without regard to case, which varies. A 503 or 403 that names a time is a refusal
    to be repeated like 429 (403: inbox-zero#3580); without one nobody knows what became of a request.
    """
    error = (answer.json or {}).get("error") if isinstance(answer.json, Mapping) else None
    code = str(error.get("code", "")) if isinstance(error, Mapping) else ""
    if explained := _BY_CODE.get(code.lower()):
        return explained()
    words = code or str(answer.status)
    waits = answer.status == HTTPStatus.TOO_MANY_REQUESTS or "retry-after" in answer.headers
    if waits and answer.status in _MAY_WAIT:
        return RateLimited(f"Microsoft asks us to wait ({words}).", retry_after=answer.pause())
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.REQUEST_TIMEOUT:
        return Temporary(f"Microsoft Graph is not available ({words}).", retry_after=answer.pause())
    explain = _BY_STATUS.get(answer.status)
    return explain(words) if explain else Rejected(f"Microsoft refused the request ({words}).")


def _expired(words: str = "") -> ZalionError:
    return CursorExpired(f"Microsoft no longer knows where we stopped {words}".strip())


def _too_large(_: str = "") -> ZalionError:
    return Rejected("The mail is larger than Microsoft takes.", fix="Send fewer or smaller files.")


def _no_access(words: str) -> ZalionError:
    fix = explaining.explain("no_access").fix
    error = ConsentRequired(f"Microsoft refuses access to this mailbox ({words}).", fix=fix)
    error.reason = "no_access"
    return error


def _not_as(_: str = "") -> ZalionError:
    fix = "Ask IT for the right to send as this mailbox, or send from your own."
    return Rejected("Microsoft does not let you send as this mailbox.", fix=fix)


def _bad_recipients(_: str = "") -> ZalionError:
    return Rejected("Microsoft takes one of the addresses for invalid.", fix="Correct the recipients.")


def _unreached(_: str = "") -> ZalionError:
    fix = "Ask Zalion whether Microsoft can reach its address; new mail is found by polling meanwhile."
    return Unreached("Microsoft could not reach us to tell of new mail.", fix=fix)


def _no_mailbox() -> ZalionError:
    return aadsts.error_of("no_mailbox", correlation_id=None)


_BY_CODE: Mapping[str, Callable[[], ZalionError]] = {
    "syncstatenotfound": _expired,
    "syncstateinvalid": _expired,
    "resyncrequired": _expired,
    "mailboxnotenabledforrestapi": _no_mailbox,
    "mailboxnotsupportedforrestapi": _no_mailbox,
    "errorinvaliduser": _no_mailbox,
    "errormessagesizeexceeded": _too_large,
    "errorsendasdenied": _not_as,
    "errorinvalidrecipients": _bad_recipients,
    "validationerror": _unreached,
}
_BY_STATUS: Mapping[int, Callable[[str], ZalionError]] = {
    HTTPStatus.UNAUTHORIZED: lambda _: aadsts.error_of("sign_in_again", correlation_id=None),
    HTTPStatus.FORBIDDEN: _no_access,
    HTTPStatus.NOT_FOUND: lambda _: NotFound("There is no such mail or folder in the mailbox."),
    HTTPStatus.CONFLICT: lambda words: Duplicate(f"Microsoft finds a conflict ({words})."),
    HTTPStatus.GONE: _expired,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _too_large,
}
_MAY_WAIT = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.FORBIDDEN}


def _told(found: Any) -> Any:
    if not isinstance(found, Mapping):
        raise Temporary("Microsoft Graph gave an answer that is none.", retry_after=60)
    return found


def _inner(inner: Mapping[str, Any]) -> Any:
    if inner["status"] < HTTPStatus.BAD_REQUEST:
        return _told(inner.get("body"))
    headers = {str(k).lower(): str(v) for k, v in (inner.get("headers") or {}).items()}
    error = refusal(Answer(inner["status"], headers, msgspec.json.encode(inner.get("body"))))
    if isinstance(error, NotFound):
        return None
    raise error


def _names(item: Mapping[str, Any]) -> set[str]:
    return {str(header["name"]).lower() for header in item.get("internetMessageHeaders") or ()}


def _left_here(item: Mapping[str, Any], role: str | None, own: str) -> bool:
    """Whether a mail was sent from this mailbox, also if it lies elsewhere by now.

    No transport has written into it. A forged sender's mail has come through one.
    """
    sender = ((item.get("from") or {}).get("emailAddress") or {}).get("address") or ""
    return role == "sent" or (sender.lower() == own.lower() and "received" not in _names(item))


def _envelope(item: Mapping[str, Any], threading: Mapping[str, Any] | None, *, is_sent: bool) -> Envelope:
    """Write the headers as they would stand in the mail, so that one reader serves all providers."""
    lines = [(str(h["name"]), str(h["value"])) for h in item.get("internetMessageHeaders") or ()]
    there = {name.lower() for name, _ in lines}
    lines += [(name, value) for name, value in _known(item, threading) if value and name.lower() not in there]
    block = "".join(f"{name}: {' '.join(value.split())}\r\n" for name, value in lines)
    return mime.envelope(
        block.encode() + b"\r\n",
        ref=item["id"],
        folder=item["parentFolderId"],
        is_sent=is_sent,
        received_at=when(item.get("receivedDateTime")),
        thread=item.get("conversationId"),
    )


def _known(item: Mapping[str, Any], threading: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What Graph tells of a mail's headers outside of them."""
    values = {
        entry["id"].lower(): entry["value"]
        for entry in (threading or {}).get("singleValueExtendedProperties") or ()
    }
    sent_at = when(item.get("sentDateTime"))
    yield "Message-ID", item.get("internetMessageId") or ""
    yield "In-Reply-To", values.get(IN_REPLY_TO.lower(), "")
    yield "References", values.get(REFERENCES.lower(), "")
    yield "Subject", item.get("subject") or ""
    yield "Date", sent_at.strftime("%a, %d %b %Y %H:%M:%S +0000") if sent_at else ""
    yield "From", _people([item.get("from") or {}])
    yield "Sender", _people([item.get("sender") or {}])
    yield "To", _people(item.get("toRecipients") or ())
    yield "Cc", _people(item.get("ccRecipients") or ())


def _people(entries: Sequence[Mapping[str, Any]]) -> str:
    people = [entry.get("emailAddress") or {} for entry in entries]
    return ", ".join(f"<{person['address']}>" for person in people if person.get("address"))
