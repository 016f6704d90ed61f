"""Bytes and encoded words to text, whatever a mail says about its charset. Pure; nothing here raises."""

import binascii
import codecs
import re
import unicodedata

# Names that senders use for something else than their registration says, or that Python does not know.
# iso-8859-1 means windows-1252 in practice (https://encoding.spec.whatwg.org/#names-and-labels).
_ALIASES = {
    "ascii": "utf-8",
    "ansi-x3.4-1968": "utf-8",
    "us-ascii": "utf-8",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "iso-8859-8-i": "iso-8859-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks-c-5601": "cp949",
    "ks-c-5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "mac-cyrillic": "maccyrillic",
    "utf-8mb4": "utf-8",
}
# Codecs that decode text into other text: utf-7 smuggles markup past filters, punycode takes quadratic time,
# the escapes make half characters, which no store takes.
_REFUSED = {"utf-7", "punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"}

DETECTABLE = 32
"""Octets below which guessing a charset is worse than windows-1252."""

_SAMPLE = 65_536
_PIECE = 1000
"""Characters normalised at a time: putting combining marks in order takes quadratic time (CPython 3.13.0)."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._:-]{0,39}")
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\r\n]*)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)\s+(?==\?[^?\s]{1,60}\?[bBqQ]\?)")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


def decode(data: bytes, charset: str | None) -> tuple[str, str | None]:
    """Decode text: as declared, else UTF-8, else as detected, else windows-1252 with replacements.

    Returns the text (no NUL, no byte order mark, no half character) and a note when the declaration did not
    hold.
    """
    text, note = _decode(data, charset)
    text = text.encode("utf-8", "replace").decode()  # whatever else a codec may give, text can be stored
    return text.removeprefix("\ufeff").replace("\x00", ""), note


def _decode(data: bytes, charset: str | None) -> tuple[str, str | None]:
    codec = _codec(charset) if charset else "utf-8"
    if codec and not (codec == "cp1252" and _is_utf8(data)):
        try:
            return data.decode(codec), None
        except UnicodeError:
            pass  # not what it says: the next guess may be
    said = f"charset {_shown(charset)!r}" if charset else "no charset"
    try:
        return data.decode("utf-8"), f"{said}: read as utf-8"
    except UnicodeDecodeError:
        guess = _detected(data)
    return data.decode(guess, "replace"), f"{said}: read as {guess}"


def _is_utf8(data: bytes) -> bool:
    """Whether 8-bit text is UTF-8, which nothing else is by chance; windows-1252 decodes anything."""
    if data.isascii():
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _codec(charset: str) -> str | None:
    """Return a Python codec that makes text of bytes, or None."""
    name = charset.strip(" \t\"'\\").lower().replace("_", "-")
    name = name.removeprefix("x-")
    name = _ALIASES.get(name, name)
    if not _NAME.fullmatch(name):
        return None
    try:
        codec = codecs.lookup(name)
        b"".decode(codec.name)  # LookupError for codecs that are no text encodings, such as zlib
    except (LookupError, ValueError):
        return None
    return None if codec.name.replace("_", "-") in _REFUSED else codec.name


def _detected(data: bytes) -> str:
    """Guess the charset of 8-bit text that is not UTF-8."""
    if len(data) < DETECTABLE:
        return "cp1252"
    from charset_normalizer import from_bytes  # 50 ms at first use: most mails never need it

    # Western European first: in German text the detector likes to see central European.
    best = from_bytes(data[:_SAMPLE], cp_isolation=["cp1252"]).best() if _looks_western(data) else None
    best = best or from_bytes(data[:_SAMPLE]).best()
    return _codec(best.encoding) or "cp1252" if best else "cp1252"


def _looks_western(data: bytes) -> bool:
    """Whether 8-bit octets are as rare as accents are."""
    high = sum(octet > 0x7F for octet in data[:_SAMPLE])  # noqa: PLR2004 - the end of ASCII
    return high * 5 < min(len(data), _SAMPLE)


def _shown(charset: str | None) -> str:
    return clean(charset or "")[:40]


def header_text(data: bytes) -> str:
    """Decode a header's octets; raw 8-bit is UTF-8 (RFC 6532), else windows-1252."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def decode_words(text: str) -> str:
    """Decode RFC 2047 encoded words, wherever they stand.

    Neighbours of the same charset are joined before decoding: senders split inside a character.
    Words inside quoted strings and file names are illegal (RFC 2047 section 5) but common, so they count.
    """
    if "=?" not in text:
        return text
    joined = _BETWEEN_WORDS.sub(r"\1", text)
    out: list[str] = []
    pending: tuple[str, bytes] | None = None
    end = 0
    for word in _WORD.finditer(joined):
        charset = word[1].partition("*")[0].lower()  # RFC 2231 section 5: charset*language
        data = _unword(word[2], word[3])
        if pending and word.start() == end and pending[0] == charset:
            pending = (charset, pending[1] + data)
        else:
            out += [_flush(pending), joined[end : word.start()]]
            pending = (charset, data)
        end = word.end()
    return "".join([*out, _flush(pending), joined[end:]])


def _flush(pending: tuple[str, bytes] | None) -> str:
    return decode(pending[1], pending[0])[0] if pending else ""


def _unword(encoding: str, text: str) -> bytes:
    if encoding in "qQ":
        return binascii.a2b_qp(text.encode("utf-8", "replace"), header=True)
    return base64(text.encode("utf-8", "replace"))[0]


def base64(data: bytes) -> tuple[bytes, bool]:
    """Decode base64, skipping what is none of it; tells whether all was in order."""
    try:
        return binascii.a2b_base64(data), True
    except binascii.Error:
        digits = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
        whole = len(digits) - (1 if len(digits) % 4 == 1 else 0)  # one digit alone holds no octet
        return binascii.a2b_base64(digits[:whole] + b"=" * (-whole % 4)), False


def clean(text: str) -> str:
    """Return one line without control characters, NFC, inner white space collapsed."""
    line = " ".join(_CONTROLS.sub(" ", text).split())
    pieces = (line[place : place + _PIECE] for place in range(0, len(line), _PIECE))
    return "".join(unicodedata.normalize("NFC", piece) for piece in pieces)
