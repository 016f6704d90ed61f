"""Sending at Graph as MIME, so that Message-ID, References and every header are ours to choose.

Exchange may still change Message-ID and Date; the copy in Sent Items, which it files itself, tells.
https://learn.microsoft.com/graph/outlook-send-mime-message
"""

import base64
import email
import email.policy
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import cast

from shared import mime
from shared.errors import NotFound, OutcomeUnknown, Rejected, Temporary, ZalionError
from shared.providers.base import Receipt
from shared.providers.microsoft.graph import FIELDS, Session, literal, segment
from shared.providers.transport import handing_over

REQUEST = 4 * 1000 * 1000
"""Octets of a request, measured by users (docs#13979): base64 of a mail whose files are base64 already."""

SMALL = REQUEST * 3 // 4 - 50_000
"""Octets of a mail that fits into one request."""

ROOM = 80_000
"""Octets of the headers we add: 300 hidden recipients, and the thread's index."""

LARGEST_TEXT = SMALL - ROOM
"""Octets of a mail without its files: that part of it is one request, whatever was granted."""

HEADER, CHILD, LONGEST_INDEX = 22, 5, 1000
"""Octets of a conversation's index, of what each answer adds to it, and of the longest we prolong."""

EPOCH = 11_644_473_600
"""Seconds from 1601, where FILETIME begins, to 1970."""

LARGE = 35 * 1024 * 1024
"""Octets of a mail in Exchange Online, unless its administrator allows more."""

CHUNK = 320 * 1024 * 10
"""Octets of an upload's piece: a multiple of 320 KiB below 4 MB."""

DIRECT = 3 * 1000 * 1000
"""Octets up to which a file is attached without an upload session."""

_PLAIN = {"Content-Type": "text/plain"}

_AS_COMPOSED = email.policy.SMTP.clone(refold_source="none")
"""The stdlib would fold long headers anew: a name could become a recipient, an id an encoded word."""


def largest(settings: Mapping[str, object]) -> int:
    """Return how large a mail may be; beyond one request only with the extra permission."""
    return LARGE - ROOM if settings.get("largeAttachments") else LARGEST_TEXT


