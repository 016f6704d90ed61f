"""What a bounce is about, without reading more of it than tells that."""

from collections.abc import Callable
from itertools import islice

from shared import mime
from shared.errors import NotFound, Rejected
from shared.providers.imap import reports
from shared.providers.imap.items import quoted
from shared.providers.imap.session import Session

WORDS = 16 * 1024
"""So much is read of a bounce in words: what happened, and then the headers of the mail that comes back."""


class Bounces(Session):
    """The part of Receiver that reads bounces."""

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`. Of the parts that the structure shows the beginnings are read."""
        _, uid = self.enter(ref)
        try:
            structure = self.items([uid], ["BODYSTRUCTURE"]).get(uid, {}).get(b"BODYSTRUCTURE")
        except Rejected as error:
            raise NotFound("The server cannot tell the structure of this mail.") from error
        sections = dict(islice(reports.sections(structure), mime.MOST_PARTS))
        if not sections:
            return self._returned_in_words(uid, reports.text_decoder(structure))
        asked = [f"BODY.PEEK[{section}]<0.{mime.LONGEST_PART}>" for section in sections]
        answer = self.items([uid], asked).get(uid)
        if answer is None:
            raise NotFound("This mail was deleted.")
        parts = [(answer.get(f"BODY[{one}]<0>".encode()), decode) for one, decode in sections.items()]
        return b"\r\n\r\n".join(decode(mime.beginning(part)).strip(b"\r\n") for part, decode in parts if part)

    def _returned_in_words(self, uid: int, decode: Callable[[bytes], bytes] | None) -> bytes:
        """Return the Message-ID of a mail of ours that a bounce in words quotes (qmail, Exim).

        The server is asked first whether it quotes any: of what is about other mail nothing is read, and of
        what is read only the id is kept. Gmail is not asked: it finds words, not strings, so any mail.
        Raises NotFound, or Rejected where the server does not search.
        """
        words = self.ask(lambda client: client.has_capability("X-GM-EXT-1"))
        if decode is None or words:
            raise NotFound("This mail holds no report about a mail of ours.")
        if told := self._report(uid):
            return told
        if not self.find(f"UID {uid} BODY {quoted(mime.OURS)}"):
            raise NotFound("This mail holds no report about a mail of ours.")
        answer = self.items([uid], [f"BODY.PEEK[1]<0.{WORDS}>"]).get(uid, {})
        message_id = mime.quoted_id(decode(answer.get(b"BODY[1]<0>") or b""))
        if message_id is None:
            raise NotFound("This mail holds no report about a mail of ours.")
        return f"Message-ID: {message_id}".encode()

    def _report(self, uid: int) -> bytes:
        """Read a report without MIME-Version, which is nothing but text to Courier; empty for all else."""
        if not self._is_courier() or not self.find(f"UID {uid} HEADER Content-Type multipart/report"):
            return b""
        answer = self.items([uid], [f"BODY.PEEK[]<0.{WORDS}>"]).get(uid, {})
        return mime.returned_headers(answer.get(b"BODY[]<0>") or b"")
