"""Sending at Gmail: the mail as it is, in the thread of the mail it answers.

Gmail gives it a Message-ID of its own where it likes, so that is read back.
https://developers.google.com/workspace/gmail/api/guides/sending
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import mime
from shared.errors import (
    NotFound,
    Rejected,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.providers.base import Connection, Receipt
from shared.providers.google.client import ME, Session, Transport, envelope
from shared.providers.http import handing_over

if TYPE_CHECKING:
    import httplib2

LARGEST = 36_700_160
"""Octets of a mail (users.messages.send, maxSize): 25 MB of files as base64."""

SMALL = 3_500_000
"""Octets of a mail that is sent as JSON; a request may have about 5 MB."""


def largest(_: Mapping[str, object]) -> int:
    """Return how large a mail may be."""
    return LARGEST


class GmailSender(Session):
    """Sender of `base` over Gmail."""

    def check(self) -> None:
        """See `Sender.check`. Whether it may send stands in the scopes, which the sign-in compared."""
        self.profile()

    def send(
        self,
        raw: bytes,
        envelope_from: str,  # noqa: ARG002 - Gmail sends as the mailbox itself
        envelope_to: Sequence[str],
        commit: Callable[[], None],
    ) -> Receipt:
        """See `Sender.send`. Bcc goes into the mail, as Gmail takes recipients from there only.

        A large mail is announced before `commit`; it leaves with its last octet.
        """
        addressed = mime.with_bcc(raw, envelope_to)
        if len(addressed) > LARGEST:
            raise Rejected("The mail is larger than Gmail takes.", fix="Send fewer or smaller files.")
        thread = thread_of(self, raw)
        if len(addressed) > SMALL:
            return self._receipt(self._handed_over(self._upload(addressed, thread), commit, "PUT"))
        return self._receipt(self._handed_over(self._plain(addressed, thread), commit, "POST"))

    @property
    def files_copy(self) -> bool:
        """See `Sender.files_copy`."""
        return True

    def _plain(self, raw: bytes, thread: Mapping[str, str]) -> Any:
        body = {"raw": base64.urlsafe_b64encode(raw).decode(), **thread}
        return self.api("messages").send(userId=ME, body=body)

    def _upload(self, raw: bytes, thread: Mapping[str, str]) -> Any:
        return self.api("messages").send(userId=ME, body=dict(thread), media_body=_uploaded(raw))

    def _handed_over(self, request: Any, commit: Callable[[], None], last: str) -> Mapping[str, Any]:
        """Let the mail leave, with the request of the method `last`. What Gmail answers with 4xx did not."""
        gate = _Gate(self.http, commit, last)
        try:
            with handing_over("Gmail", lambda: gate.passed):
                found: Mapping[str, Any] = self.run(request, gate)
        except NotFound as error:  # the thread was deleted a moment ago: the next attempt finds none
            raise Temporary("Gmail no longer knows the thread.", retry_after=60) from error
        return found

    def _receipt(self, sent: Mapping[str, Any]) -> Receipt:
        try:
            copies = self.metadata([sent["id"]])
        except ZalionError:
            copies = []  # it has left; the copy in Sent tells the id when it is read
        final = envelope(copies[0]).message_id if copies else None
        return Receipt(sent["id"], final, sent.get("threadId"))


class GmailDrafter(Session):
    """Drafter of `base` over Gmail; there for those whose IT lets Zalion write into Gmail."""

    def __init__(self, connection: Connection) -> None:
        if not connection.settings.get("drafts"):
            fix = "Ask IT to switch on drafts for Google; disconnect the mailbox, then connect it again."
            raise Unsupported("Zalion may not put drafts into this Gmail.", fix=fix)
        super().__init__(connection)

    def put(self, raw: bytes, envelope_to: Sequence[str]) -> Receipt:
        """See `Drafter.put`. The draft stands in the thread of what it answers."""
        addressed = mime.with_bcc(raw, envelope_to)
        if len(addressed) > LARGEST:
            raise Rejected("The mail is too large for Gmail.", fix="Send fewer or smaller files.")
        message, media = dict(thread_of(self, raw)), {}
        if len(addressed) > SMALL:
            media = {"media_body": _uploaded(addressed)}
        else:
            message["raw"] = base64.urlsafe_b64encode(addressed).decode()
        made = self.run(self.api("drafts").create(userId=ME, body={"message": message}, **media))
        return Receipt(made["id"], thread=made["message"].get("threadId"))


def thread_of(session: Session, raw: bytes) -> Mapping[str, str]:
    """Find the thread of the mail that is answered; also the proof that the sign-in works.

    A thread is kept only if it is named, beside References and the subject.
    """
    answered = mime.envelope(raw, ref="").in_reply_to
    if answered is None:
        session.profile()
        return {}
    query = f"rfc822msgid:{answered.strip('<>')}"
    found = session.run(session.api("messages").list(userId=ME, q=query, maxResults=1)).get("messages")
    return {"threadId": found[0]["threadId"]} if found else {}


def _uploaded(raw: bytes) -> Any:
    """Hand over a mail as it is and in one piece, after it was announced."""
    from googleapiclient.http import MediaInMemoryUpload

    return MediaInMemoryUpload(raw, mimetype="message/rfc822", chunksize=-1, resumable=True)


@dataclass
class _Gate:
    """A transport that calls `commit` right before the request of one method: the one that counts."""

    transport: Transport
    commit: Callable[[], None]
    method: str
    passed: bool = False

    def request(self, uri: str, method: str = "GET", **options: Any) -> "tuple[httplib2.Response, bytes]":
        """Make one call."""
        if method == self.method and not self.passed:
            self.commit()
            self.passed = True
        return self.transport.request(uri, method, **options)
