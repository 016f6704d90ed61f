"""Bounces and read receipts: about which message, which recipient, and in whose words. Pure.

RFC 3464 (delivery status), RFC 8098 (disposition), RFC 6522 (multipart/report). Real ones break the
block structure, so fields are regrouped by recipient; fields of different recipients never mix.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from shared.identity import BEGINNING, is_like_ours
from shared.mime import addresses, envelopes
from shared.mime.charsets import clean, decode_words
from shared.mime.classifying import classify
from shared.mime.parsing import parse
from shared.mime.structure import Part, parts

LONGEST_DIAGNOSTIC = 500

MOST_PARTS, LONGEST_PART = 8, 64 * 1024
"""So many parts of a report are read, and so many octets of each: two, of some kB, tell what it is about."""

LONGEST, MOST_BLOCKS = 256 * 1024, 1000
"""So much is read of all of them together: a block a recipient. A stranger's report may have any size."""

OURS = BEGINNING
"""What a server that searches can be asked for, to learn whether a bounce quotes a Message-ID of ours."""

_ACTIONS = {"2": "delivered", "4": "delayed", "5": "failed"}
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_REPLY = re.compile(
    r"^.*(?<![\d.])[45]\d\d[ -].*$|^.*(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.]).*$", re.MULTILINE
)
_RETURNED = {
    "message/rfc822",
    "text/rfc822-headers",
    "message/rfc822-headers",
    "text/rfc822",
    "message/global",
}
_STATUSES = {"message/delivery-status", "message/global-delivery-status"}
_DISPOSITIONS = {"message/disposition-notification"}
_RECIPIENTS = ("original-recipient", "final-recipient")
_QUOTED_ID = re.compile(r"^[> \t]*Message-ID:\s*(<[^<>\s]{3,990}>)", re.IGNORECASE | re.MULTILINE)
_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})")
_QMAIL = re.compile(r"^<([^<>@\s]{1,64}@[^<>@\s]{1,255})>:\s*\n(.+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Recipient:
    """What happened to one recipient's copy.

    Attributes:
        action: failed, delayed, delivered, relayed, expanded (RFC 3464 section 2.3.3); displayed,
            deleted or another disposition for receipts.
        status: such as 5.1.1 (RFC 3463), or "".
        diagnostic: the server's words, at most 500 characters.
    """

    address: str
    action: str
    status: str = ""
    diagnostic: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a bounce or receipt says; `message_ids` are of the mail it is about, best first, each once."""

    message_ids: tuple[str, ...]
    recipients: tuple[Recipient, ...]


def reported_ids(report: bytes) -> tuple[str, ...]:
    """Return the Message-IDs a report is about.

    Args:
        report: concatenated header blocks, as `Receiver.returned_headers` gives them.
    """
    blocks = list(_blocks(report))
    named = [value for block in blocks for value in block.get("original-message-id", ())]
    submitted = [_submitted(value) for block in blocks for value in block.get("original-envelope-id", ())]
    returned = [value for block in blocks for value in block.get("message-id", ())]
    own = map(_own_reference, blocks)
    return envelopes.message_ids(*named, *filter(None, submitted), *returned, *filter(None, own))


def returned_references(report: bytes) -> tuple[str, ...]:
    """Return what the returned mail itself answers or follows: proof that the reporter had that mail.

    Args:
        report: as for `reported_ids`.
    """
    return tuple(id_ for block in _blocks(report) for id_ in envelopes.thread_ids(block)[0])


def _submitted(envelope_id: str) -> str:
    """Our mails are submitted under their Message-ID (`smtp`), in xtext (RFC 3461 §4); "" for others'."""
    message_id = f"<{_XTEXT.sub(lambda match: chr(int(match[1], 16)), envelope_id)}>"
    return message_id if is_like_ours(message_id) else ""


def _own_reference(block: envelopes.Headers) -> str:
    """Our mails repeat their own id at the end of References, for where a relay replaced the Message-ID."""
    references, _ = envelopes.thread_ids(block)
    answered = envelopes.message_ids(*block.get("in-reply-to", ()))
    return references[-1] if references and references[-1] not in answered else ""


def report(raw: bytes) -> Report | None:
    """Read a bounce or receipt; None for any other mail."""
    leaves = list(parts(raw, []))
    status = b"\n\n".join(_content(leaves, _STATUSES))
    disposition = b"\n\n".join(_content(leaves, _DISPOSITIONS))
    envelope = envelopes.envelope(raw, ref="")
    if not status and not disposition and classify(envelope) != "bounce":
        return None
    ids = reported_ids(returned_headers(raw))
    recipients = [*_failures(status), *_dispositions(disposition)]
    if recipients and ids:
        return Report(ids, tuple(recipients))
    text = parse(raw).text or ""
    quoted = tuple(dict.fromkeys(_QUOTED_ID.findall(text)))
    return Report(ids or quoted, tuple(recipients or _in_words(envelope.headers, text)))


def quoted_id(text: bytes) -> str | None:
    """Return the Message-ID of the mail that a bounce in words quotes, if it has the form of ours."""
    found = _QUOTED_ID.search(text.decode("latin-1"))
    return found[1] if found and is_like_ours(found[1]) else None


def returned_headers(raw: bytes) -> bytes:
    """Return the fields of a report and the headers of the mail it returns; empty where there are none."""
    leaves = list(parts(raw, []))
    fields = islice(_content(leaves, _STATUSES | _DISPOSITIONS), MOST_PARTS)
    returned = islice(_content(leaves, _RETURNED), MOST_PARTS)
    return b"\n\n".join([*map(beginning, fields), *map(head, map(beginning, returned))])


def beginning(part: bytes) -> bytes:
    """Return as much of a part as is read, which ends with a whole line."""
    return part if len(part) < LONGEST_PART else part[:LONGEST_PART].rpartition(b"\n")[0]


def head(mail: bytes) -> bytes:
    """Return the headers of a mail, and none of its text."""
    return mail[: envelopes.split(mail)[1]]


def has_returned_headers(raw: bytes) -> bool:
    """Whether the headers of the returned mail are there to their end, in a report that may be cut off."""
    returned = _content(list(parts(raw, [])), _RETURNED)
    return any(b"\n\n" in content.replace(b"\r", b"") for content in returned)


def _content(leaves: list[Part], types: set[str]) -> Iterator[bytes]:
    return (leaf.content()[0] for leaf in leaves if leaf.content_type in types)


def _blocks(data: bytes) -> Iterator[envelopes.Headers]:
    """Yield header blocks; a second recipient starts a new one even where the blank line is missing."""
    return islice(_all_blocks(data[:LONGEST]), MOST_BLOCKS)


def _all_blocks(data: bytes) -> Iterator[envelopes.Headers]:
    lines: list[bytes] = []
    seen: set[str] = set()
    for line in [*data.splitlines(), b""]:
        name = line.partition(b":")[0].strip().lower().decode("ascii", "replace")
        if (not line.strip() or (name in _RECIPIENTS and name in seen)) and lines:
            yield envelopes.split(b"\n".join(lines))[0]
            lines, seen = [], set()
        if line.strip():
            lines.append(line)
            seen.add(name)


def _failures(status: bytes) -> Iterator[Recipient]:
    """Group the fields by recipient; a block without one belongs to the recipient before it."""
    groups: list[dict[str, str]] = []
    for block in _blocks(status):
        fields = {name: values[0] for name, values in block.items()}
        if any(name in fields for name in _RECIPIENTS):
            groups.append(fields)
        elif groups:
            groups[-1] = fields | groups[-1]
    return (made for group in groups if (made := _recipient(group)))


def _recipient(fields: Mapping[str, str]) -> Recipient | None:
    """The recipient we wrote to comes before the one it was forwarded to (RFC 3464 section 2.3.1)."""
    address = next(filter(None, (_address(fields.get(name, "")) for name in _RECIPIENTS)), "")
    diagnostic = _words(
        fields.get("diagnostic-code", "").partition(";")[2] or fields.get("diagnostic-code", "")
    )
    found = _STATUS.search(fields.get("status", "")) or _STATUS.search(diagnostic)
    status = found[1] if found else ""
    action = clean(fields.get("action", "")).lower().partition(" ")[0] or _ACTIONS.get(status[:1], "")
    return Recipient(address, action, status, diagnostic) if address else None


def _dispositions(disposition: bytes) -> Iterator[Recipient]:
    for block in _blocks(disposition):
        address = _address(envelopes.first(block, "final-recipient"))
        how = envelopes.first(block, "disposition").rpartition(";")[2].partition("/")[0]
        if address:
            yield Recipient(address, clean(how).lower())


def _in_words(headers: envelopes.Headers, text: str) -> Iterator[Recipient]:
    """Read bounces without machine-readable part: Exim's and Gmail's header, qmail's paragraphs."""
    for match in _QMAIL.finditer(text):
        yield _told(match[1], match[2])
    if not _QMAIL.search(text):
        reply = _REPLY.search(text)
        for person in addresses.read(headers.get("x-failed-recipients", ())):
            yield _told(person.address, reply[0] if reply else "")


def _told(address: str, words: str) -> Recipient:
    found = _STATUS.search(words)
    status = found[1] if found else ""
    return Recipient(address.lower(), _ACTIONS.get(status[:1], "failed"), status, _words(words))


def _address(value: str) -> str:
    """Read `rfc822; user@host`."""
    found = addresses.read((value.partition(";")[2] or value,))
    return found[0].address if found else ""


def _words(text: str) -> str:
    return clean(decode_words(text))[:LONGEST_DIAGNOSTIC]
