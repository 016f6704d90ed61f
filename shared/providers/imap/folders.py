"""Which folder is for what: what the server says (RFC 6154), else its name."""

from collections.abc import Iterable
from typing import Literal

from shared.providers.base import Folder

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
    "drafts": "drafts | entwürfe | brouillons | borradores | bozze | concepten",
    "trash": """
        trash | deleted | deleted items | deleted messages | papierkorb | gelöschte elemente
        | gelöschte objekte | corbeille | éléments supprimés | papelera | elementos eliminados | cestino
        | prullenbak""",
    "junk": "junk | junk e-mail | junk email | spam | bulk mail | indésirables | correo no deseado",
}
"""What servers and mail programs call them in practice."""


def named(name: str) -> str:
    """Return the folder's name as we compare it."""
    return INBOX if name.upper() == INBOX else name


def folders(listed: Iterable[Listed], sent: str = "") -> list[Folder]:
    """Give the folders that can be opened their roles.

    Args:
        listed: what LIST answered, names decoded.
        sent: the Sent folder's name where somebody configured it; then no other one is.
    """
    lines = [(named(name), delimiter, {a.decode().lower() for a in told}) for told, delimiter, name in listed]
    told = {_USES[attribute] for _, _, attributes in lines for attribute in attributes & _USES.keys()}
    told |= {"sent"} if sent else set()
    by_name = {
        word.strip(): role for role, words in _NAMES.items() if role not in told for word in words.split("|")
    }
    found = []
    for name, delimiter, attributes in lines:
        last = name.rsplit(delimiter.decode(), 1)[-1] if delimiter else name
        use = next((_USES[attribute] for attribute in attributes & _USES.keys()), None)
        role: Role | None = "inbox" if name == INBOX else use or by_name.get(last.casefold())
        if sent:
            role = "sent" if name == sent else None if role == "sent" else role
        if not attributes & _CLOSED:
            found.append(Folder(name, role))
    return found
