"""Getting the bytes of a mail wherever it lies by now: people move their mail while we read."""

from collections.abc import Iterator

from shared import mime
from shared.errors import NotFound
from shared.model import Envelope, Review
from shared.naming import is_held_as
from shared.providers.base import Receiver, given


def fetch(receiver: Receiver, envelope: Envelope) -> bytes:
    """Fetch a mail, looking for it in other folders if it was moved meanwhile. Raises NotFound."""
    try:
        return receiver.fetch(envelope.ref)
    except NotFound:
        if envelope.message_id is None:
            raise
        for found in given(receiver.look([envelope.message_id])):
            if mime.fingerprint(found) == mime.fingerprint(envelope):
                return receiver.fetch(found.ref)
        raise


def fetch_with_headers(receiver: Receiver, ref: str, held: Review | None = None) -> tuple[Envelope, bytes]:
    """Fetch a mail wherever it lies by now, with what the provider says about it. Raises NotFound.

    Its own headers do not tell when it arrived; a look for its Message-ID does. A held mail that lies
    elsewhere is never taken for another one under its Message-ID.
    """
    try:
        raw = receiver.fetch(ref)
    except NotFound:
        if held is None:
            raise
        there = next((found for found in _looked(receiver, held.message_id) if is_held_as(found, held)), None)
        if there is None:
            raise
        return there, receiver.fetch(there.ref)
    envelope = mime.envelope(raw, ref=ref, size=len(raw))
    same = (found for found in _looked(receiver, envelope.message_id) if found.ref == ref)
    return next(same, envelope), raw


def _looked(receiver: Receiver, message_id: str | None) -> Iterator[Envelope]:
    """Yield the mails under this Message-ID."""
    for found in given(receiver.look([message_id])) if message_id else ():
        if found.message_id == message_id:
            yield found
