"""A session that ended at a mail, and a server that lets us in no more: the mailbox may still be locked.

The mail can be put off then, as one that is refused, and the look ends: else every look would end there.
"""

from shared.errors import RateLimited, Temporary


class Shut(Temporary):
    """The server lets nobody in again for the moment."""


class Delayed(Shut, RateLimited):
    """The server lets nobody in again so soon (POP3's LOGIN-DELAY, RFC 2449 §6.5)."""


def shut(error: Temporary) -> Shut:
    """Make the error for what was said when a session that ended at a mail was to be opened again."""
    kind = Delayed if isinstance(error, RateLimited) else Shut
    return kind(error.detail, retry_after=error.retry_after)
