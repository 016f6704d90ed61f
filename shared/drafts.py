"""What a caller asks to send, checked field by field before anything is promised. Pure."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import msgspec.structs

from shared import mime
from shared.contract import MOST_RECIPIENTS, NewAttachment, Person, SendEmail
from shared.errors import InvalidRequest
from shared.model import Address, MailboxDraft

_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
LONGEST_KEY = 255
KEY = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}")
"""Visible ASCII."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked request to send; `fingerprint` stands for the whole body."""

    mailbox_id: str
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    subject: str
    text: str | None
    html: str | None
    in_reply_to: str | None
    attachments: tuple[mime.Part, ...]
    fingerprint: str
    written: "Written | None" = None


@dataclass(frozen=True, slots=True)
class Written:
    """A draft as it lies in its mailbox now: it leaves as it is."""

    ref: str
    raw: bytes


def checked(body: SendEmail) -> Draft:
    """Check a request to send. Raises InvalidRequest naming the field."""
    if body.text is None and body.html is None:
        raise InvalidRequest("The mail has no text.", field="text", fix="Give text, html or both.")
    _few_enough(len(body.to) + len(body.cc) + len(body.bcc))
    return Draft(
        mailbox_id=body.mailbox_id,
        to=_people(body.to, "to"),
        cc=_people(body.cc, "cc"),
        bcc=_people(body.bcc, "bcc"),
        subject=body.subject,
        text=body.text,
        html=body.html,
        in_reply_to=body.in_reply_to,
        attachments=tuple(_part(part, place) for place, part in enumerate(body.attachments)),
        fingerprint=fingerprint(body),
    )


def resumed(kept: MailboxDraft, own: str, raw: bytes, fingerprint: str) -> Draft:
    """Read what has become of a draft in its mailbox, whose `own` address is the only one it is sent from.

    Raises InvalidRequest naming the header that keeps it from being sent.
    """
    if any(author.address != own for author in mime.written_by(raw)):
        fix = "Open it in your mail program and choose your own address, or send it there."
        raise InvalidRequest("The draft is from another address than this mailbox's.", field="from", fix=fix)
    sides = mime.written_to(raw)
    if not any(sides.values()):
        fix = "Open it in your mail program, say who is to get it, then send it again."
        raise InvalidRequest("The draft has no recipient.", field="to", fix=fix)
    _few_enough(sum(map(len, sides.values())))
    parsed = mime.parse(raw)
    return Draft(
        mailbox_id=kept.mailbox_id,
        **sides,
        subject=parsed.subject,
        text=None,
        html=None,
        in_reply_to=None,
        attachments=(),
        fingerprint=fingerprint,
        written=Written(kept.ref, raw),
    )


def fingerprint(body: SendEmail) -> str:
    """Tell two bodies apart; the order of JSON keys and left-out defaults make no difference.

    Defaults are no part of it: a field that a later release adds changes no promise that was made before.
    """
    return hashlib.sha256(msgspec.json.encode(_given(body), order="deterministic")).hexdigest()


def _given(value: Any) -> Any:
    """What a value says beyond the defaults of its shape. msgspec's own `omit_defaults` keeps equal texts."""
    if isinstance(value, list):
        return [_given(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    told = ((field, getattr(value, field.name)) for field in msgspec.structs.fields(value))
    return {field.encode_name: _given(given) for field, given in told if given != _default(field)}


def _default(field: msgspec.structs.FieldInfo) -> Any:
    """A field's default; something that nothing equals where it has none."""
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def idempotency_key(header: str | None) -> str:
    """Check the Idempotency-Key header: 1 to 255 visible ASCII characters."""
    if header is None or not KEY.fullmatch(header):
        fix = "Send a new UUID for each mail, and the same one when you repeat a request."
        raise InvalidRequest("An Idempotency-Key is needed.", field="Idempotency-Key", fix=fix)
    return header


def case_id(text: str) -> str:
    """Check a case id."""
    if not _CASE.fullmatch(text):
        raise InvalidRequest("A case id has 1 to 128 letters, digits and . _ ~ -", field="caseId")
    return text


def members(addresses: Sequence[str]) -> list[str]:
    """Check the members of a case."""
    return [mime.check_address(text, f"members[{place}]") for place, text in enumerate(addresses)]


def _few_enough(recipients: int) -> None:
    if recipients > MOST_RECIPIENTS:
        fix = "Send it in several mails."
        raise InvalidRequest(f"A mail may have at most {MOST_RECIPIENTS} recipients.", field="to", fix=fix)


def _people(people: Sequence[Person], field: str) -> tuple[Address, ...]:
    return tuple(
        mime.check_person(person.address, f"{field}[{place}].address", person.name)
        for place, person in enumerate(people)
    )


def _part(part: NewAttachment, place: int) -> mime.Part:
    try:
        content = base64.b64decode(part.content_base64, validate=True)
    except ValueError:  # binascii.Error is one, and what is beyond ASCII raises it plain
        field = f"attachments[{place}].contentBase64"
        raise InvalidRequest("This is not base64 (RFC 4648 section 4).", field=field) from None
    return mime.Part(part.name, part.content_type, content)
