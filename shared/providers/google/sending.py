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
    DraftChanged,
    NotFound,
    Rejected,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.providers.base import Connection, Receipt
from shared.providers.google import listing
from shared.providers.google.client import ME, Session, Transport, checked
from shared.providers.google.envelopes import envelope
from shared.providers.transport import handing_over

if TYPE_CHECKING:
    import httplib2

LARGEST = 36_700_160
"""Octets of a mail (users.messages.send, maxSize): 25 MB of files as base64."""

SMALL = 3_500_000
"""Octets of a mail that is sent as JSON; a request may have about 5 MB."""


def largest(_: Mapping[str, object]) -> int:
    """Return how large a mail may be."""
    return LARGEST


def may_draft(settings: Mapping[str, object]) -> bool:
    """Return whether IT lets Zalion write into this Gmail; asked for when the mailbox is connected."""
    return bool(settings.get("drafts"))


class _Leaving(Session):
    """What leaves through Gmail."""

    def _handed_over(self, request: Any, commit: Callable[[], None], last: str) -> Mapping[str, Any]:
        """Let the mail leave, with the request of the method `last`. What Gmail answers with 4xx did not."""
        gate = _Gate(self.http, commit, last)
        with self.one_mail(), handing_over("Gmail", lambda: gate.passed):
            found: Mapping[str, Any] = self.run(request, gate)
        return found

    def _receipt(self, sent: Mapping[str, Any]) -> Receipt:
        try:
            copies, _ = self.available([sent["id"]])
        except ZalionError:
            copies = []  # it has left; the copy in Sent tells the id when it is read
        final = envelope(copies[0]).message_id if copies else None
        return Receipt(sent["id"], final, sent.get("threadId"))


class GmailSender(_Leaving):
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
        message, media, last = _given(raw, envelope_to, thread_of(self, raw))
        try:
            sent = self._handed_over(
                self.api("messages").send(userId=ME, body=message, **media), commit, last
            )
        except NotFound as error:  # the thread was deleted a moment ago: the next attempt finds none
            raise Temporary("Gmail no longer knows the thread.", retry_after=60) from error
        return self._receipt(sent)

    @property
    def files_copy(self) -> bool:
        """See `Sender.files_copy`."""
        return True


class GmailDrafter(_Leaving):
    """Drafter of `base` over Gmail; there for those whose IT lets Zalion write into Gmail."""

    def __init__(self, connection: Connection) -> None:
        if not may_draft(connection.settings):
            fix = "Ask IT to switch on drafts for Google; disconnect the mailbox, then connect it again."
            raise Unsupported("Zalion may not put drafts into this Gmail.", fix=fix)
        super().__init__(connection)

    def put(self, raw: bytes, envelope_to: Sequence[str]) -> Receipt:
        """See `Drafter.put`. The draft stands in the thread of what it answers."""
        message, media, _ = _given(raw, envelope_to, thread_of(self, raw))
        with self.one_mail():
            made = self.run(self.api("drafts").create(userId=ME, body={"message": message}, **media))
        return Receipt(made["id"], thread=made["message"].get("threadId"))

    def fetch(self, ref: str) -> tuple[bytes, str]:
        """See `Drafter.fetch`. Whoever changes a draft gives it a new message, and the message a new id.

        https://developers.google.com/workspace/gmail/api/guides/drafts#update_drafts
        """
        found = self._draft(ref, "raw")
        return base64.urlsafe_b64decode(found["raw"] + "=="), f"{ref}/{found['id']}"

    def send(self, ref: str, raw: bytes, envelope_to: Sequence[str], commit: Callable[[], None]) -> Receipt:
        """See `Drafter.send`: Gmail takes the draft's new text, sends it and ends the draft in one call.

        https://developers.google.com/workspace/gmail/api/guides/drafts
        """
        id_, _, promised = ref.partition("/")
        there = self._unchanged(id_, promised)
        message, media, last = _given(raw, envelope_to, {"threadId": there["threadId"]})
        request = self.api("drafts").send(userId=ME, body={"id": id_, "message": message}, **media)

        def begin() -> None:
            commit()
            self._unchanged(id_, there["id"])  # last of all: Gmail sends our text over any other

        return self._receipt(self._handed_over(request, begin, last))

    def _unchanged(self, id_: str, promised: str) -> Mapping[str, Any]:
        """Return a draft's message, without its text. Raises DraftChanged where another one was promised."""
        there = self._draft(id_, "minimal")
        if promised not in {"", there["id"]}:
            raise DraftChanged
        return there

    def _draft(self, id_: str, format_: str) -> Mapping[str, Any]:
        request = self.api("drafts").get(userId=ME, id=checked(id_), format=format_)
        with self.one_mail():
            found: Mapping[str, Any] = self.run(request)["message"]
        return found


def thread_of(session: Session, raw: bytes) -> Mapping[str, str]:
    """Find the thread of the mail that is answered; also the proof that the sign-in works.

    A thread is kept only if it is named, beside References and the subject.
    """
    answered = mime.envelope(raw, ref="").in_reply_to
    if answered is None:
        session.profile()
        return {}
    found = next(listing.messages(session, listing.named(answered), 1), None)
    return {"threadId": found["threadId"]} if found else {}


def _given(
    raw: bytes, envelope_to: Sequence[str], thread: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Any], str]:
    """Return a mail as Gmail takes it: JSON, what is uploaded beside it, and the method that lets it leave.

    A large mail is announced, then handed over as it is and in one piece. Raises Rejected.
    """
    from googleapiclient.http import MediaInMemoryUpload

    addressed = _addressed(raw, envelope_to)
    if len(addressed) > LARGEST:
        raise Rejected("The mail is larger than Gmail takes.", fix="Send fewer or smaller files.")
    if len(addressed) <= SMALL:
        return {"raw": base64.urlsafe_b64encode(addressed).decode(), **thread}, {}, "POST"
    media = MediaInMemoryUpload(addressed, mimetype="message/rfc822", chunksize=-1, resumable=True)
    return dict(thread), {"media_body": media}, "PUT"


def _addressed(raw: bytes, envelope_to: Sequence[str]) -> bytes:
    """Name all recipients, and no empty group: Gmail takes a To without an address for an invalid one.

    Nobody has written that down (2026-11): docs/trial-google.md.
    """
    head, _, body = mime.with_bcc(raw, envelope_to).partition(b"\r\n\r\n")
    nobody = "\r\n{}: {}\r\n".format(*mime.NOBODY).encode()
    return (head + b"\r\n").replace(nobody, b"\r\n") + b"\r\n" + body


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
