"""Names of attachments and headers for downloading them. Pure."""

import re
from urllib.parse import quote

from shared.mime.charsets import clean
from shared.model import Attachment

LONGEST_NAME = 200

_EXTENSIONS = {
    "application/ms-tnef": "dat",
    "application/pdf": "pdf",
    "application/pgp-encrypted": "asc",
    "application/pgp-signature": "asc",
    "application/pkcs7-mime": "p7m",
    "application/pkcs7-signature": "p7s",
    "application/x-pkcs7-mime": "p7m",
    "application/x-pkcs7-signature": "p7s",
    "application/zip": "zip",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "message/delivery-status": "txt",
    "message/disposition-notification": "txt",
    "message/rfc822": "eml",
    "text/calendar": "ics",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/rfc822-headers": "txt",
}
# ruff: noqa: SIM905 - the list below reads better than a page of quotes
# What a browser cannot run even if it opens it; anything else is downloaded as unknown octets.
_HARMLESS = frozenset(
    "application/pdf application/zip application/msword application/vnd.ms-excel"
    " application/vnd.ms-powerpoint application/vnd.oasis.opendocument.text"
    " application/vnd.oasis.opendocument.spreadsheet"
    " application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    " application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    " application/vnd.openxmlformats-officedocument.presentationml.presentation"
    " image/gif image/jpeg image/png image/webp image/tiff text/plain text/csv text/calendar".split()
)
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)


def safe_name(name: str) -> str:
    """Return a file name that no file system and no eye misreads; "" if nothing is left.

    No path, control, direction or reserved characters, no Windows device, at most 200 characters.
    """
    name = re.split(r"[/\\]", _BIDI.sub("", clean(name)))[-1]
    name = _FORBIDDEN.sub("_", name).strip(" .")
    name = _RESERVED.sub(r"_\1", name, count=1) if _RESERVED.match(name) else name
    if len(name) <= LONGEST_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = dot + extension if stem and len(extension) <= 10 else ""  # noqa: PLR2004 - longer is no extension
    return name[: LONGEST_NAME - len(tail)].rstrip(" .") + tail


def default_name(content_type: str, index: int) -> str:
    """Name a part that has no name."""
    if content_type == "text/calendar":
        return "invite.ics"
    return f"part-{index}.{_EXTENSIONS.get(content_type, 'bin')}"


def download_headers(attachment: Attachment) -> dict[str, str]:
    """Return headers that make a browser save the content and never run it (RFC 6266, RFC 8187)."""
    harmless = attachment.content_type in _HARMLESS
    return _headers(attachment.content_type if harmless else "application/octet-stream", attachment.name)


def raw_headers(name: str) -> dict[str, str]:
    """Return the headers for downloading a whole mail as `name`.eml."""
    return _headers("application/octet-stream", f"{name}.eml")


def _headers(content_type: str, name: str) -> dict[str, str]:
    name = safe_name(name) or "download"
    fallback = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", name)
    both = f"filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"
    return {
        "Content-Type": content_type,
        "Content-Disposition": f"attachment; {both}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
