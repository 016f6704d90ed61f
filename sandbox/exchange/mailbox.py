"""One mailbox of an Exchange server: as Graph's simulator keeps it, with ids that change with each move."""

import base64
import json
import secrets
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sandbox.exchange.soap import EwsError
from sandbox.graph import mailbox as online

MAIL, OTHER = "IPF.Note", {"calendar": "IPF.Appointment", "contacts": "IPF.Contact", "tasks": "IPF.Task"}


@dataclass
class Faults:
    """What may go wrong at this Exchange, on a switch; counted ones switch themselves off.

    Attributes:
        throttled: address -> so many of its next requests get ErrorServerBusy.
        back_off: milliseconds that ErrorServerBusy names, where it is not 0.
        unavailable: address -> so many of its next requests get 503, with Retry-After.
        lost_answers: so many of the next sends are carried out, and the connection then closed.
        lost_before: likewise, and nothing is done.
        hanging: addresses that are answered never, until they are taken out.
        half_closed: so many of the next requests find the server's half of the connection closed.
        trickling: so many of the next answers come in single bytes.
        flooding: so many of the next requests are refused as if nobody had signed in, with 200 MB of words.
        redirect: where every request is sent to.
        disabled: addresses whose account is disabled.
        errors: operation -> codes that its next calls are answered with.
        bad_mails: mail -> the code with which that one is refused wherever others are given.
        bad_contents: likewise, and its properties are shown.
        breaking: ids of mails with which every GetItem ends in a SOAP fault, whatever else it asks for; with
            `breaking_page` in a page of the web server's.
        closed: ids of folders that are listed and may not be opened: a colleague's rights end there.
        bare_errors: an error of SyncFolderItems comes without SyncState.
        rewrite_message_id: Exchange puts its own Message-ID in place of ours.
        rewrite_date: Exchange puts the time at which it took the mail in place of ours.
        forged: domains whose mail fails the checks of the sender.
    """

    throttled: dict[str, int] = field(default_factory=dict)
    back_off: int = 1500
    unavailable: dict[str, int] = field(default_factory=dict)
    lost_answers: int = 0
    lost_before: int = 0
    hanging: set[str] = field(default_factory=set)
    half_closed: int = 0
    trickling: int = 0
    flooding: int = 0
    redirect: str = ""
    disabled: set[str] = field(default_factory=set)
    errors: dict[str, list[str]] = field(default_factory=dict)
    bad_mails: dict[str, str] = field(default_factory=dict)
    bad_contents: dict[str, str] = field(default_factory=dict)
    breaking: set[str] = field(default_factory=set)
    breaking_page: bool = False
    closed: set[str] = field(default_factory=set)
    bare_errors: bool = False
    rewrite_message_id: bool = False
    rewrite_date: bool = False
    forged: set[str] = field(default_factory=set)

    def clear(self) -> None:
        """Switch everything off."""
        self.__init__()  # type: ignore[misc]  # as new

    def busy(self) -> EwsError:
        """Make the error of a server that is asked too often."""
        values = {"BackOffMilliseconds": str(self.back_off)} if self.back_off else {}
        return EwsError("ErrorServerBusy", "The server cannot service this request right now.", **values)


class Mailbox(online.Mailbox):
    """A mailbox.

    Attributes:
        above: what stands above all folders, the top folder included.
        touched: folder id -> when something in it changed last.
        headers_read: how often more of an item than its id and its time was given out, by immutable id.
        most_found: so many mails FindItem gives at once (EWSFindCountLimit).
        views: item -> what its properties are shown from.
        kinds: folder id -> what it is for, where that is not as usual.
        blanks: so many octets each sync state is longer than it need be.
    """

    def __init__(self, address: str) -> None:
        self.touched: dict[str, datetime] = {}
        self.headers_read: Counter[str] = Counter()
        self.views: dict[str, Any] = {}
        self.kinds: dict[str, str] = {}
        self.blanks = 0
        self.most_found = 1000
        self._by_id: dict[str, online.Item] = {}
        self._epoch = secrets.token_hex(4)
        super().__init__(address)
        self.above = online.Folder(online.new_id("AAMkR"), "", "root")
        for name in OTHER:
            self.add_folder(name.capitalize(), name)

    def place(self, key: str) -> online.Folder | None:
        """Return a folder by id or distinguished name."""
        if key in {self.above.id, "root"}:
            return self.above
        named = (one for one in self.folders.values() if one.well_known == key)
        return self.folders.get(key) or next(named, None)

    def parent(self, folder: online.Folder) -> online.Folder | None:
        """Return the folder above; None above the root."""
        if folder is self.above:
            return None
        return self.folders.get(folder.parent, self.above)

    def below(self, folder: online.Folder) -> list[online.Folder]:
        """Return the folders right below."""
        return [one for one in self.folders.values() if self.parent(one) is folder]

    def find(self, id_: str) -> online.Item | None:
        """Return a mail by the id it has now."""
        item = self._by_id.get(id_)
        return item if item and item.moving_id == id_ and item.id in self.items and item.visible else None

    def lose_sync_states(self) -> None:
        """Know none of the sync states any more that were given out, as after a restored backup."""
        self._epoch = secrets.token_hex(4)

    def sync(self, folder: str, state: str, most: int) -> tuple[list[online.Change], str, bool]:
        """Return what changed in a folder since then, the new state, and whether it is all. Raises EwsError.

        A mail is named once, by what became of it last; one that came is created, whatever else happened.
        """
        after = self._number(folder, state)
        with self.lock:
            last: dict[str, online.Change] = {}
            for change in self.changes:
                if change.folder == folder and change.number > after:
                    came = change.kind == "updated" and change.item in last
                    last[change.item] = last[change.item] if came else change
            ordered = sorted(last.values(), key=lambda change: change.number)
            news = [change for change in ordered if state or change.kind in {"created", "updated"}]
            complete = len(news) <= most
            number = (
                max((one.number for one in self.changes), default=0) if complete else news[most - 1].number
            )
            told = json.dumps([self._epoch, folder, number]).encode() + b" " * self.blanks
            return news[:most], base64.b64encode(told).decode(), complete

    def _number(self, folder: str, state: str) -> int:
        if not state:
            return 0
        try:
            epoch, of, number = json.loads(base64.b64decode(state))
        except ValueError:
            epoch, of, number = "", "", 0
        if (epoch, of) != (self._epoch, folder):
            raise EwsError("ErrorInvalidSyncStateData", "The synchronization state data is invalid or lost.")
        return int(number)

    def _log(self, item: online.Item, kind: Literal["created", "updated", "deleted", "changed"]) -> None:
        super()._log(item, kind)
        self._by_id[item.moving_id] = item
        self.touched[item.folder] = datetime.now(UTC)

    def changed_at(self, folder: online.Folder) -> datetime:
        """When something in it changed last (PidTagLocalCommitTimeMax)."""
        return self.touched.get(folder.id, datetime.now(UTC) - timedelta(days=365))

    def class_of(self, folder: online.Folder) -> str:
        """Return what a folder is for."""
        return self.kinds.get(folder.id) or OTHER.get(folder.well_known, MAIL)
