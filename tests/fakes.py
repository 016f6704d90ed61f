"""A mail system in memory that speaks the provider's wall: for what IMAP and SMTP cannot show.

It has thread hints, files its own copies, may give a message another Message-ID, and does what a test
tells it to. It is the far side of the wire, not a stand-in for anything of ours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from shared import mime
from shared.app import App
from shared.errors import CursorExpired, NotFound
from shared.model import Envelope
from shared.providers.base import Connection, Cursor, Page, Provider, Receipt, Unmetered


@dataclass
class FakeMail(Unmetered):
    """One mailbox of the fake system. `fails` maps a method to exceptions raised by its next calls.

    `late` is as `fails`, for calls that take effect all the same.
    `unreadable` mails are given up by the next look, `refused` are kept back from each. Before each page of `empty` steps `meanwhile` happens.
    """

    raws: list[tuple[bytes, str | None, bool]] = field(default_factory=list)
    files: bool = True
    rename: Callable[[bytes], str | None] = lambda _: None
    fails: dict[str, list[Exception | None]] = field(default_factory=dict)
    late: dict[str, list[Exception]] = field(default_factory=dict)
    left: list[bytes] = field(default_factory=list)
    unreadable: int = 0
    refused: int = 0
    empty: int = 0
    meanwhile: Callable[[], None] = lambda: None

    def arrive(self, raw: bytes, thread: str | None = None, *, is_sent: bool = False) -> None:
        self.raws.append((raw, thread, is_sent))

    def _may_fail(self, name: str) -> None:
        if self.fails.get(name):
            failure = self.fails[name].pop(0)
            if failure is not None:  # this call succeeds
                raise failure

    # Receiver

    def check(self) -> None:
        self._may_fail("check")

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        self._may_fail("pages")
        start = int(cursor or 0)
        if start > len(self.raws):
            raise CursorExpired("Unknown.")
        if self.refused:
            yield Page((), Cursor(str(min(start + self.refused, len(self.raws)))), refused=self.refused)
        self._may_fail("later pages")
        while self.empty:
            self.meanwhile()
            self.empty -= 1
            yield Page((), Cursor(str(start)))
        found, given_up = tuple(self._envelope(n) for n in range(start, len(self.raws))), self.unreadable
        self.unreadable = 0
        yield Page(found, Cursor(str(len(self.raws))), unreadable=given_up)

    def fetch(self, ref: str) -> bytes:
        self._may_fail("fetch")
        return self.raws[int(ref)][0]

    def returned_headers(self, ref: str) -> bytes:
        self._may_fail("returned_headers")
        raise NotFound("No report.")

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        self._may_fail("look")
        for number in range(len(self.raws)):
            found = self._envelope(number)
            if {found.message_id, *found.references} & set(message_ids):
                yield found

    def _envelope(self, number: int) -> Envelope:
        raw, thread, is_sent = self.raws[number]
        found = mime.envelope(raw, ref=str(number), is_sent=is_sent, thread=thread)
        return replace(found, received_at=datetime.now(UTC))

    # Sender

    def send(
        self, raw: bytes, envelope_from: str, envelope_to: Sequence[str], commit: Callable[[], None]
    ) -> Receipt:
        self._may_fail("before")
        commit()
        self._may_fail("lost")
        final = self.rename(raw)
        self.left.append(raw)
        if self.files:
            self.arrive(renamed(raw, final), "T-sent", is_sent=True)
        self._may_fail("after")
        return Receipt(message_id=final, thread="T-sent")

    @property
    def files_copy(self) -> bool:
        return self.files

    # SentFolder

    def find_sent(self, message_id: str) -> Receipt | None:
        self._may_fail("find_sent")
        for number, (_, thread, is_sent) in enumerate(self.raws):
            if is_sent and self._envelope(number).message_id == message_id:
                return Receipt(str(number), message_id, thread)
        return None

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:
        self._may_fail("keep_sent")
        self.arrive(raw, is_sent=True)
        if self.late.get("keep_sent"):
            raise self.late["keep_sent"].pop(0)
        return str(len(self.raws) - 1)

    def close(self) -> None: ...


def renamed(raw: bytes, final: str | None) -> bytes:
    if final is None:
        return raw
    lines = raw.split(b"\r\n")
    return b"\r\n".join(
        b"Message-ID: " + final.encode() if line.lower().startswith(b"message-id:") else line
        for line in lines
    )


def with_fake(app: App, mail: FakeMail) -> App:
    """The app with one more provider, `fake`."""

    def made(_: Connection) -> Any:
        return mail

    fake = Provider("fake", "Fake", (), receiver=made, sender=made, sent_folder=made, keeps_copies=True)

    def provider(name: str, **given: str) -> Provider:
        return fake if name == "fake" else app.provider(name, **given)

    return replace(app, provider=provider)
