"""What a contract test needs of a provider's far side. A new provider brings its own stage: one row below.

A stage is one mailbox on a real server (or on its simulator on the wire).
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from shared.providers.base import (
    Bearer,
    Connection,
    Credential,
    Password,
    Provider,
    Receiver,
    Searcher,
    Sender,
    SentFolder,
)
from shared.providers.registry import provider
from tests.providers.parts import Account, MailServer

LOCAL = frozenset({"localhost"})
OUTLOOK = {"sent": "sentitems", "junk": "junkemail", "trash": "deleteditems"}


class ReceivingStage(Protocol):
    """A mailbox that can be filled from outside.

    Attributes:
        keeps_copies: whether Sent takes what another server sent.
        page: so many mails fill a page, where there are more.
    """

    keeps_copies: bool
    page: int

    def receiver(
        self, credential: Callable[[], Credential] | None = None, folders: Sequence[str] = ()
    ) -> Receiver:
        """Open it; `folders` are chosen besides Inbox and Sent."""

    def sent_folder(self) -> SentFolder: ...
    def searcher(self) -> Searcher: ...
    def put(self, raw: bytes, folder: str = "inbox", at: datetime | None = None) -> None:
        """Put a mail into the folder with this role; another name is a folder of the user's own."""

    def remove(self, raw: bytes) -> None:
        """Delete it for good."""

    def move(self, raw: bytes, folder: str) -> None:
        """Move it out of the inbox."""

    def rename(self, folder: str, name: str) -> None:
        """Rename a folder of the user's own."""

    def bodies_given(self) -> int:
        """How often the provider was given a mail's text, or asked for it: counted at the far side."""

    def wrong(self) -> Credential:
        """A credential that is refused."""


class SendingStage(Protocol):
    """A sender, and the post office it speaks to."""

    address: str

    def sender(self, credential: Callable[[], Credential] | None = None) -> Sender: ...
    def wrong(self) -> Credential: ...
    def arrived(self) -> list[bytes]:
        """What arrived at `recipient`."""

    @property
    def recipient(self) -> str: ...
    @property
    def refused(self) -> str:
        """An address that the server refuses, where `tells_refused`; other systems send a bounce."""

    tells_refused: bool

    def lose_answer(self, *, delivered: bool) -> None:
        """The connection breaks after the next hand-over."""

    def defer(self) -> None:
        """The next hand-over is answered with "not now"."""


@dataclass
class Imap:
    """Dovecot, read over a wire that notes what is asked for."""

    account: Account
    keeps_copies = True
    page = 200
    protocol: ClassVar[str] = "imap"
    asks_for_text: ClassVar[str] = r"BODY(\.PEEK)?\[(?!HEADER)|RFC822(?!\.HEADER|\.SIZE)"

    def __post_init__(self) -> None:
        self.wire = self.account.server.wires[self.protocol]
        self.wire.reset()

    @property
    def _provider(self) -> Provider:
        return provider("imap")

    def receiver(
        self, credential: Callable[[], Credential] | None = None, folders: Sequence[str] = ()
    ) -> Receiver:
        assert self._provider.receiver
        place = self.account.connection(self.wire.port, credential=credential, folders=folders)
        return self._provider.receiver(place)

    def sent_folder(self) -> SentFolder:
        assert self._provider.sent_folder
        return self._provider.sent_folder(self.account.connection(self.account.server.dovecot.ports["imaps"]))

    def searcher(self) -> Searcher:
        assert self._provider.searcher
        return self._provider.searcher(self.account.connection(self.account.server.dovecot.ports["imaps"]))

    def put(self, raw: bytes, folder: str = "inbox", at: datetime | None = None) -> None:
        roles = {"inbox": "INBOX", "sent": "Sent", "junk": "Junk", "trash": "Trash", "drafts": "Drafts"}
        self.account.put(raw, roles.get(folder, folder), at)

    def remove(self, raw: bytes) -> None:
        with self.account.program() as program:
            program.select_folder("INBOX")
            program.delete_messages(self._find(program, raw))
            program.expunge()

    def move(self, raw: bytes, folder: str) -> None:
        with self.account.program() as program:
            if not program.folder_exists(folder):
                program.create_folder(folder)
            program.select_folder("INBOX")
            program.move(self._find(program, raw), folder)

    def rename(self, folder: str, name: str) -> None:
        with self.account.program() as program:
            program.rename_folder(folder, name)

    def bodies_given(self) -> int:
        return len(self.wire.lines(self.asks_for_text))

    def wrong(self) -> Credential:
        return Password(self.account.address, "wrong")

    @staticmethod
    def _find(program: Any, raw: bytes) -> list[int]:
        return [
            uid
            for uid, items in program.fetch(program.search(), ["BODY.PEEK[]"]).items()
            if items[b"BODY[]"] == raw
        ]


