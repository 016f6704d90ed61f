"""Addresses: read from headers tolerantly and in linear time, checked strictly when a user typed them. Pure.

The stdlib's strict parser drops `a@x.example <a@x.example>`, which Outlook writes daily; its lax one
believes the wrong half (CVE-2023-27043). Here what stands in angle brackets is the address.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from shared.errors import InvalidRequest
from shared.mime.charsets import clean, decode_words
from shared.model import Address, Envelope

MOST_ADDRESSES = 2000
LONGEST_ADDRESS = 320
"""RFC 5321 §4.5.3.1: 64 octets, the @ and 255; what is longer reaches nobody and is no address."""

LONGEST_DOMAIN = 255
"""RFC 5321 §4.5.3.1.2."""

LONGEST_NAME = 320
LINE = r"^(?!.*=\?)[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""What `check_line` takes, for the contract."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|<[^<>]*>?|[(),;:]|\\.?|[^"<(),;:\\]+', re.DOTALL)
_COMMENT = re.compile(r"\([^()]*\)")
_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_APART = r'"(?:[^"\\]|\\.)*+"|\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*+\))*+\)'  # quoted strings and comments
_MAILBOX = re.compile(
    rf'((?:[^"<>():;\\]++|{_APART})*+)(?:<([^<>]*+)>((?:\s++|(?!"){_APART})*+))?', re.DOTALL
)
_LETTERS = r"[\w\u00a1-\U0010ffff-]++"
_SPEC = re.compile(rf'(?!.*=\?)[^\s"(),:;<>@\[\]\\]++@({_LETTERS}(?:\.{_LETTERS})*+)')
_DOTS = re.compile("[\u3002\uff0e\uff61]")  # IDNA's other full stops (RFC 3490 section 3.1)


def read(values: Iterable[str]) -> tuple[Address, ...]:
    """Read address headers: what has no `@` or is too long is dropped, groups are opened, 2,000 at most."""
    found: list[Address] = []
    for value in values:
        for name, specs in _mailboxes(value):
            people = (_address(spec, name) for spec in specs if "@" in spec)
            found += [person for person in people if len(person.address) <= LONGEST_ADDRESS]
            if len(found) >= MOST_ADDRESSES:
                return tuple(found[:MOST_ADDRESSES])
    return tuple(found)


def author(values: Sequence[str]) -> Address | None:
    """Read From: its one address, where every reader finds the same; else None.

    The receiving system judges the domain that it finds there itself (RFC 7489 §6.6.1). So one mailbox in
    plain form counts (RFC 5322 §3.4): no encoded word, comment or white space inside the address, no group,
    no second address beside it, but the same one, which Outlook writes daily. A comma in a name, which wants
    quotation marks and often has none, makes no second address.
    """
    found, mailbox = read(values), _MAILBOX.fullmatch(values[0].strip()) if len(values) == 1 else None
    if not mailbox or len(found) != 1:
        return None
    words = re.sub(_APART, lambda apart: apart[0][0].replace("(", " "), mailbox[1], flags=re.DOTALL).strip()
    spec = words if mailbox[2] is None else mailbox[2].strip()
    alone = "@" not in words or words.strip("'").lower() == spec.lower()
    return found[0] if alone and _is_plain(spec, found[0]) else None


def claimed(envelope: Envelope) -> Address | None:
    """Return the sender; else the address in From's only angle brackets, if that is in plain form.

    Another reader may find another one beside it: `Shop @ Firma <info@firma.example>` is not valid, but
    usual, and what an API tells decoded reads so, too. So who needs to know asks `mime.authentication`.
    """
    values = envelope.headers.get("from", ())
    if envelope.sender or len(values) != 1:
        return envelope.sender
    found, specs = read(values), re.findall(r"<([^<>]*+)>", values[0])
    is_one = len(found) == len(specs) == 1
    return found[0] if is_one and _is_plain(specs[0].strip(), found[0]) else None


def _is_plain(spec: str, person: Address) -> bool:
    """Whether every reader of this finds this person's address in it."""
    plain = _SPEC.fullmatch(spec)
    return plain is not None and person.address == _address(spec, "").address and _is_itself(plain[1])


def _is_itself(domain: str) -> bool:
    """Whether a domain is looked up as it is written: what only looks like a letter is another in DNS."""
    return unicodedata.is_normalized("NFKC", domain) and not _DOTS.search(domain) and clean(domain) == domain


def _mailboxes(value: str) -> Iterator[tuple[str, list[str]]]:
    """Split at top-level commas; yields (name or comment, what is in angle brackets or bare)."""
    words: list[str] = []
    angles: list[str] = []
    comments: list[str] = []
    depth = 0
    for piece in [*_TOKEN.findall(value), ","]:
        if piece in "()" or depth:
            depth += {"(": 1, ")": -1}.get(piece, 0)
            depth = max(depth, 0)
            comments.append("" if piece in "()" else piece)
        elif piece in {",", ";"}:
            if words or angles:
                name = _name(words) if angles else ""
                yield name or _shown("".join(comments)), angles or _bare(words)
            words, angles, comments = [], [], []
        elif piece == ":" and not angles:
            words = []  # the name of a group
        elif piece.startswith("<"):
            angles.append(piece.strip("<>"))
        else:
            words.append(piece)


