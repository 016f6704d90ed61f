"""One mailbox at Gmail: Google's own client over our own HTTPS.

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
from functools import cache
from itertools import batched
from typing import TYPE_CHECKING, Any

from shared import logs
from shared.errors import ConsentRequired, NotFound, RateLimited, Rejected, Temporary, ZalionError
from shared.model import digest
from shared.providers import googling
from shared.providers.base import Connection
from shared.providers.google.envelopes import FIELDS, HEADERS
from shared.providers.google.refusals import refusal
from shared.providers.google.spending import Spending
from shared.providers.http import Answer, Api

if TYPE_CHECKING:
    import httplib2

TITLE = "Gmail"
ME = "me"

BATCH = 5
"""Calls in one request: Gmail carries them out at once, and refuses a user who asks for too much at once."""

PAUSE = 60.0
_REF = re.compile(r"[0-9A-Za-z_-]{1,64}")


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

        try:
            return self._counted(request).execute(http=http or self.http)
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
            batch.add(self._counted(self._metadata(id_)), request_id=id_)  # each as if it came alone
        with suppress(Error, ValueError, KeyError):  # a part that is no JSON, or missing
            batch.execute(http=self.http)
        return found, [id_ for id_ in ids if id_ not in found and id_ not in gone]

    def _counted(self, request: Any) -> Any:
        """Count a request as the mailbox's: in our books, and at Google, where a service account is one user.

        https://cloud.google.com/apis/docs/system-parameters: `quotaUser`, at most 40 characters.
        """
        self.spending.add(request.methodId or "")
        if self.delegated:
            mark = "&" if "?" in request.uri else "?"
            request.uri += f"{mark}quotaUser={digest(self.connection.address.lower())}"
        return request

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
