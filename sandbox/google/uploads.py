"""Uploads of whole mails: media, multipart and resumable. https://developers.google.com/workspace/gmail/api/guides/uploads."""

import base64
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from sandbox.google.problems import Problem, invalid
from sandbox.web import Reply, Request

PIECE = 256 * 1024


@dataclass
class Session:
    """A resumable upload: the request that began it, and what has arrived."""

    request: Request
    body: dict[str, Any]
    size: int | None
    data: bytes = b""


@dataclass
class Uploads:
    """What is under way."""

    sessions: dict[str, Session] = field(default_factory=dict)

    def verb(self, request: Request) -> str:
        """Return the HTTP method of the call: pieces come as PUT, whatever it is."""
        session = self.sessions.get(request.query.get("upload_id", ""))
        return session.request.method if session else request.method

    def begin(self, request: Request, url: str, largest: int) -> Reply:
        """Begin a resumable upload; the answer's Location is where its pieces go. Raises Problem."""
        size = request.headers.get("x-upload-content-length", "")
        check_size(int(size or 0), largest)
        key = secrets.token_urlsafe(24)
        self.sessions[key] = Session(request, request.json, int(size) if size else None)
        place = f"{url}{request.path}?uploadType=resumable&upload_id={key}"
        return Reply(200, None, {"Location": place, "X-GUploader-UploadID": key})

    def take(self, request: Request, largest: int) -> Session | Reply:
        """Take a piece; returns the session once it is whole. Raises Problem."""
        session = self.sessions.get(request.query["upload_id"])
        if session is None:
            raise Problem(404, "notFound", "Not Found")
        place = re.fullmatch(
            r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("content-range", "bytes 0-0/*")
        )
        if place is None:
            raise invalid("Failed to parse Content-Range header.")
        whole = "content-range" not in request.headers
        if place[1] is not None or whole:
            if not whole and int(place[1]) != len(session.data):
                return self._go_on(session)
            session.data += request.body
            check_size(len(session.data), largest)
        total = len(session.data) if whole else int(place[3]) if place[3] != "*" else -1
        if len(session.data) == total:
            return self.sessions.pop(request.query["upload_id"])
        if request.body and len(request.body) % PIECE:
            raise invalid("Chunk size must be a multiple of 262144.")
        return self._go_on(session)

    @staticmethod
    def _go_on(session: Session) -> Reply:
        got = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
        return Reply(308, None, got)


def is_piece(request: Request) -> bool:
    """Whether the request goes on with an upload that was counted when it began."""
    return "upload_id" in request.query


def check_size(size: int, largest: int) -> None:
    """Raises Problem for too large a mail."""
    if size > largest:
        raise Problem(413, "uploadTooLarge", f"Request is too large. The maximum is {largest} bytes.")


def opened(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return metadata and mail of a simple or multipart upload, byte by byte. Raises Problem."""
    if request.query.get("uploadType") == "media":
        return {}, request.body
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    if boundary is None:
        raise invalid("Missing boundary.")
    between = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary[1].encode()) + rb"(?:--)?[ \t]*(?:\r?\n|$)")
    parts = between.split(request.body)[1:3]
    if len(parts) != 2:
        raise invalid("Malformed multipart body.")
    (_, data), (head, raw) = (_halves(part) for part in parts)
    if b"base64" in head.lower():
        raw = base64.b64decode(raw)
    return json.loads(data.strip() or b"{}"), raw


def _halves(part: bytes) -> tuple[bytes, bytes]:
    """Return header and content of a part; a part without headers begins with an empty line."""
    found = re.split(rb"(?:^|\r?\n)\r?\n", part, maxsplit=1)
    return (found[0], found[1]) if len(found) == 2 else (b"", part)