class GraphSender(Session):
    """Sender of `base` over Graph."""

    def check(self) -> None:
        """See `Sender.check`. Nothing tells whether Mail.Send was granted but the token's scopes."""
        if self._only_sends:
            self.api.bearer()
        else:
            self.get("/mailFolders/sentitems", select="id")

    def send(
        self,
        raw: bytes,
        envelope_from: str,  # noqa: ARG002 - Graph sends as the mailbox itself
        envelope_to: Sequence[str],
        commit: Callable[[], None],
    ) -> Receipt:
        """See `Sender.send`. Bcc goes into the mail, as Exchange takes recipients from there only."""
        addressed = self._threaded(mime.with_bcc(raw, envelope_to))
        if len(addressed) <= SMALL:
            return self._hand_over("/sendMail", base64.b64encode(addressed), commit)
        return self._send_large(addressed, commit)

    @property
    def _only_sends(self) -> bool:
        """Whether all we may do is send: an app need not be given more (RBAC's Application Mail.Send)."""
        return self.connection.settings.get("access") == "application" and not self.connection.reads

    @property
    def files_copy(self) -> bool:
        """See `Sender.files_copy`."""
        return True

    def _threaded(self, raw: bytes) -> bytes:
        """Let an answer stand in the answered mail's thread: Outlook goes by Thread-Index first.

        The `reply` action would do so, too, but it chooses the recipients (message-reply: "uses the sender
        of the original message as recipient"). Asking also proves connection and sign-in before `commit`.
        """
        answered = mime.envelope(raw, ref="").in_reply_to
        if answered is None or self._only_sends:
            self.check()
            return raw
        query = f"internetMessageId eq {literal(answered)}"
        found = self.get("/messages", filter=query, select="conversationIndex", top="1")["value"]
        index = _prolonged(found[0].get("conversationIndex") or "") if found else ""
        return f"Thread-Index: {index}\r\n".encode() + raw if index else raw

    def _send_large(self, raw: bytes, commit: Callable[[], None]) -> Receipt:
        """Make a draft of the mail without its files, add them one by one, then send it.

        A draft that an earlier attempt left behind is removed first; nothing leaves before `commit`.
        """
        if not self.connection.settings.get("largeAttachments"):
            fix = "Send smaller files, or ask IT to allow large attachments for Microsoft 365."
            raise Rejected(f"Microsoft takes mails of at most {SMALL // 1_000_000} MB here.", fix=fix)
        self._remove_drafts(raw)
        text, files = _taken_apart(raw)
        if len(text) > SMALL:
            raise Rejected("The text of the mail is larger than Microsoft takes.")
        draft = self.asked("POST", f"{self.path}/messages", body=base64.b64encode(text), headers=_PLAIN)
        path = f"/messages/{segment(draft['id'])}"
        with self._removed_unless_it_left(path):
            try:
                for file in files:
                    self._attach(path, file)
            except NotFound as error:
                raise Temporary("The draft was thrown away meanwhile.", retry_after=60) from error
            return self._hand_over(f"{path}/send", b"", commit, ref=draft["id"])

    @contextmanager
    def _removed_unless_it_left(self, path: str) -> Iterator[None]:
        """Leave no draft that its owner could send, too."""
        try:
            yield
        except OutcomeUnknown:
            raise  # perhaps there is none any more
        except ZalionError:
            with suppress(ZalionError):  # the next attempt removes it before anything else
                self.api.call("DELETE", self.path + path)
            raise

    def _hand_over(
        self, path: str, body: bytes, commit: Callable[[], None], ref: str | None = None
    ) -> Receipt:
        """The one request that makes the mail leave: 202. What Graph answers with an error did not leave."""
        commit()
        try:
            with handing_over("Microsoft"):
                answer = self.api.call("POST", self.path + path, body=body, headers=_PLAIN)
        except NotFound as error:
            if ref:  # its owner has sent it, or thrown it away, at this very moment
                raise OutcomeUnknown("The draft was gone when it was to leave.") from error
            raise Rejected("Microsoft no longer knows this mailbox.") from error
        if answer.status != HTTPStatus.ACCEPTED:
            raise OutcomeUnknown("Microsoft did not say that it has taken the mail.")
        return Receipt(ref=ref)

    def _remove_drafts(self, raw: bytes) -> None:
        message_id = mime.envelope(raw, ref="").message_id
        found = self.get(
            "/mailFolders/drafts/messages",
            filter=f"internetMessageId eq {literal(message_id or '')}",
            select=FIELDS,
        )
        for draft in found["value"]:
            self.api.call("DELETE", f"{self.path}/messages/{segment(draft['id'])}")

    def _attach(self, path: str, file: "_File") -> None:
        if len(file.content) <= DIRECT:
            body = {
                "@odata.type": "#microsoft.graph.fileAttachment",
                "name": file.name,
                "contentType": file.content_type,
                "contentBytes": base64.b64encode(file.content).decode(),
            }
            self.api.call("POST", f"{self.path}{path}/attachments", json=body)
            return
        item = {
            "attachmentType": "file",
            "name": file.name,
            "size": len(file.content),
            "contentType": file.content_type,
        }
        upload = f"{self.path}{path}/attachments/createUploadSession"
        url = self.asked("POST", upload, json={"AttachmentItem": item})["uploadUrl"]
        for start in range(0, len(file.content), CHUNK):
            piece = file.content[start : start + CHUNK]
            place = f"bytes {start}-{start + len(piece) - 1}/{len(file.content)}"
            self.api.anonymous("PUT", url, piece, {"Content-Range": place})


@dataclass(frozen=True, slots=True)
class _File:
    """One attachment, decoded."""

    name: str
    content_type: str
    content: bytes


def _prolonged(index: str) -> str:
    """Return the index of an answer to the mail with this one, "" for a bad one (MS-OXOMSG 2.2.1.3)."""
    try:
        known = base64.b64decode(index, validate=True)
    except ValueError:
        return ""
    if not HEADER <= len(known) <= LONGEST_INDEX or (len(known) - HEADER) % CHILD:
        return ""
    began = int.from_bytes(known[:6]) << 16
    passed = max(0, int((time.time() + EPOCH) * 10_000_000) - began)
    late = passed >> 49 > 0
    moment = (late << 31) | ((passed >> (23 if late else 18)) & 0x7FFFFFFF)
    return base64.b64encode(known + moment.to_bytes(4) + secrets.token_bytes(1)).decode()


def _taken_apart(raw: bytes) -> tuple[bytes, list[_File]]:
    """Take the attached files out of a mail of our own composer."""
    message = email.message_from_bytes(raw, policy=_AS_COMPOSED)
    if message.get_content_type() != "multipart/mixed":
        return raw, []
    parts = list(message.iter_parts())
    files = [part for part in parts if part.get_content_disposition() == "attachment"]
    message.set_payload([part for part in parts if part not in files])
    taken = [
        _File(
            part.get_filename() or "file",
            _content_type(part),
            cast("bytes", part.get_payload(decode=True)),
        )
        for part in files
    ]
    return message.as_bytes(), taken


def _content_type(part: Message) -> str:
    charset = part.get_content_charset()
    return part.get_content_type() + (f"; charset={charset}" if charset else "")
