"""The bytes of a mail we send: RFC 5322, 7-bit, CRLF, the same for the same draft. Pure.

Built with the stdlib's older classes (policy compat32): its newer ones write References with an id of
78 characters or more as encoded words, which breaks the thread in Outlook (python/cpython#128603).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import encoders
from email.charset import QP, Charset
from email.generator import BytesGenerator
from email.header import Header
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime
from io import BytesIO
from urllib.parse import quote

from shared.errors import InvalidRequest
from shared.mime import addresses, envelopes
from shared.mime.charsets import clean
from shared.mime.files import safe_name
from shared.model import Address, digest

KEPT_REFERENCES = 20
"""The newest ones; the first is kept too (RFC 5322 section 3.6.4 allows to trim, readers need the ends)."""

NOBODY = ("To", "undisclosed-recipients:;")
"""The header of a mail whose readers are all hidden (RFC 5322 section A.1.3)."""

_POLICY = compat32.clone(linesep="\r\n", max_line_length=78)
_FOLD = "\r\n "
_ID = re.compile(r"<[!-;=?-~]{1,990}>")
CONTENT_TYPE = r'[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(\s*;\s*charset="?[\w:.+-]{1,40}"?)?'
_TYPE = re.compile(CONTENT_TYPE, re.ASCII)
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_CHUNK = 60
_LINE = 76
"""With the blank that begins it: an encoded word has at most 75 (RFC 2047 section 2)."""
_MARK = re.compile(r"[\x20-\x7e]{1,60}")

_PEOPLE_BESIDE = ("Reply-To", "Disposition-Notification-To")
_MARKS_BESIDE = ("Importance", "X-Priority", "Priority", "Sensitivity")
"""What whoever wrote a mail may have said beside; anything else of its headers is ours, or its program's."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file to attach."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A mail to compose. Bcc is not here on purpose: it belongs into the envelope only.

    Attributes:
        message_id: with angle brackets; repeated as the last of References, since providers rewrite
            the header.
        date: aware.
        references: of the answered mail and before, oldest first.
        written: a mail whose body goes out as it is, instead of the texts and files here, and with it
            where answers and receipts go, and how urgent or private it is.
    """

    message_id: str
    date: datetime
    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    text: str | None
    html: str | None
    in_reply_to: str | None
    references: tuple[str, ...]
    attachments: tuple[Part, ...]
    written: bytes | None = None


def compose(draft: Outgoing) -> bytes:
    """Write the mail. Raises InvalidRequest naming the field that must not go into a mail."""
    headers = dict(_headers(draft))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")
    content = _content(draft) if draft.written is None else envelopes.content(draft.written)
    raw = head + content
    _verify(raw, draft, {name.lower() for name in (*headers, *envelopes.split(content)[0])})
    return raw


def _headers(draft: Outgoing) -> Iterator[tuple[str, str]]:
    """Yield folded headers. Ids stay on the line of their name: some servers lose what begins on the next."""
    yield "From", _people([draft.sender], "from")
    if draft.to:
        yield "To", _people(draft.to, "to")
    if draft.cc:
        yield "Cc", _people(draft.cc, "cc")
    if not draft.to and not draft.cc:
        yield NOBODY
    yield "Subject", _subject(draft.subject)
    yield "Date", format_datetime(draft.date)
    yield "Message-ID", draft.message_id
    if draft.in_reply_to and _fits(draft.in_reply_to):
        yield "In-Reply-To", draft.in_reply_to
    yield "References", _FOLD.join(_references(draft))
    if draft.written is not None:
        yield from _beside(draft.written)


def _beside(written: bytes) -> Iterator[tuple[str, str]]:
    """Yield what else the mail's author said in its headers."""
    headers, _ = envelopes.split(written)
    for name in _PEOPLE_BESIDE:
        field = name.lower()
        if people := addresses.written(headers.get(field, ()), field):
            yield name, _people(people, field)
    for name in _MARKS_BESIDE:
        if mark := envelopes.first(headers, name.lower()):
            if not _MARK.fullmatch(mark):
                raise InvalidRequest("This header takes one plain word.", field=name.lower())
            yield name, mark


def _references(draft: Outgoing) -> list[str]:
    """The root, the newest twenty, and our own id last; ids that no header can carry are left out."""
    known = dict.fromkeys((*draft.references, draft.in_reply_to or ""))
    others = [one for one in known if _fits(one) and one != draft.message_id]
    root = others[:1] if len(others) > KEPT_REFERENCES else []
    return [*root, *others[-KEPT_REFERENCES:], draft.message_id]


def _fits(message_id: str) -> bool:
    return _ID.fullmatch(message_id) is not None and "=?" not in message_id


