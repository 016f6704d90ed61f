"""One mailbox at Gmail: Google's own client over our own HTTPS, its envelopes, and what refusals mean.

googleapiclient is imported on first use (docs/decisions/002). It only builds requests and reads answers:
what it calls `http` is given with each call, so one client serves every thread and every mailbox.
https://developers.google.com/workspace/gmail/api/reference/rest
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from itertools import batched
from typing import TYPE_CHECKING, Any

from shared import logs, mime
from shared.errors import ConsentRequired, NotFound, RateLimited, Rejected, Temporary, ZalionError
from shared.model import Envelope
from shared.providers import googling
from shared.providers.base import Connection
from shared.providers.google import reports
from shared.providers.google.spending import Spending
from shared.providers.http import Answer, Api
from shared.providers.transport import NotSent

if TYPE_CHECKING:
    import httplib2

TITLE = "Gmail"
ME = "me"

HEADERS = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Reply-To",
    "Return-Path",
    "Content-Type",
    "Authentication-Results",
    "Received",
    "Sender",
    "ARC-Authentication-Results",
    "Auto-Submitted",
    "Precedence",
    "X-Auto-Response-Suppress",
    "X-Autoreply",
    "X-Autorespond",
    "X-Autoresponder",
    "X-Failed-Recipients",
    "List-Id",
    "List-Unsubscribe",
    "Feedback-ID",
    "X-Loop",
]
"""What a decision is made of; nothing else of a mail is asked for before it is case mail."""

FIELDS = "id,threadId,labelIds,historyId,internalDate,sizeEstimate,payload/headers"
"""Without `snippet`, which is the beginning of the text."""

UNREAD_LABELS = frozenset({"SPAM", "TRASH", "DRAFT", "CHAT"})
"""Unwanted, deleted or unfinished mail, and what is none."""

BATCH = 5
"""Calls in one request: Gmail carries them out at once, and refuses a user who asks for too much at once."""

MOST_WORDS = 300
"""Characters of Gmail's own words that are told."""

PAUSE = 60.0
_REF = re.compile(r"[0-9A-Za-z_-]{1,64}")
_UNTIL = re.compile(r"Retry after (\S+)")
_REASON = re.compile(r"[A-Za-z_]{1,40}")
_HEADER_WORDS = re.compile(r"Invalid (To|Cc|Bcc|From) header|Recipient address required")
_ACCOUNT = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_ABOUT_US = {*_ACCOUNT, HTTPStatus.NOT_FOUND}
"""What ends a mailbox, or takes a mail for gone: believed where Google itself says it."""

_SLOW = {"rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded"}