def _bare(words: list[str]) -> list[str]:
    """Find addresses without angle brackets; two beside each other are two."""
    text = " ".join("".join(words).split()).replace(" @", "@").replace("@ ", "@")
    return [text] if text.startswith('"') else text.split()


def _name(words: list[str]) -> str:
    """Make a display name of the words before the angle bracket."""
    plain = (re.sub(r"\\(.)", r"\1", word.strip('"')) if word.startswith('"') else word for word in words)
    return _shown("".join(plain))


def _shown(text: str) -> str:
    return clean(decode_words(text))[:LONGEST_NAME]


def _address(spec: str, name: str) -> Address:
    spec = clean(_COMMENT.sub("", decode_words(spec))).strip("<> ,;")
    local, _, domain = spec.rpartition("@")
    domain = "".join(domain.split()).rstrip(".>")
    name = "" if name.lower() in {spec.lower(), f"'{spec.lower()}'"} else name
    return _spelled(local.strip(), _ascii(domain) or domain.lower(), name)


def _spelled(local: str, domain: str, name: str) -> Address:
    spelled = f"{local}@{domain}"
    address = spelled.lower()
    return Address(address, name, spelled if spelled != address else "")


def _ascii(domain: str) -> str | None:
    """Return a domain in A-labels (RFC 5890), or None where it cannot be one.

    Not the stdlib's `idna` codec: that is IDNA2003, which turns `straße.example` into another domain.
    """
    if len(domain) > LONGEST_DOMAIN:
        return None
    labels = unicodedata.normalize("NFKC", _DOTS.sub(".", domain)).lower().split(".")
    return ".".join(filter(None, made)) if all(made := [_a_label(label) for label in labels]) else None


def _a_label(label: str) -> str:
    """Return the A-label, or "" for what is not allowed in one."""
    if len(label) > 63:  # noqa: PLR2004 - RFC 1035 §2.3.4
        return ""
    if not label.isascii():
        if not all(unicodedata.category(character)[0] in "LMN" or character == "-" for character in label):
            return ""
        label = "xn--" + label.encode("punycode").decode("ascii")
    return label if _LABEL.fullmatch(label) else ""


def written(values: Iterable[str], field: str) -> tuple[Address, ...]:
    """Read an address header that a user of ours wrote: nothing in it is dropped.

    Raises InvalidRequest naming `field` for what is no address.
    """
    return tuple(
        check_person(spec, field, name)
        for value in values
        for name, specs in _mailboxes(value)
        for spec in specs
    )


def check_address(text: str, field: str) -> str:
    """Check one addr-spec that a user typed, and return it in lower case. As `check_person`."""
    return check_person(text, field).address


def check_person(text: str, field: str, name: str = "") -> Address:
    """Check one addr-spec that a user typed, and return it with an A-label domain, also as it is spelled.

    Lengths are those of RFC 5321 section 4.5.3.1: local part 64, domain 255, all 254 octets. Raises
    InvalidRequest naming `field`; also for quoted and non-ASCII local parts (SMTPUTF8, RFC 6531),
    which many servers cannot take.
    """
    local, at, domain = text.strip(" ").rpartition("@")
    if not at or not local:
        raise InvalidRequest("An address looks like name@domain.example.", field=field)
    if not local.isascii():
        raise InvalidRequest(
            "Letters beyond ASCII before the @ need SMTPUTF8 (RFC 6531), which is not supported.", field=field
        )
    if not _LOCAL.fullmatch(local.lower()) or "=?" in local:
        raise InvalidRequest("The part before the @ is not valid (RFC 5321 section 4.1.2).", field=field)
    ascii_domain = _ascii(domain)
    if not ascii_domain or "." not in ascii_domain or ascii_domain.rpartition(".")[2].isdigit():
        raise InvalidRequest("The domain after the @ is not valid.", field=field)
    person = _spelled(local, ascii_domain, name)
    if len(local) > 64 or len(person.address) > 254:  # noqa: PLR2004 - RFC 5321 §4.5.3.1.1, .3
        raise InvalidRequest("The address is too long (RFC 5321 section 4.5.3.1).", field=field)
    return person


def check_name(text: str, field: str) -> str:
    """Check the name beside an address that a user typed. Raises InvalidRequest naming `field`."""
    name = check_line(text, field)
    if len(name) > LONGEST_NAME:
        raise InvalidRequest(f"At most {LONGEST_NAME} characters.", field=field)
    return name


def check_line(text: str, field: str) -> str:
    """Clean the text of a header; refuse what could become another header on somebody's way.

    RFC 5322 section 2.2, CVE-2024-6923. Raises InvalidRequest naming `field`.
    """
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text):
        raise InvalidRequest("Line breaks and control characters are not allowed here.", field=field)
    if "=?" in text:
        raise InvalidRequest("The characters =? are not allowed here.", field=field)
    return clean(text)
