"""Making an envelope of what Exchange tells of a mail: its headers as they came, else its properties."""

import base64
from collections.abc import Iterator

from shared import mime
from shared.model import Envelope
from shared.providers.ews.xml import Element, extended, id_of, moment, octets, text, texts


def envelope(item: Element, *, folder: str = "", sent: bool = False) -> Envelope:
    """Make an envelope.

    Mail that never came through transport, such as Sent mail, has no headers: its properties stand in.
    """
    block = extended(item).replace("\r\n", "\n").strip("\n").replace("\n", "\r\n")
    there = {line.partition(":")[0].lower() for line in block.splitlines() if line[:1].strip()}
    lines = [block] if block else []
    lines += [f"{name}: {value}" for name, value in _known(item) if value and name.lower() not in there]
    return mime.envelope(
        "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n",
        ref=id_of(item, "ItemId"),
        folder=folder,
        is_sent=sent,
        size=octets(text(item, "Size")),
        received_at=moment(text(item, "DateTimeReceived")),
        thread=id_of(item, "ConversationId") or None,
    )


def is_draft(item: Element) -> bool:
    """Whether it is still being written."""
    return text(item, "IsDraft") == "true"


def _known(item: Element) -> Iterator[tuple[str, str]]:
    sent_at = moment(text(item, "DateTimeSent"))
    yield "Message-ID", _line(text(item, "InternetMessageId"))
    yield "In-Reply-To", _line(text(item, "InReplyTo"))
    yield "References", _line(text(item, "References"))
    yield "Subject", _word(text(item, "Subject"))
    yield "Date", sent_at.strftime("%a, %d %b %Y %H:%M:%S +0000") if sent_at else ""
    yield "From", _people(item, "From")
    yield "Sender", _people(item, "Sender")
    yield "To", _people(item, "ToRecipients")
    yield "Cc", _people(item, "CcRecipients")


def _people(item: Element, name: str) -> str:
    """Only SMTP addresses: others (EX:/o=…) are no addresses to anybody outside."""
    addresses = (_line(one) for one in texts(item, f"{name}/Mailbox/EmailAddress"))
    return ", ".join(f"<{one}>" for one in addresses if "@" in one)


def _line(value: str) -> str:
    return " ".join(value.split())


def _word(value: str) -> str:
    """Write text as an encoded word (RFC 2047), so that nothing in it is taken for one."""
    line = _line(value)
    return f"=?utf-8?b?{base64.b64encode(line.encode('utf-8', 'replace')).decode()}?=" if line else ""
