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

    Its own headers do not tell when it arrived; a look for its Message-ID does. Another mail is never
    taken for a held one: neither under its Message-ID, nor where servers number anew without saying so.
    """
    try:
        raw = receiver.fetch(ref)
        envelope = _as_held(mime.envelope(raw, ref=ref, size=len(raw)), held)
    except NotFound:
        if held is None:
            raise
        there = next((found for found in _looked(receiver, held.message_id) if is_held_as(found, held)), None)
        if there is None:
            raise
        return there, receiver.fetch(there.ref)
    same = (found for found in _looked(receiver, envelope.message_id) if found.ref == ref)
    return next(same, envelope), raw


def _as_held(envelope: Envelope, held: Review | None) -> Envelope:
    """Return it. Raises NotFound where another mail was held: one without a Message-ID is known by that."""
    if held and (envelope.message_id if held.message_id is None else not is_held_as(envelope, held)):
        raise NotFound("This mail is no longer where it was.")
    return envelope


def _looked(receiver: Receiver, message_id: str | None) -> Iterator[Envelope]:
    """Yield the mails under this Message-ID."""
    for found in given(receiver.look([message_id])) if message_id else ():
        if found.message_id == message_id:
            yield found
