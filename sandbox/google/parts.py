"""The parts of a mail as Gmail counts and reads them."""

import html
import re
from collections.abc import Iterable
from email.message import Message

from sandbox.google.headers import filename


def content(part: Message) -> bytes:
    """Return a part's bytes: text as UTF-8, a nested mail as it lies there."""
    if part.is_multipart():
        nested = part.get_payload()
        return b"\r\n".join(one.as_bytes() for one in nested if isinstance(one, Message))
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    if part.get_content_maintype() != "text" or filename(part):
        return data
    try:
        return data.decode(part.get_content_charset("utf-8")).encode()
    except (LookupError, ValueError):
        return data


def text_of(message: Message) -> str:
    """Return the words of a mail on one line."""
    for part in message.walk():
        if part.get_content_maintype() == "text" and not filename(part):
            text = content(part).decode(errors="replace")
            if part.get_content_subtype() == "html":
                text = html.unescape(re.sub(r"(?s)<(style|script).*?</\1>|<[^>]*>", " ", text))
            return " ".join(text.split())
    return ""


def walk(part: Message, number: str) -> Iterable[tuple[str, Message]]:
    """Return every part with its number: "" is the mail, "0.1" the second part of its first."""
    yield number, part
    if part.is_multipart():
        prefix = f"{number}." if number else ""
        for n, one in enumerate(part.get_payload()):
            if isinstance(one, Message):
                yield from walk(one, f"{prefix}{n}")


def shown_name(part: Message) -> str:
    """Return the file name that Gmail shows; a nested mail without one has one, too."""
    return filename(part) or ("noname.eml" if part.get_content_type() == "message/rfc822" else "")
