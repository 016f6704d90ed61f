"""The folders of a mailbox: which are read, which are only looked into, and what they are called."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from exchangelib.properties import FolderId

from shared.providers.ews.calls import Folder, Session
from shared.providers.ews.finding import Place

ROLES = {
    "inbox": "inbox",
    "sentitems": "sent",
    "drafts": "drafts",
    "deleteditems": "trash",
    "junkemail": "junk",
    "outbox": "outbox",
}
"""Exchange's distinguished names, and what we call their roles."""

SKIPPED = {"drafts", "deleteditems", "junkemail", "outbox"}
"""Unfinished, deleted or unwanted mail, in them or in a folder below."""

FOLLOWED = ("sentitems", "inbox")
MAIL = ("ipf.note", "ipf.imap")
"""Classes of mail folders: the second one's were dragged or imported from an IMAP profile of Outlook's."""


@dataclass(frozen=True)
class Layout:
    """The mail folders of a mailbox, but those of unfinished, deleted or unwanted mail.

    Attributes:
        watched: what is to be followed: name -> folder, Sent first.
        chosen: those of them that were chosen besides Inbox and Sent: name -> id.
        names: id -> name, of all; no two have the same.
        mail: all of these.
        missing: those that were chosen and are not there.
        bounded: whether the others give nothing but what quotes an id of ours, or nothing at all.
        closed: whether the others are never looked into.
    """

    watched: Mapping[str, Place]
    chosen: Mapping[str, str]
    names: Mapping[str, str]
    mail: Sequence[Folder]
    missing: tuple[str, ...]
    bounded: bool
    closed: bool

    def changed(self, since: datetime, but: Collection[str]) -> list[str]:
        """Return the ids of those of `others` where something changed since, or may have."""
        others = {*self.others(but)}
        changed = [one for one in self.mail if one.changed_at is None or one.changed_at >= since]
        return [one.id for one in changed if one.id in others]

    def others(self, but: Collection[str]) -> list[str]:
        """Return the ids of the folders but those with these names."""
        return [one.id for one in self.mail if self.names[one.id] not in but]

    @property
    def everything(self) -> list[Place]:
        """Return all that may be looked into."""
        others = [id_ for id_, name in self.names.items() if name not in self.watched]
        return [*self.watched.values(), *places([] if self.closed else others)]


class Folders(Session):
    """A mailbox that knows its folders."""

    def chosen(self) -> list[str]:
        """Return the folders that are read besides Inbox and Sent, by their paths."""
        return cast("list[str]", self.settings.get("folders") or [])

    def paths(self) -> list[tuple[str, Folder, set[str]]]:
        """Return all mail folders: path (`Projects/2026`), folder, the roles of it and of those above."""
        every = self.tree()
        roles = self._roles(every)
        by_id = {one.id: one for one in every}
        found = []
        for one in every:
            if not one.kind or one.kind.lower().startswith(MAIL):
                way = _way(one, by_id)
                path = "/".join(above.name for above in way)
                found.append((path, one, {roles.get(above.id, "") for above in way}))
        return found

    def layout(self) -> Layout:
        """Ask for the folders and sort them out."""
        mail = [(path, one, roles) for path, one, roles in self.paths() if roles.isdisjoint(SKIPPED)]
        names = _names(mail)
        found = {one.id: path for path, one, _ in mail if path in self.chosen()}
        chosen = {names[id_]: id_ for id_ in found if names[id_] not in FOLLOWED}
        watched = {name: self.known(name) for name in FOLLOWED}
        watched |= {name: FolderId(id=id_) for name, id_ in chosen.items()}
        missing = tuple(name for name in self.chosen() if name not in found.values())
        closed = self.settings.get("otherFolders") == "never"
        every = [one for _, one, _ in mail]
        return Layout(watched, chosen, names, every, missing, closed or bool(self.chosen()), closed)

    def _roles(self, every: Sequence[Folder]) -> dict[str, str]:
        """Return folder id -> distinguished name; servers before 2016 do not tell it with the folder."""
        told = {one.id: one.role for one in every if one.role in ROLES}
        return told or {id_: name for name, id_ in self.folder_ids(list(ROLES)).items()}


def places(ids: Iterable[str]) -> list[Place]:
    """Name folders by their ids, as requests do."""
    return [FolderId(id=id_) for id_ in ids]


def _names(mail: Iterable[tuple[str, Folder, set[str]]]) -> dict[str, str]:
    """Name folders, each otherwise: id -> name. One may be called `Projects/2026`, and another lie there."""
    ids: dict[str, str] = {}
    for path, one, roles in sorted(mail, key=lambda each: each[1].id):
        name = _name(path, roles)
        while name in ids:
            name = f"/{name}"
        ids[name] = one.id
    return {id_: name for name, id_ in ids.items()}


def _name(path: str, roles: set[str]) -> str:
    """Name a folder by its path; where that is how we call Inbox or Sent, as no path begins."""
    return next((role for role in FOLLOWED if roles == {role}), f"/{path}" if path in FOLLOWED else path)


def _way(one: Folder, by_id: Mapping[str, Folder]) -> list[Folder]:
    """Return the folders from the top down to this one."""
    way = [one]
    while (above := by_id.get(way[0].parent)) and above not in way:
        way.insert(0, above)
    return way
