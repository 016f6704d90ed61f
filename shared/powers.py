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
    "draft": "drafts in the user's own mailbox",
    "sent": "sees own mail sent elsewhere",
    "copy": "files a copy in Sent of what another system sent",
    "search": "search, folders, linking old mail",
    "push": "tells us of new mail (else polled)",
}

_FIXES = "Give it a receiving provider that can: IMAP, Microsoft 365, Google or Exchange."
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
        "copy",
        "What is sent from a case lies in Sent only where the sending server puts a copy there.",
        "Send with the system that receives, or see that the sending server files copies (`filesCopy`).",
    ),
    Limit(
        "search",
        "It cannot be searched, and has no folders to choose: old mail cannot be found and linked.",
        _FIXES,
    ),
    Limit("push", "Its server does not tell us of new mail: it is looked at every {minutes} minutes."),
)


_NEEDED: dict[Power, Power] = {"push": "receive", "draft": "send", "copy": "send"}
"""What is no use without another power."""


def of_provider(provider: Provider) -> dict[Power, bool]:
    """Return which powers a provider has."""
    return {
        "receive": provider.receiver is not None,
        "send": provider.sender is not None,
        "draft": provider.drafter is not None,
        "sent": provider.sent_folder is not None,
        "copy": provider.keeps_copies,
        "search": provider.searcher is not None,
        "push": provider.pusher is not None,
    }


def of_mailbox(mailbox: Mailbox, provider: Callable[[str], Provider]) -> Powers:
    """Return what a mailbox can with its two providers.

    A mailbox that only sends is not polled either; one that only reads has no use for drafts.
    """
    receives = of_provider(provider(mailbox.receives_with)) if mailbox.receives_with else {}
    copies = receives.get("copy", False) or _files_copy(mailbox)
    has = {**receives, **_sending(mailbox, provider), "copy": mailbox.sends_with is not None and copies}
    minutes = mailbox.poll_seconds // 60
    limits = [
        Limit(limit.power, limit.detail.format(minutes=minutes), limit.fix)
        for limit in _LIMITS
        if not has.get(limit.power) and (limit.power not in _NEEDED or has.get(_NEEDED[limit.power]))
    ]
    return Powers(tuple(power for power in HEADINGS if has.get(power)), tuple(limits))


def _files_copy(mailbox: Mailbox) -> bool:
    """Whether the sending side is known to file copies itself."""
    sends = mailbox.sends_with or ""
    return sends == mailbox.receives_with or mailbox.settings.get(sends, {}).get("filesCopy") is True


def _sending(mailbox: Mailbox, provider: Callable[[str], Provider]) -> dict[Power, bool]:
    """Return which powers its sending side has, as far as its settings let it."""
    name = mailbox.sends_with
    if name is None:
        return {"send": False, "draft": False}
    sends = provider(name)
    draft = sends.drafter is not None and sends.may_draft(mailbox.settings.get(name, {}))
    return {"send": sends.sender is not None, "draft": draft}
