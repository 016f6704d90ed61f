"""The ports every use case works through, and the one door to the mail systems.

An `App` is built once per process by `bootstrap` (or by a test, with other far sides). Use cases
take it as their first argument; they know no implementation.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from shared import deadline, turns
from shared.errors import ConsentRequired, Temporary, Unsupported
from shared.grants import Grants
from shared.keys import Keys
from shared.lookups import Lookups
from shared.model import Mailbox, Tally
from shared.providers.base import (
    Connection,
    Credential,
    Drafter,
    Provider,
    Pusher,
    Receiver,
    Searcher,
    Sender,
    SentFolder,
)
from shared.registrations import Registrations
from shared.rules import Rules
from shared.shares import Shares
from shared.storage.base import Blobs, Queues, Records, Schedule, Stored, Vault, Write
from shared.turns import Lane

SYNC, DELIVER = "sync", "deliver"
"""The two queues: what is slow (a mailbox) never stands before what is urgent (a send)."""


class _Session(Protocol):
    def close(self) -> None: ...


class Providers(Protocol):
    """Where providers are found by their names."""

    def __call__(self, name: str, *, field: str = "provider") -> Provider:
        """Return the provider; `field` is what the caller called it, for the error."""
        ...


@dataclass
class Remembered:
    """What this process found out, and until when it says so again; `lock` for whoever finds out."""

    found: Any = None
    until: datetime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class App:
    """Everything a use case may touch.

    Attributes:
        provider: name -> provider; raises InvalidRequest for an unknown name.
        clock: the current time, aware UTC.
        allowed_hosts: hosts a mailbox may name although they resolve to private addresses.
        lookups: the DNS.
        mx_port: where mail servers take mail from each other.
        autoconfig_urls: where a `{domain}` publishes its mail settings.
        max_mail_bytes: the largest message we accept for sending.
        registrations: app registrations, and whose directory is whose.
        endpoints: where the cloud providers are, for `Connection`.
        public_url: where browsers and providers reach us; `return_urls`: where a browser may be sent back to.
        rules: what this process remembers of the organisations' rules, and until when; see `relaying`.
        tallies: the counts of their mails as this process wrote them last.
        shares: what is under way in this process.
        longest_job, longest_request: seconds that they may wait for mail servers and providers.
        put_back: jobs that it has put back, and until when; see `working`.
        health: what the last look at every part found.
    """

    records: Records
    blobs: Blobs
    queues: Queues
    schedule: Schedule
    vault: Vault
    keys: Keys
    grants: Grants
    provider: Providers
    clock: Callable[[], datetime]
    registrations: Registrations
    endpoints: Mapping[str, str] = field(default_factory=dict)
    public_url: str = ""
    return_urls: tuple[str, ...] = ()
    allowed_hosts: frozenset[str] = frozenset()
    lookups: Lookups = field(default_factory=Lookups)
    autoconfig_urls: tuple[str, ...] = ()
    mx_port: int = 25
    max_mail_bytes: int = 35_000_000
    rules: dict[tuple[str, str], tuple[datetime, Rules]] = field(default_factory=dict)
    tallies: dict[tuple[str, str], Stored[Tally]] = field(default_factory=dict)
    shares: Shares = field(default_factory=Shares)
    longest_job: float = deadline.JOB
    longest_request: float = deadline.REQUEST
    put_back: dict[bytes, datetime] = field(default_factory=dict)
    health: Remembered = field(default_factory=Remembered)

    def receiving(
        self, org_id: str, mailbox: Mailbox, *, leased: bool = False
    ) -> AbstractContextManager[Receiver]:
        """Open the mailbox for reading; `leased` by who holds its lease. Raises Unsupported, Busy."""
        lane: Lane | None = None if leased else "live"
        return self._door(org_id, mailbox, mailbox.receives_with, "receiver", "read", lane)

    def searching(self, org_id: str, mailbox: Mailbox) -> AbstractContextManager[Searcher]:
        """Open the mailbox for its owner's live look. Raises Unsupported, Busy."""
        return self._door(org_id, mailbox, mailbox.receives_with, "searcher", "search", "live")

    def sent_folder(self, org_id: str, mailbox: Mailbox) -> AbstractContextManager[SentFolder]:
        """Open the mailbox's Sent folder. Raises Unsupported, Busy."""
        name = mailbox.receives_with
        return self._door(org_id, mailbox, name, "sent_folder", "show its Sent folder", "live")

    def has_sent_folder(self, mailbox: Mailbox) -> bool:
        """Whether the receiving side can look into, and file into, Sent."""
        name = mailbox.receives_with
        return name is not None and self.provider(name).sent_folder is not None

    def sending(
        self, org_id: str, mailbox: Mailbox, leaving: list[Write] | None = None
    ) -> AbstractContextManager[Sender]:
        """Open the mailbox for sending. Raises Unsupported where it only reads, Busy.

        `leaving` takes what the caller has to write after a success (see `turns`).
        """
        return self._door(org_id, mailbox, mailbox.sends_with, "sender", "send", "send", leaving)

    def drafting(self, org_id: str, mailbox: Mailbox) -> AbstractContextManager[Drafter]:
        """Open the mailbox for drafts. Raises Unsupported where its sending provider has none."""
        return self._door(org_id, mailbox, mailbox.sends_with, "drafter", "keep drafts", "live")

    def pushing(self, org_id: str, mailbox: Mailbox) -> AbstractContextManager[Pusher]:
        """Open the mailbox for its push. Raises Unsupported where its provider has none."""
        return self._door(org_id, mailbox, mailbox.receives_with, "pusher", "be pushed", None)

    def has_push(self, mailbox: Mailbox) -> bool:
        """Whether the receiving side can tell us of new mail."""
        name = mailbox.receives_with
        return name is not None and self.provider(name).pusher is not None

    def connection(
        self, org_id: str, mailbox: Mailbox, name: str, credential: Callable[[], Credential] | None = None
    ) -> Connection:
        """Gather what the provider needs; `credential` replaces the stored grant while one is being tried."""
        return Connection(
            address=mailbox.address,
            settings={**mailbox.settings.get(name, {}), "folders": list(mailbox.folders)},
            credential=credential or (lambda: self.grants.credential(org_id, mailbox.id, name)),
            allowed_hosts=self.allowed_hosts,
            endpoints=self.endpoints,
            reads=mailbox.receives_with == name,
        )

    def _turn(
        self, org_id: str, mailbox_id: str, name: str, lane: Lane | None, leaving: list[Write] | None
    ) -> AbstractContextManager[None]:
        """Wait for a turn where the provider's mailboxes need that."""
        if lane is None or not self.provider(name).takes_turns:
            return nullcontext()
        return turns.taken(self.records, self.clock, org_id, mailbox_id, lane, leaving)

    @contextmanager
    def _door[S: _Session](
        self,
        org_id: str,
        mailbox: Mailbox,
        name: str | None,
        power: str,
        verb: str,
        lane: Lane | None,
        leaving: list[Write] | None = None,
    ) -> Iterator[S]:
        make: Callable[[Connection], S] | None = getattr(self.provider(name), power) if name else None
        if name is None or make is None:
            raise Unsupported(f"This mailbox cannot {verb}.", fix="Choose another provider for it.")
        sign_in = self.grants.signing_in(org_id, mailbox.id, name)
        session = make(self.connection(org_id, mailbox, name, sign_in.credential))
        try:
            with self._turn(org_id, mailbox.id, name, lane, leaving):
                yield session
        except ConsentRequired as refusal:
            if power == "pusher" and refusal.reason == "no_access":
                raise  # a mailbox has too many pushes, or may have none: the token is good
            if sign_in.refused():
                # what we remembered may be outdated by a reconnect elsewhere: only a fresh one counts
                raise Temporary("The sign-in is being read again.", retry_after=1) from refusal
            raise
        finally:
            session.close()
