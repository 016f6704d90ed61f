"""Which message a report is about, by what Gmail shows of its parts: no text, but where only that tells it.

`format=full` gives a mail's parts with their headers, those of an attached mail among them, and `fields`
leaves their contents out: https://developers.google.com/workspace/gmail/api/guides/performance#partial
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEPTH = 4
"""So far down is looked: a report lies at the top, or in what a list or a scanner put around it."""

_MAILS = {"message/rfc822", "message/global"}
_FIELDS = {
    "message/delivery-status",
    "message/disposition-notification",
    "message/global-delivery-status",
    "message/global-disposition-notification",
    "message/global-headers",
    "message/rfc822-headers",
    "text/rfc822-headers",
}


def _mask(depth: int) -> str:
    inside = f",parts({_mask(depth - 1)})" if depth else ""
    return f"mimeType,headers,body/attachmentId{inside}"


MASK = f"payload({_mask(DEPTH)})"


@dataclass(frozen=True, slots=True)
class Part:
    """A part that holds fields and that Gmail did not take apart; `depth` and `place` find it again."""

    depth: int
    place: tuple[int, ...]
    attachment: str = ""

    @property
    def mask(self) -> str:
        """The contents of its level alone: of a returned mail, which lies one deeper, nothing comes along."""
        return f"payload{'/parts' * self.depth}/body/data"

    def content(self, payload: Mapping[str, Any]) -> str:
        """Return its content, in base64, out of what `mask` asked for."""
        for index in self.place:
            payload = payload["parts"][index]
        return str(payload.get("body", {}).get("data", ""))


def blocks(part: Mapping[str, Any], *, inside: bool = False) -> Iterator[bytes]:
    """Yield the headers of attached mails, and the fields of what Gmail took apart like one."""
    if inside and part.get("headers"):
        yield block(part["headers"])
    shown = part.get("mimeType", "").lower() in _MAILS | _FIELDS
    if shown and not inside:  # some see an attached mail's headers at the part that holds it
        yield block(part.get("headers", ()))
    for child in () if inside else part.get("parts", ()):
        yield from blocks(child, inside=shown)


def unread(part: Mapping[str, Any], place: tuple[int, ...] = ()) -> Iterator[Part]:
    """Yield the parts that hold fields and were not taken apart."""
    kind, children = part.get("mimeType", "").lower(), part.get("parts", ())
    if kind in _FIELDS and not children:
        yield Part(len(place), place, part.get("body", {}).get("attachmentId", ""))
    if kind not in _MAILS | _FIELDS:
        for index, child in enumerate(children):
            yield from unread(child, (*place, index))


def block(headers: Any) -> bytes:
    """Write headers as a block."""
    return "".join(f"{one['name']}: {' '.join(one['value'].splitlines())}\r\n" for one in headers).encode(
        errors="replace"
    )
