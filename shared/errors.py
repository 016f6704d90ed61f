"""The ten ways something can go wrong, each mapped once to an HTTP problem (`working`: to the fate of a job).

Pure. A provider or a store translates its library's exceptions into these in one place; nothing
above it knows a library's exception. A bug is none of these: it is raised, logged, retried and in
the end poisoned, where `/api/health` shows it.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar


class ZalionError(Exception):
    """Base of the ten.

    Args:
        detail: one sentence for a human; never a secret, an address list, a subject or a body.
        field: the JSON path or parameter the caller should correct, e.g. `to[0].address`.
        fix: what a human can do about it, where there is something.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"

    reason: str | None = None
    """Key of its explanation in `explaining`, if it has one: pages show it in the user's language."""

    facts: Mapping[str, str] = {}
    """What the explanation names."""

    def __init__(self, detail: str, *, field: str | None = None, fix: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.fix = fix


class InvalidRequest(ZalionError):
    """The caller's input is wrong; `field` names what."""

    status = 400
    code = "invalid_request"
    title = "The request is not valid"


class NotAllowed(ZalionError):
    """The caller is known and may not do this."""

    status = 403
    code = "not_allowed"
    title = "Not allowed"


class NotFound(ZalionError):
    """Nothing there, or it belongs to another organisation: the same answer on purpose."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(ZalionError):
    """The state does not allow it, or the same idempotency key came with another body."""

    status = 409
    code = "conflict"
    title = "Conflict with the current state"


class Unsupported(ZalionError):
    """This provider lacks that power."""

    status = 422
    code = "unsupported"
    title = "Not supported by this provider"


class ConsentRequired(ZalionError):
    """The grant is missing, expired, revoked or refused; `fix` tells the human what to do."""

    status = 409
    code = "consent_required"
    title = "The mailbox needs its owner's or administrator's consent"


class Rejected(ZalionError):
    """Refused for good by the other side (SMTP 5yz, RFC 5321 §4.2.1; HTTP 400)."""

    status = 422
    code = "rejected"
    title = "The mail system refused"


class DraftChanged(Rejected):
    """The draft is not the one that was promised: its owner changed it, and nothing left."""

    code = "draft_changed"

    def __init__(self) -> None:
        fix = "It was changed meanwhile; send it again."
        super().__init__("The draft was changed in the mailbox before it left; it lies there still.", fix=fix)


class Temporary(ZalionError):
    """Try later (SMTP 4yz, HTTP 5xx, no connection). `retry_after` is in seconds."""

    status = 503
    code = "temporary"
    title = "Temporarily not possible"

    def __init__(
        self, detail: str, *, retry_after: float = 30, field: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(detail, field=field, fix=fix)
        self.retry_after = retry_after


class RateLimited(Temporary):
    """Asked too often; `retry_after` is what the other side said, in seconds."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"


class Raced(Temporary):
    """Somebody else was faster: a conditional write found another state. Read again and decide again."""

    code = "raced"

    def __init__(self, detail: str = "The record was changed at the same time.") -> None:
        super().__init__(detail, retry_after=1)


class Busy(Temporary):
    """Nobody failed: others have their turn, or the provider's pause is not over. Put back, not counted."""

    code = "busy"


class Withheld(Temporary):
    """The provider keeps `mails` mails from a look, alone and while it works; it gave the others before.

    A folder that it does not open counts as one of them. What answers `message_ids` may be among them.
    """

    code = "withheld"

    def __init__(self, message_ids: Collection[str], mails: int) -> None:
        super().__init__(f"The provider did not give {mails} of the mails.")
        self.message_ids = frozenset(message_ids)
        self.mails = mails


class OutcomeUnknown(ZalionError):
    """It broke after the hand-over began: the message may or may not have left (RFC 1047)."""

    status = 502
    code = "outcome_unknown"
    title = "The outcome is not known"


class CursorExpired(ZalionError):
    """The provider no longer knows where we stopped. Caught in syncing, which starts over.

    `resume` is a cursor from which nothing is lost, where the provider knows a later one than the beginning.
    """

    code = "cursor_expired"

    def __init__(self, detail: str, *, resume: str | None = None) -> None:
        super().__init__(detail)
        self.resume = resume
