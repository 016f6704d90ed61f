"""Which folder is for what: by the settings, else the server's word (RFC 6154), else its name."""

from collections.abc import Callable, Iterable
from typing import Literal

from shared.errors import Rejected
from shared.providers.base import Folder
from shared.providers.imap.headers import Headers
from shared.providers.imap.namespaces import Namespaces

Role = Literal["inbox", "sent", "drafts", "trash", "junk", "archive", "all", "flagged"]
Listed = tuple[Iterable[bytes], bytes | None, str]
"""One line of LIST: attributes, delimiter, name."""

INBOX = "INBOX"
"""Its name in any case (RFC 3501 §5.1)."""

_USES: dict[str, Role] = {
    "\\sent": "sent",
    "\\drafts": "drafts",
    "\\trash": "trash",
    "\\junk": "junk",
    "\\archive": "archive",
    "\\all": "all",
    "\\flagged": "flagged",
}
_CLOSED = {"\\noselect", "\\nonexistent"}
_NAMES: dict[Role, str] = {
    "sent": """
        sent | sent items | sent messages | sent mail | sent-mail | gesendet | gesendete | gesendete elemente
        | gesendete objekte | gesendete nachrichten | envoyés | éléments envoyés | messages envoyés | enviados
        | elementos enviados | itens enviados | posta inviata | inviata | verzonden | verzonden items
        | verzonden berichten | skickat | sendt | sendte elementer | lähetetyt | wysłane | odeslané | odoslané
        | elküldött elemek | отправленные | надіслані | gönderilmiş öğeler | 已发送 | 已發送 | 已发送邮件
        | 送信済み | 보낸편지함""",
    "drafts": """
        drafts | draft | entwürfe | brouillons | borradores | rascunhos | bozze | concepten | utkast | kladder
        | luonnokset | wersje robocze | kopie robocze | szkice | koncepty | piszkozatok | черновики | чернетки
        | taslaklar | 草稿 | 草稿箱 | 草稿匣 | 下書き | 임시보관함""",
    "trash": """
        trash | deleted | deleted items | deleted messages | papierkorb | gelöschte elemente
        | gelöschte objekte | corbeille | éléments supprimés | papelera | elementos eliminados | cestino
        | prullenbak""",
    "junk": "junk | junk e-mail | junk email | spam | bulk mail | indésirables | correo no deseado",
}
"""What servers and mail programs call them in practice."""


def _named(name: str) -> str:
    """Return the folder's name as we compare it."""
    return INBOX if name.upper() == INBOX else name


def with_roles(
    listed: Iterable[Listed], sent: str = "", is_others: Callable[[str], bool] = lambda _: False
) -> list[Folder]:
    """Give the folders that can be opened their roles; those of other people have none here.

    Args:
        listed: what LIST answered, names decoded.
        sent: the Sent folder's name where somebody configured it; then no other one is.
        is_others: whether a folder is another's.
    """
    lines = [
        (_named(name), delimiter, {a.decode("latin-1").lower() for a in told})
        for told, delimiter, name in listed
    ]
    theirs = {name for name, _, _ in lines if name != INBOX and is_others(name)}
    told = {
        _USES[attribute]
        for name, _, attributes in lines
        for attribute in attributes & _USES.keys()
        if name not in theirs
    }
    told |= {"sent"} if sent else set()
    by_name = {
        word.strip(): role for role, words in _NAMES.items() if role not in told for word in words.split("|")
    }
    found = []
    for name, delimiter, attributes in lines:
        last = name.rsplit(delimiter.decode("latin-1"), 1)[-1] if delimiter else name
        use = next((_USES[attribute] for attribute in attributes & _USES.keys()), None)
        role: Role | None = "inbox" if name == INBOX else use or by_name.get(last.casefold())
        role = None if name in theirs else role
        if sent:
            role = "sent" if name == sent else None if role == "sent" else role
        if not attributes & _CLOSED:
            found.append(Folder(name, role))
    return found


class Mailbox(Headers):
    """A session that knows its folders."""

    _namespaces: Namespaces | None = None

    def folders(self) -> list[Folder]:
        """See `Searcher.folders`. Those of other people are shown: they can be chosen."""
        return with_roles(self.listed(), self.configured_sent(), self._is_others)

    def looked_into(self) -> list[Folder]:
        """Return the folders that mail is looked for in: those of other people where somebody named them."""
        named = {INBOX, *self.asked_for()}
        return [one for one in self.folders() if one.name in named or not self._is_others(one.name)]

    def _is_others(self, folder: str) -> bool:
        """Whether a folder is another's, as far as the server tells: asked once, and only with LIST."""
        if self._namespaces is None:
            offered = self.ask(lambda client: client.has_capability("NAMESPACE"))
            try:
                told = self.ask(lambda client: client.namespace()) if offered else ()
            except Rejected:
                told = ()
            self._namespaces = Namespaces.of(told) if told else Namespaces()
        return self._namespaces.is_others(folder)

    def configured_sent(self) -> str:
        """Name the Sent folder that the settings name, or ""."""
        return str(self.settings.get("sentFolder") or "")

    def chosen(self) -> list[str]:
        """Name the folders chosen besides Inbox and Sent."""
        chosen = self.settings.get("folders")
        return [_named(str(name)) for name in chosen] if isinstance(chosen, list | tuple) else []

    def asked_for(self) -> list[str]:
        """Name the folders that somebody named, the Sent folder of the settings included."""
        return [name for name in dict.fromkeys([*self.chosen(), _named(self.configured_sent())]) if name]

    def watched(self, sent: str) -> list[str]:
        """Name what is read, Sent first: our own mail is known before its answer is seen."""
        return [name for name in dict.fromkeys([sent, INBOX, *self.chosen()]) if name]

    def sent(self) -> str:
        """Name the Sent folder, or "". Of several, the one with most mail is the one in use."""
        if self.configured_sent():
            return self.configured_sent()
        found = [folder.name for folder in self.folders() if folder.role == "sent"]
        return max(found, key=self._count) if len(found) > 1 else "".join(found)

    def opens(self, folder: str) -> bool:
        """Open a folder; False where there is none. Raises Rejected where it is there and does not open."""
        try:
            self.examine(folder)
        except Rejected:
            if folder in {one.name for one in self.folders()}:
                raise
            return False
        return True

    def _count(self, folder: str) -> int:
        """Count its mails; of what may be listed and not read, none are in use."""
        try:
            told = self.ask_of(folder, lambda client: client.folder_status(folder, ["MESSAGES"]))
        except Rejected:
            return 0
        return int(told.get(b"MESSAGES", 0))
