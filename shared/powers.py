"""What a mailbox can do, and in plain words what it cannot: made of its providers' powers. Pure.

The README's table of systems and the API's `can` and `limits` both come from here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared.model import Mailbox, Power
from shared.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Limit:
    """A power that a mailbox lacks: what that means for its owner, and what would give it."""

    power: Power
    detail: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Powers:
    """What a mailbox can, and its limits; together they are all powers."""

    can: tuple[Power, ...]
    limits: tuple[Limit, ...]


HEADINGS: dict[Power, str] = {
    "receive": "receives, files replies",
    "send": "sends",
    "copy": "puts what a case sends into Sent",
    "draft": "drafts in the user's own mailbox",
    "sent": "sees own mail sent elsewhere",
    "search": "search, folders, linking old mail",
    "push": "tells us of new mail (else polled)",
}

_FIXES = "Give it a receiving provider that can: IMAP, Microsoft 365, Google or Exchange."
"""Systems are named in words: to ask each one what it can would load its library at a cold start, for a
sentence (decision 002). A test reads the names."""

_LIMITS: tuple[Limit, ...] = (
    Limit(
        "receive",
        "This mailbox only sends: replies and bounces cannot be followed, and appear in no case.",
        "Give it a receiving provider.",
    ),
    Limit(
        "send",
        "This mailbox only reads: nothing can be sent from a case with it.",
        "Give it a sending provider.",
    ),
    Limit(
        "copy",
        "No copy of what is sent from a case lies in the Sent folder of its owner's mail program.",
        "Let one provider receive and send, or receive over IMAP or from Exchange. A sending server that "
        "files copies by itself is told so by its setting filesCopy.",
    ),
    Limit(
        "draft",
        "A mail of a case cannot be put into its drafts, to be finished in its owner's own mail program.",
        "Google can, once IT has switched on drafts; disconnect the mailbox then, and connect it again.",
    ),
    Limit(
        "sent",
        "Mail that its owner sends from another program cannot be seen, only what is sent from a case.",
        _FIXES,
    ),
    Limit(
        "search",
        "It cannot be searched, and has no folders to choose: old mail cannot be found and linked.",
        _FIXES,
    ),
    Limit("push", "Its server does not tell us of new mail: it is looked at every {often}."),
)


_NEEDED: dict[Power, Power] = {"push": "receive", "draft": "send", "copy": "send"}
"""What is no use without another power."""


def of_provider(provider: Provider) -> dict[Power, bool]:
    """Return which powers a provider has; whether there is a copy in Sent is a matter of two."""
    return {
        "receive": provider.receiver is not None,
        "send": provider.sender is not None,
        "draft": provider.drafter is not None,
        "sent": provider.sent_folder is not None,
        "search": provider.searcher is not None,
        "push": provider.pusher is not None,
    }


def of_mailbox(mailbox: Mailbox, provider: Callable[[str], Provider]) -> Powers:
    """Return what a mailbox can with its two providers.

    A mailbox that only sends is not polled either; one that only reads has no use for drafts.
    """
    receives = of_provider(provider(mailbox.receives_with)) if mailbox.receives_with else {}
    has = {**receives, **_sending(mailbox, provider)}
    minutes = mailbox.poll_seconds // 60
    often = "minute" if minutes == 1 else f"{minutes} minutes"
    limits = [
        Limit(limit.power, limit.detail.format(often=often), limit.fix)
        for limit in _LIMITS
        if not has.get(limit.power) and (limit.power not in _NEEDED or has.get(_NEEDED[limit.power]))
    ]
    return Powers(tuple(power for power in HEADINGS if has.get(power)), tuple(limits))


def _sending(mailbox: Mailbox, provider: Callable[[str], Provider]) -> dict[Power, bool]:
    """Return which powers its sending side has, as far as its settings let it."""
    name = mailbox.sends_with
    if name is None:
        return {"send": False, "draft": False}
    sends, settings = provider(name), mailbox.settings.get(name, {})
    draft = sends.drafter is not None and sends.may_draft(settings)
    kept = mailbox.receives_with is not None and provider(mailbox.receives_with).keeps_copies
    return {"send": sends.sender is not None, "draft": draft, "copy": kept or sends.files_copy(settings)}
