"""What makes two mails the same, and two subjects one topic. Pure."""

import re
import unicodedata
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
_TAGS = re.compile(_TAG, re.IGNORECASE)


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