@dataclass
class Pop3(Imap):
    """Dovecot's POP3; it is filled through IMAP, and has an inbox only."""

    page = 100
    protocol = "pop3"
    asks_for_text = r"^RETR|^TOP \d+ [1-9]"

    @property
    def _provider(self) -> Provider:
        return provider("pop3")

    def receiver(
        self, credential: Callable[[], Credential] | None = None, folders: Sequence[str] = ()
    ) -> Receiver:
        assert self._provider.receiver and not folders
        return self._provider.receiver(self.account.connection(self.wire.port, credential=credential))

    def put(self, raw: bytes, folder: str = "inbox", at: datetime | None = None) -> None:
        """POP3 knows no time of arrival but what the receiving server wrote into the mail."""
        moment = (at or datetime.now(UTC)).strftime("%a, %d %b %Y %H:%M:%S +0000")
        received = f"Received: from x.example by imap.example; {moment}\r\n".encode() if at else b""
        super().put(received + raw, folder, at)


@dataclass
class Smtp:
    """The post office, with Dovecot behind it."""

    account: Account

    @property
    def address(self) -> str:
        return self.account.address

    @property
    def recipient(self) -> str:
        return self.account.address

    refused = "nobody@imap.example"
    tells_refused = True

    def sender(self, credential: Callable[[], Credential] | None = None) -> Sender:
        found = provider("smtp")
        assert found.sender
        port = self.account.server.post.ports["smtps"]
        return found.sender(self.account.connection(port, credential=credential))

    def wrong(self) -> Credential:
        return Password(self.account.address, "wrong")

    def arrived(self) -> list[bytes]:
        return [raw for raw, _ in self.account.read("INBOX")]

    def lose_answer(self, *, delivered: bool) -> None:
        self.account.server.post.faults.drop_after_dot(delivered=delivered)

    def defer(self) -> None:
        self.account.server.post.faults.defer("DATA")


