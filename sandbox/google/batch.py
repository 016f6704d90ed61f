"""Several calls in one request: multipart/mixed of application/http. https://developers.google.com/workspace/gmail/api/guides/batch."""

import re
import secrets
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from http.client import responses
from urllib.parse import parse_qsl, urlsplit

from sandbox.google.problems import Problem, invalid
from sandbox.web import Reply, Request

MOST = 100

CONCURRENT = 5
"""Calls of a user that are served at once, as those of a batch are; Google does not say how many."""


def answer(request: Request, serve: Callable[[Request], Reply]) -> Reply:
    """Serve every part by itself, and return all answers. Raises Problem."""
    kind = request.headers.get("content-type", "")
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body)
    parts = (
        [one for one in message.get_payload() if isinstance(one, Message)] if message.is_multipart() else []
    )
    if not parts:
        raise invalid("Failed to parse batch request, error: no parts.")
    if len(parts) > MOST:
        raise invalid(f"The batch request could not be processed: more than {MOST} calls.")
    boundary = f"batch_{secrets.token_urlsafe(12)}"
    pieces = []
    for place, part in enumerate(parts):
        reply = _crowded() if place >= CONCURRENT else serve(_opened(part.get_payload(decode=True), request))
        id_ = str(part.get("Content-ID", "")).strip("<>")
        pieces.append(
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{id_}>\r\n\r\n".encode()
            + _closed(reply)
            + b"\r\n"
        )
    body = b"".join(pieces) + f"--{boundary}--\r\n".encode()
    return Reply(200, body, {"Content-Type": f"multipart/mixed; boundary={boundary}"})


def _crowded() -> Reply:
    return Problem(429, "rateLimitExceeded", "Too many concurrent requests for user.").reply()


def _opened(content: object, outer: Request) -> Request:
    if not isinstance(content, bytes):
        raise invalid("Failed to parse batch request.")
    line, _, rest = content.lstrip().partition(b"\n")
    match = re.match(rb"([A-Z]+) (\S+)", line)
    if match is None:
        raise invalid("Failed to parse batch request.")
    inner = message_from_bytes(rest)
    headers = {name.lower(): value for name, value in inner.items()}
    headers = {k: v for k, v in outer.headers.items() if k == "authorization"} | headers
    url = urlsplit(match[2].decode())
    body = inner.get_payload(decode=True)
    pairs = tuple(parse_qsl(url.query, keep_blank_values=True))
    return Request(
        match[1].decode(), url.path, dict(pairs), headers, body if isinstance(body, bytes) else b"", pairs
    )


def _closed(reply: Reply) -> bytes:
    words = responses.get(reply.status, "")
    headers = {"Content-Type": "application/json; charset=UTF-8", **reply.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {int(reply.status)} {words}\r\n{lines}\r\n".encode() + reply.payload
