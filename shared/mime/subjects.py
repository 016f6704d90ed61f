"""What makes two mails the same, and two subjects one topic. Pure."""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime

from shared.mime.addresses import claimed
from shared.mime.charsets import clean
from shared.mime.envelopes import LONGEST_LINE
from shared.model import Envelope, digest

_REPLY = "re|aw|antw|antwort|sv|vs|ref|rif|r|res|odp|ynt|回复|答复"
_FORWARD = "fw|fwd|wg|tr|rv|i|enc|doorst|vl|转发"
_COUNT = r"\s?(?:\[\d{1,3}\]|\(\d{1,3}\))?\s*[:：]"  # noqa: RUF001 - the full-width colon of Chinese clients
_TAG = r"\[[^\[\]]{0,80}\]|\*{2,}\s?spam\s?\*{2,}"  # lists and gateways: [name], [EXTERN], *** SPAM ***
_PREFIX = re.compile(rf"\s*(?:(?:{_REPLY}|{_FORWARD}){_COUNT}|{_TAG})\s*", re.IGNORECASE)
_FORWARDED = re.compile(rf"\s*(?:(?:{_TAG})\s*)*(?:{_FORWARD}){_COUNT}", re.IGNORECASE)
_ANSWERED = re.compile(rf"\s*(?:(?:{_TAG})\s*)*(?:{_REPLY}|{_FORWARD}){_COUNT}", re.IGNORECASE)
_TAGS = re.compile(_TAG, re.IGNORECASE)

_EXCHANGES = re.compile(r"[^\W\d_]{1,3}:\s+")
"""What Exchange takes for a prefix: MS-OXCMSG 2.2.1.9, PidTagSubjectPrefix."""

_BEGINS, _GUID, _TOPIC = 22, 16, 255
"""Octets of a Thread-Index that begins a conversation (five more with each answer) and of a GUID; a topic's
characters."""


def base_subject(subject: str) -> str:
    """Return the topic: reply and forward prefixes and list tags off, NFKC, case folded."""
    text = " ".join(unicodedata.normalize("NFKC", subject).split())
    place = 0
    while match := _PREFIX.match(text, place):
        place = match.end()
    return text[place:].casefold()


def is_forward(subject: str) -> bool:
    """Whether the subject's first prefix says that the mail was forwarded (Fwd, WG, TR, ...)."""
    return _FORWARDED.match(unicodedata.normalize("NFKC", subject)) is not None


def is_answer(subject: str) -> bool:
    """Whether its first prefix says that a mail answers or forwards one; a list's tag does not."""
    return _ANSWERED.match(unicodedata.normalize("NFKC", subject)) is not None


def names_parent(envelope: Envelope) -> bool:
    """Whether the headers say that a mail answers one, known or not; its own id, repeated, says nothing."""
    index = "".join(envelope.headers.get("thread-index", ())[:1]).strip().rstrip("=")
    return bool({*ancestors(envelope)} - {envelope.message_id}) or len(index) * 3 // 4 > _BEGINS


def ancestors(envelope: Envelope) -> list[str]:
    """Return the ids that a mail names, nearest first (RFC 5322 §3.6.4).

    In-Reply-To names the parent, wherever that stands among the References.
    """
    answered = filter(None, [envelope.in_reply_to])
    return list(dict.fromkeys([*answered, *reversed(envelope.references)]))


def is_topics(thread: str, subject: str) -> bool:
    """Whether a thread's id is made of the subject alone, so that unrelated mails share it.

    So does Exchange with mail that has no Thread-Index: it is the MD5 of the topic in capitals, as UTF-16
    (MS-OXOMSG 2.2.1.2), at the end of what Graph and EWS show. Other systems' ids are none.
    """
    try:
        id_ = base64.b64decode(thread.replace("-", "+").replace("_", "/") + "==")
    except ValueError:
        return False
    return id_[-_GUID:] in {
        hashlib.md5(_capitals(topic[:_TOPIC]), usedforsecurity=False).digest() for topic in _topics(subject)
    }


def _topics(subject: str) -> Iterator[str]:
    """Yield what Exchange may take for the topic: clients differ in how many prefixes they take off."""
    yield (rest := subject.strip()[:LONGEST_LINE])
    while match := _EXCHANGES.match(rest):
        yield (rest := rest[match.end() :])


def _capitals(topic: str) -> bytes:
    upper = "".join(one.upper() if len(one.upper()) == 1 else one for one in topic)
    return upper.encode("utf-16-le", "surrogatepass")[: 2 * _TOPIC]


def fingerprint(envelope: Envelope) -> str:
    """Recognise copies of one mail whatever relays did to it.

    From address, Date to the second and subject; not the Message-ID, Received or [list tags].
    """
    person = claimed(envelope)
    sender = person.address if person else " ".join(envelope.headers.get("from", ()))
    seconds = str(int(envelope.sent_at.timestamp())) if envelope.sent_at else ""
    return digest(sender.lower(), seconds, _untagged(envelope.subject))


def fingerprint_of(sender: str, date: datetime, subject: str) -> str:
    """Return the fingerprint that a mail of ours has, by its From address, Date and subject."""
    return digest(sender.lower(), str(int(date.timestamp())), _untagged(subject))


def synthetic_id(envelope: Envelope) -> str:
    """Make a stable stand-in for a missing Message-ID: the same for every copy, nobody else's.

    Without a Date, when the provider took it in tells two equal mails apart.
    """
    moment = envelope.sent_at or envelope.received_at
    return "<{}@synthetic.invalid>".format(
        digest(
            fingerprint(envelope),
            moment.isoformat() if moment else "",
            envelope.subject,
            *sorted(person.address for person in envelope.recipients),
        )
    )


def _untagged(subject: str) -> str:
    subject = clean(subject)[:LONGEST_LINE]
    return " ".join(_TAGS.sub(" ", subject).split())