@dataclass
class Simulated:
    """A mailbox at one of the simulators, with the post office behind it; its system files its own copies."""

    server: MailServer
    keeps_copies = False
    tells_refused = False
    refused = "nobody@imap.example"
    provider: ClassVar[str]
    page: ClassVar[int]
    roles: ClassVar[Mapping[str, str]] = {}
    """What the system calls a folder's role, where it has a name of its own for it."""

    def __post_init__(self) -> None:
        self.address = f"alice.{secrets.token_hex(4)}@{self.provider}.example"
        self.system, self.box = self._set_up()
        self.account = self.server.account("recipient")

    def _set_up(self) -> tuple[Any, Any]:
        """Add the user; returns the simulator and the mailbox in it."""
        raise NotImplementedError

    def _connection(self, credential: Callable[[], Credential] | None) -> Connection:
        raise NotImplementedError

    @property
    def recipient(self) -> str:
        return self.account.address

    def receiver(
        self, credential: Callable[[], Credential] | None = None, folders: Sequence[str] = ()
    ) -> Receiver:
        return self._made("receiver", credential, folders=folders)

    def sender(self, credential: Callable[[], Credential] | None = None) -> Sender:
        return self._made("sender", credential)

    def sent_folder(self) -> SentFolder:
        return self._made("sent_folder")

    def searcher(self) -> Searcher:
        return self._made("searcher")

    def put(self, raw: bytes, folder: str = "inbox", at: datetime | None = None) -> None:
        self.box.add(raw, self.roles.get(folder, folder), at=at, sent=folder == "sent")

    def remove(self, raw: bytes) -> None:
        self.box.remove(self._item(raw))

    def move(self, raw: bytes, folder: str) -> None:
        self.box.move(self._item(raw), folder)

    def rename(self, folder: str, name: str) -> None:
        self.box.folder(folder).name = name

    def bodies_given(self) -> int:
        return int(self.box.bodies_read.total())

    def wrong(self) -> Credential:
        return Bearer(self.address, "wrong")

    def arrived(self) -> list[bytes]:
        return [raw for raw, _ in self.account.read("INBOX")]

    def lose_answer(self, *, delivered: bool) -> None:
        if delivered:
            self.system.faults.lost_answers = 1
        else:
            self.system.faults.lost_before = 1

    def defer(self) -> None:
        self.system.faults.throttled[self.address] = 1

    def _made(self, power: str, credential: Callable[[], Credential] | None = None, **settings: Any) -> Any:
        place = self._connection(credential)
        place = replace(place, settings={**place.settings, **settings})
        return getattr(provider(self.provider), power)(place)

    def _item(self, raw: bytes) -> Any:
        return next(item for item in self.box.listed() if item.raw == raw)


class Microsoft(Simulated):
    """Graph."""

    provider = "microsoft"
    page = 50
    roles = OUTLOOK

    def _set_up(self) -> tuple[Any, Any]:
        self.entra, graph, self.app = self.server.microsoft
        self.user = self.entra.directory.add_user(self.address, "x")
        return graph, graph.add_mailbox(self.address)

    def _connection(self, credential: Callable[[], Credential] | None) -> Connection:
        def signed_in() -> Credential:
            return Bearer(self.address, self.entra.access_token(self.app, self.user, self.app.delegated))

        places = {"graph": self.system.base, "entra": self.entra.url}
        return Connection(self.address, {"access": "user"}, credential or signed_in, LOCAL, places)


class Google(Simulated):
    """Gmail."""

    provider = "google"
    page = 25

    def _set_up(self) -> tuple[Any, Any]:
        google = self.server.google
        google.add_user(self.address, "x")
        return google, google.mailbox(self.address)

    def _connection(self, credential: Callable[[], Credential] | None) -> Connection:
        def signed_in() -> Credential:
            return Bearer(self.address, self.system.bearer(self.address))

        places = {"gmail": self.system.url}
        return Connection(self.address, {"access": "user"}, credential or signed_in, LOCAL, places)


class Ews(Simulated):
    """Exchange on premises."""

    provider = "ews"
    page = 100
    keeps_copies = True
    roles = OUTLOOK

    def _set_up(self) -> tuple[Any, Any]:
        exchange = self.server.exchange
        return exchange, exchange.add_user(self.address, "correct horse")

    def _connection(self, credential: Callable[[], Credential] | None) -> Connection:
        place = {"host": "localhost", "port": self.system.port}
        signed_in = credential or (lambda: Password(self.address, "correct horse"))
        return Connection(self.address, place, signed_in, LOCAL)

    def wrong(self) -> Credential:
        return Password(self.address, "wrong")

    def defer(self) -> None:
        self.system.faults.errors["CreateItem"] = ["ErrorServerBusy"]


RECEIVING: dict[str, Callable[[MailServer], ReceivingStage]] = {
    "imap": lambda server: Imap(server.account()),
    "pop3": lambda server: Pop3(server.account()),
    "microsoft": Microsoft,
    "google": Google,
    "ews": Ews,
}
SENDING: dict[str, Callable[[MailServer], SendingStage]] = {
    "smtp": lambda server: Smtp(server.account()),
    "microsoft": Microsoft,
    "google": Google,
    "ews": Ews,
}
