"""What simulators of mail systems do with raw mails; headers change without a new serialisation."""

import re
import smtplib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from email.policy import SMTP
from email.utils import getaddresses

from sandbox.bounces import delivery_report
from sandbox.clerk import NAME

AS_READ = SMTP.clone(refold_source="none")
"""How mails are read that are written again: the stdlib else folds long headers anew, and changes them."""


def head(raw: bytes) -> Message:
    """Return a mail's headers, without a look at its body."""
    return message_from_bytes(re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0] + b"\r\n\r\n")


def recipients(message: Message) -> list[str]:
    """Return every address a mail goes to, once, as it is spelled first."""
    values = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    named: dict[str, str] = {}
    for _, address in getaddresses(values):
        named.setdefault(address.lower(), address)
    return list(filter(None, named.values()))


def without(raw: bytes, *names: str) -> bytes:
    """Return the mail without headers whose name matches one of these patterns; every other byte stays."""
    head, gap, body = raw.partition(b"\r\n\r\n")
    for name in names:
        head = _pattern(name).sub(b"", head + b"\r\n").removesuffix(b"\r\n")
    return head + gap + body


def replaced(raw: bytes, name: str, value: str) -> bytes:
    """Return the mail with this header: in the place of the old one, else on top."""
    line = f"{name}: {value}\r\n".encode()
    head, gap, body = raw.partition(b"\r\n\r\n")
    changed, times = _pattern(name).subn(lambda _: line, head + b"\r\n", count=1)
    if not times:
        changed = line + changed
    return changed.removesuffix(b"\r\n") + gap + body


def hand_over(mx: tuple[str, int], sender: str, to: list[str], raw: bytes) -> Iterator[bytes]:
    """Send a mail by SMTP; yields a delivery report for every recipient that is refused."""
    with smtplib.SMTP(*mx, timeout=20) as smtp:
        try:
            refused: Iterable[str] = smtp.sendmail(sender, to, raw)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except smtplib.SMTPDataError:  # too large, or lines too long
            refused = to
    for recipient in refused:
        yield delivery_report(sender, recipient, raw)


def trace(by: str, at: datetime | None = None) -> bytes:
    """Return the Received header of a system that takes a mail in."""
    return f"Received: from {NAME} by {by}; {date_822(at)}\r\n".encode()


def date_822(at: datetime | None = None) -> str:
    """Return a time as in Date."""
    return (at or datetime.now(UTC)).strftime("%a, %d %b %Y %H:%M:%S +0000")


def _pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?im)^" + name.encode() + rb":[^\r]*(?:\r\n[ \t][^\r]*)*\r\n")
