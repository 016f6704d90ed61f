"""Reading headers as Gmail does, and base64url as it writes it."""

import base64
import re
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message

PREFIX = re.compile(r"^\s*(?:(?:re|aw|antw|fw|fwd|wg|sv|vs)\s*(?:\[\d+\])?\s*:\s*)+", re.IGNORECASE)


def ids(value: object) -> list[str]:
    """Return the Message-IDs in a header's value."""
    return re.findall(r"<[^<>\s]+>", str(value or ""))


def decoded(value: object) -> str:
    """Return a header's value unfolded and decoded, as Gmail shows it."""
    text = re.sub(r"\r?\n(?=[ \t])", "", str(value or ""))
    try:
        return str(make_header(decode_header(text)))
    except (LookupError, ValueError, MessageError):
        return text


def filename(part: Message) -> str:
    """Return a part's file name, or an empty string; broken RFC 2231 counts as none (cpython#105802)."""
    try:
        name = part.get_filename()
    except (TypeError, ValueError, LookupError):
        name = None
    return decoded(name) if name else ""


def base_subject(message: Message) -> str:
    """Return the subject without Re: and the like, for comparison."""
    return " ".join(PREFIX.sub("", decoded(message.get("Subject"))).lower().split())


def b64(data: bytes) -> str:
    """Return base64url as Gmail writes it, padded."""
    return base64.urlsafe_b64encode(data).decode()


def unb64(text: str) -> bytes:
    """Return the bytes of base64url, padded or not. Raises ValueError."""
    plain = text.replace("+", "-").replace("/", "_").rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9_-]*", plain) or len(plain) % 4 == 1:
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