def _subject(subject: str) -> str:
    subject = addresses.check_line(subject, "subject")
    if len(subject) > envelopes.LONGEST_LINE:
        raise InvalidRequest(f"At most {envelopes.LONGEST_LINE} characters.", field="subject")
    plain = subject.isascii() and all(len(word) <= _CHUNK for word in subject.split())
    header = Header(subject, "us-ascii" if plain else "utf-8", header_name="Subject", maxlinelen=_LINE)
    return header.encode(linesep="\r\n")


def _people(people: Sequence[Address], field: str) -> str:
    many = field in {"to", "cc"}
    return f",{_FOLD}".join(
        _person(person, f"{field}[{place}]" if many else field) for place, person in enumerate(people)
    )


def _person(person: Address, field: str) -> str:
    address = addresses.check_person(person.shown, f"{field}.address").shown
    name = addresses.check_name(person.name, f"{field}.name")
    if not name.isascii():
        name = Header(name, "utf-8", maxlinelen=72).encode(linesep="\r\n")
    elif not _PHRASE.fullmatch(name):
        name = '"{}"'.format(re.sub(r'(["\\])', r"\\\1", name))
    return f"{name} <{address}>" if name else address


def _content(draft: Outgoing) -> bytes:
    out = BytesIO()
    BytesGenerator(out, mangle_from_=False, policy=_POLICY).flatten(_body(draft))
    return out.getvalue()


def _body(draft: Outgoing) -> Message:
    texts = [
        _text(text, subtype)
        for subtype, text in (("plain", draft.text), ("html", draft.html))
        if text is not None
    ]
    body: Message = texts[0] if texts else _text("", "plain")
    if len(texts) > 1:
        body = _multipart(draft, "alternative", texts)
    if draft.attachments:
        files = [_file(part, f"attachments[{place}]") for place, part in enumerate(draft.attachments)]
        body = _multipart(draft, "mixed", [body, *files])
    return body


def _multipart(draft: Outgoing, kind: str, parts: Sequence[Message]) -> Message:
    """Put parts together. Neither base64 nor quoted-printable can contain `=_` (RFC 2045 section 6.7)."""
    for part in parts:
        del part["MIME-Version"]  # belongs to the whole only (RFC 2045 section 4)
    return MIMEMultipart(kind, f"=_{digest(draft.message_id, kind)}", parts)


def _text(text: str, subtype: str) -> Message:
    field = "html" if subtype == "html" else "text"
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest("The text contains characters that no mail can carry.", field=field)
    charset = Charset("utf-8")
    charset.body_encoding = QP
    return MIMEText("\n".join(re.split(r"\r\n|\r|\n", text)), subtype, charset)  # type: ignore[arg-type]


def _file(part: Part, field: str) -> Message:
    name = safe_name(addresses.check_line(part.name, f"{field}.name"))
    if not name:
        raise InvalidRequest("The attachment needs a file name.", field=f"{field}.name")
    if not _TYPE.fullmatch(part.content_type):
        raise InvalidRequest("A content type looks like application/pdf.", field=f"{field}.contentType")
    content_type = part.content_type.lower()
    if content_type.startswith(("multipart/", "message/")):  # must not be base64 (RFC 2045 section 6.4)
        content_type = "application/octet-stream"
    message = MIMENonMultipart(*content_type.partition(";")[0].strip().split("/"))
    if charset := content_type.partition("charset=")[2]:
        message.set_param("charset", charset.strip('"'))
    message["Content-Disposition"] = f"attachment; {_filename(name)}"
    message.set_payload(part.content)
    encoders.encode_base64(message)
    return message


def _filename(name: str) -> str:
    """Write the file name, in RFC 2231 pieces where it is long or not ASCII."""
    if name.isascii() and len(name) <= _CHUNK:
        return f'filename="{name}"'
    pieces = [""]
    for character in name:
        if len(pieces[-1]) > _CHUNK:
            pieces.append("")
        pieces[-1] += quote(character, safe="")
    if len(pieces) == 1:
        return f"filename*=utf-8''{pieces[0]}"
    pieces[0] = f"utf-8''{pieces[0]}"
    return "; ".join(f"filename*{place}*={piece}" for place, piece in enumerate(pieces))


def _verify(raw: bytes, draft: Outgoing, names: set[str]) -> None:
    """Read the mail as a stranger would; anything but what was meant stops it here."""
    headers, _ = envelopes.split(raw)
    envelope = envelopes.envelope(raw, ref="")
    everyone = (draft.sender, *draft.to, *draft.cc)
    meant = [addresses.check_person(person.shown, "to").shown for person in everyone]
    people = (*filter(None, [envelope.sender]), *envelope.recipients)
    read = [person.shown for person in people]
    same = (envelope.subject, envelope.message_id) == (clean(draft.subject), draft.message_id)
    single = all(len(values) == 1 for values in headers.values())
    if not (single and same and set(headers) == names and read == meant):
        raise InvalidRequest("The mail's headers cannot be written safely; use simpler names or subject.")