class Session:
    """A mailbox, spoken for by one credential; opened on first use.

    Nothing else is asked of a delegated one before it is sure whose it is: Google signs a service account in
    for an alias, too (nobody says that it does not), and an address that was listed may have become one of a
    colleague's. A person's consent stays with the account.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.delegated = connection.settings.get("access") == "application"
        self._https = Api.of(connection, "gmail", TITLE, refusal)
        self._transport = Transport(self._https)
        self._sure = not self.delegated
        self.spending = Spending()

    @property
    def http(self) -> "Transport":
        """What carries requests to this mailbox and no other. Raises what `profile` does."""
        if not self._sure:
            self.profile()
        return self._transport

    def api(self, resource: str = "") -> Any:
        """Return Google's client for a resource of `users`, e.g. `messages`; `run` takes its requests."""
        return _resource(self.connection.endpoints["gmail"], resource)

    def run(self, request: Any, http: Any = None) -> Any:
        """Carry out one request; returns its JSON. Raises what `refusal` says, Temporary or NotSent."""
        from googleapiclient.errors import Error

        self.spending.add(request.methodId or "")
        try:
            return request.execute(http=http or self.http)
        except (Error, ValueError) as error:  # a redirect, or no JSON
            raise Temporary("Gmail gave an answer that is none.", retry_after=PAUSE) from error

    @contextmanager
    def one_mail(self, kind: type[ZalionError] = Rejected) -> Iterator[None]:
        """Around what is asked about a single mail: raises `kind` where Gmail refuses that, and nothing else.

        Its words do not tell; the profile does, which raises where it is about the mailbox.
        """
        try:
            yield
        except ConsentRequired as error:
            if error.reason not in googling.PERHAPS_ONE:
                raise
            self.profile()
            raise kind(f"Gmail refused this mail ({error.facts['said']}).") from error

    def available(self, ids: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, ZalionError]]:
        """Return headers and labels of these messages, in their order, without those that are gone.

        Also tells what Gmail says of those that it does not give although it gives others. Raises what is
        no single mail's fault: nothing that is told of a mail is about the mailbox.
        """
        found: dict[str, dict[str, Any]] = {}
        refused: dict[str, ZalionError] = {}
        for chunk in batched(dict.fromkeys(ids), BATCH, strict=False):
            came, missing = self._batch(chunk)
            found |= came
            for id_ in missing:
                item, error = self.alone(self._metadata(id_))
                found |= {id_: item} if item else {}
                refused |= {id_: error} if error else {}
        return [found[id_] for id_ in ids if id_ in found], refused

    def alone(self, request: Any) -> tuple[Any, ZalionError | None]:
        """Ask about a single mail or thread; returns it, or what Gmail says where it refuses that alone.

        Returns neither where it is gone. Raises what is about the mailbox, or all of Gmail.
        """
        try:
            with self.one_mail(Temporary):
                return self.run(request), None
        except NotFound:
            return None, None
        except RateLimited:
            raise
        except (Temporary, Rejected) as error:
            self.profile()  # raises where it is about the mailbox, or all of Gmail
            logs.log("mail.refused", level=logging.WARNING, provider="google", code=error.code)
            return None, error

    def profile(self) -> dict[str, Any]:
        """Return whose mailbox it is. Raises ConsentRequired where it is another one than it should be.

        Who signed in was compared then, so the address of a person's account was changed since; an alias
        is no mailbox of its own.
        """
        found: dict[str, Any] = self.run(self.api().getProfile(userId=ME), self._transport)
        if found["emailAddress"].lower() != self.connection.address.lower():
            key = "google_alias" if self.delegated else "google_renamed"
            raise googling.error_of(key, address=self.connection.address)
        self._sure = True
        return found

    def close(self) -> None:
        """End the session; never raises."""
        self._https.close()

    def _batch(self, ids: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return what came, and the ids that are to be asked for alone: a part's refusal is only its own."""
        from googleapiclient.errors import Error

        found: dict[str, dict[str, Any]] = {}
        gone: set[str] = set()

        def take(id_: str, answer: Any, error: Any) -> None:
            if error is None:
                found[id_] = answer
            elif isinstance(refusal(Answer(int(error.resp.status), {}, error.content)), NotFound):
                gone.add(id_)  # deleted meanwhile is no trouble

        batch = _client(self.connection.endpoints["gmail"]).new_batch_http_request(callback=take)
        for id_ in ids:
            asked = self._metadata(id_)
            self.spending.add(asked.methodId)  # each counts as if it came alone
            batch.add(asked, request_id=id_)
        with suppress(Error, ValueError, KeyError):  # a part that is no JSON, or missing
            batch.execute(http=self.http)
        return found, [id_ for id_ in ids if id_ not in found and id_ not in gone]

    def _metadata(self, id_: str) -> Any:
        return self.api("messages").get(
            userId=ME, id=id_, format="metadata", metadataHeaders=HEADERS, fields=FIELDS
        )


@dataclass(frozen=True)
class Transport:
    """What googleapiclient takes for an httplib2.Http: judged addresses, one origin, our errors."""

    api: Api

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> "tuple[httplib2.Response, bytes]":
        """Make one call; `body` is text, octets or a stream."""
        content = body.read() if hasattr(body, "read") else body
        content = content.encode() if isinstance(content, str) else content
        answer = self.api.call(method, uri, body=content, headers=headers)
        made: httplib2.Response = _response({**answer.headers, "status": str(answer.status)})
        return made, answer.body


def _response(headers: Mapping[str, str]) -> Any:
    import httplib2

    return httplib2.Response(headers)  # type: ignore[no-untyped-call]


class _Nowhere:
    """Stands where the client would keep its own connection: it must never use one."""

    def request(self, *_: Any, **__: Any) -> None:
        raise TypeError("execute() was called without a transport")


@cache
def _client(root: str) -> Any:
    """Build Google's client for one place, from the description that it ships: no network, 1 ms.

    Batches and uploads follow the description's root only, not `api_endpoint`.
    """
    from googleapiclient.discovery import build_from_document
    from googleapiclient.discovery_cache import get_static_doc

    document = json.loads(get_static_doc("gmail", "v1"))
    return build_from_document({**document, "rootUrl": f"{root}/", "baseUrl": f"{root}/"}, http=_Nowhere())


@cache
def _resource(root: str, name: str) -> Any:
    """Building one takes the client a millisecond."""
    users = _client(root).users()
    return getattr(users, name)() if name else users


def checked(ref: str) -> str:
    """Return a message's id. Raises NotFound for what cannot be one."""
    if not _REF.fullmatch(ref):
        raise NotFound("There is no such mail in the mailbox.")
    return ref


def envelope(item: Mapping[str, Any]) -> Envelope:
    """Make an envelope of a message in the format `metadata`."""
    labels = item.get("labelIds", ())
    return mime.envelope(
        reports.block(item.get("payload", {}).get("headers", ())) + b"\r\n",
        ref=item["id"],
        folder=_folder(labels),
        is_sent="SENT" in labels,
        size=int(item.get("sizeEstimate", 0)),
        received_at=datetime.fromtimestamp(int(item["internalDate"]) / 1000, UTC),
        thread=item.get("threadId"),
    )


def readable(item: Mapping[str, Any]) -> bool:
    """Whether a message is mail that is read at all."""
    return not UNREAD_LABELS.intersection(item.get("labelIds", ()))


def _folder(labels: Sequence[str]) -> str:
    """A mail has any number of labels; the one that tells most stands for its folder."""
    own = [label for label in labels if label.startswith("Label_")]
    return next((label for label in ("SENT", "INBOX", *own) if label in labels), "")


def refusal(answer: Answer) -> ZalionError:
    """Say what a refusal of Gmail means.

    A page that something on the way gave instead tells nothing about the mailbox, or about the mail; nor
    does a reason that we do not know end a mailbox: it may be anybody's, and pass.
    https://developers.google.com/workspace/gmail/api/guides/handle-errors
    """
    status, said = answer.status, _said(answer)
    reason, words = said or ("", "")
    if status == HTTPStatus.TOO_MANY_REQUESTS or reason in _SLOW:
        fix = "It goes on by itself. If it stays, ask Zalion's support about the limits at Google."
        return RateLimited(
            f"Gmail asks us to wait ({reason or status}).", retry_after=_pause(answer, words), fix=fix
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Temporary(f"Gmail is not available ({reason or status}).", retry_after=answer.pause())
    if said is None and status in _ABOUT_US:
        return NotSent(f"Something else answered in Gmail's place ({status}).", retry_after=answer.pause())
    if key := googling.key_of_reason(status, reason):
        return googling.error_of(key, said=f"{reason or status}: {words[:MOST_WORDS]}")
    if status in _ACCOUNT:
        logs.log("api.unclear", level=logging.ERROR, provider="google", status=status, code=reason)
        told = f"Gmail refused for a reason that we do not know ({reason or status})."
        return NotSent(told, retry_after=answer.pause())
    return _request_refused(status, reason, words)


def _request_refused(status: int, reason: str, words: str) -> ZalionError:
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("There is no such mail or label in the mailbox.")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or "too large" in words.lower():
        return Rejected("The mail is larger than Gmail takes.", fix="Send fewer or smaller files.")
    if _HEADER_WORDS.search(words):
        return Rejected("Gmail takes one of the addresses for invalid.", fix="Correct the recipients.")
    return Rejected(f"Gmail refused the request ({reason or status}).")


def _said(answer: Answer) -> tuple[str, str] | None:
    """Return the reason and the words of an error; None where the answer is none of Google's.

    Without a reason of its own an error has its status, a word like PERMISSION_DENIED.
    """
    error = answer.json.get("error") if isinstance(answer.json, Mapping) else None
    if not isinstance(error, Mapping):
        return None
    each = error.get("errors") or [{}]
    reason = str(each[0].get("reason") or error.get("status", ""))
    return reason if _REASON.fullmatch(reason) else "", str(error.get("message", ""))


def _pause(answer: Answer, words: str) -> float:
    """Gmail writes the end of its sending limit into the message, and no Retry-After."""
    until = _UNTIL.search(words)
    if until is None:
        return answer.pause()
    try:
        seconds = (datetime.fromisoformat(until[1].rstrip(".")) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return answer.pause()
    return min(max(seconds, 1.0), 3600.0)
