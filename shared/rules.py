"""What an organisation allows to be sent through a provider: decided here, enforced by `relaying`. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared import mime
from shared.errors import InvalidRequest, Rejected, Temporary
from shared.model import Tally
from shared.providers.base import Field, Provider

FORM = (
    Field(
        "allowedRecipients",
        "Only these may be written to: domains (supplier.example, *.supplier.example for all below it) and "
        "addresses; without it everybody",
        "strings",
        level="integration",
    ),
    Field(
        "allowedSenders",
        "Only mailboxes of these domains may send, each once PUT /domains/{domain} proved it; without it all",
        "strings",
        level="integration",
    ),
    Field(
        "maxRecipients",
        "Most recipients of one mail, To, Cc and Bcc together",
        "integer",
        level="integration",
    ),
    Field(
        "maxPerHour",
        "Most mails that all mailboxes may send through this provider within any 60 minutes; "
        "what was promised before waits until there is room",
        "integer",
        level="integration",
    ),
)
"""Asked of IT for every provider that sends. A change reaches every worker within half a minute."""


PROMPT = timedelta(minutes=1)
"""What leaves so soon after its promise was counted by it."""

HOUR = 62
"""Minutes counted: an hour and PROMPT, and one more because the first may be counted in part only."""

_ASK = "Ask your administrator to change {setting} of the {provider} integration."


class AgainstRules(Rejected):
    """The organisation's own rules forbid it; nothing was sent."""

    code = "against_rules"
    title = "Your organisation's rules do not allow this"


def form(provider: Provider) -> tuple[Field, ...]:
    """Return what IT is asked for: the provider's own settings and, where it sends, the rules for it."""
    return (*provider.form, *FORM) if provider.sender else provider.form


@dataclass(frozen=True, slots=True)
class Rules:
    """One provider's rules; empty and None where there is none.

    Attributes:
        recipients: domains, `*.` domains and addresses, in lower case.
        senders: domains.
        proven: those of the senders' domains that a DNS record proves.
    """

    provider: str
    recipients: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()
    proven: frozenset[str] = frozenset()
    max_recipients: int | None = None
    max_per_hour: int | None = None

    @classmethod
    def of(cls, provider: str, settings: Mapping[str, Any], proven: Iterable[str]) -> "Rules":
        """Read them from an integration's settings, which `checked` has seen."""
        return cls(
            provider=provider,
            recipients=frozenset(settings.get("allowedRecipients", ())),
            senders=frozenset(settings.get("allowedSenders", ())),
            proven=frozenset(proven),
            max_recipients=settings.get("maxRecipients"),
            max_per_hour=settings.get("maxPerHour"),
        )

    def judge(self, sender: str, recipients: Sequence[tuple[str, str]]) -> None:
        """Raise AgainstRules unless `sender` may write to all `recipients`: (field, address) pairs."""
        domain = _domain(sender)
        if self.senders and domain not in self.senders:
            raise self._refusal("Mailboxes of this domain may not send.", "mailboxId", "allowedSenders")
        if self.senders and domain not in self.proven:
            fix = f"An administrator has to prove {domain}: PUT /domains/{domain} says how."
            raise AgainstRules("The domain of this mailbox is not proven yet.", field="mailboxId", fix=fix)
        count = len({address for _, address in recipients})
        if self.max_recipients is not None and count > self.max_recipients:
            told = f"A mail may have at most {self.max_recipients} recipients; this one has {count}."
            raise self._refusal(told, "to", "maxRecipients")
        for field, address in recipients:
            if self.recipients and not self._may_reach(address):
                raise self._refusal("Mail to this address is not allowed.", field, "allowedRecipients")

    def count(self, tally: Tally, now: datetime) -> Tally:
        """Return the tally with one mail more. Raises AgainstRules where the hour is full."""
        free = self.full_until(tally, now)
        if free:
            told = f"No more than {self.max_per_hour} mails may be sent within an hour."
            fix = f"Send it again at {free:%H:%M} UTC. {self._ask('maxPerHour')}"
            raise AgainstRules(told, field="mailboxId", fix=fix)
        return _one_more(tally, now)

    def let_go(self, tally: Tally, now: datetime, counted_at: datetime | None) -> Tally:
        """Return the tally with a mail that leaves long after its promise, counted now and no more then.

        Args:
            counted_at: when this mail was counted before. It does not stand in its own way.

        Raises Temporary where the hour is full.
        """
        tally = _without(tally, counted_at)
        free = self.full_until(tally, now)
        if free:
            told = f"No more than {self.max_per_hour} mails may leave within an hour."
            fix = f"It leaves by itself once there is room. {self._ask('maxPerHour')}"
            raise Temporary(told, fix=fix, retry_after=(free - now).total_seconds())
        return _one_more(tally, now)

    def full_until(self, tally: Tally, now: datetime) -> datetime | None:
        """Say when the hour has room again; None where it has."""
        kept = _within_the_hour(tally, now)
        left, passed = sum(kept.values()), None
        for at in sorted(kept, key=int):  # where the limit was lowered, the first minutes may not be enough
            if self.max_per_hour is None or left < self.max_per_hour:
                break
            left, passed = left - kept[at], int(at)
        return None if passed is None else datetime.fromtimestamp(60 * (passed + HOUR), now.tzinfo)

    def _may_reach(self, address: str) -> bool:
        domain = _domain(address)
        above = domain.split(".")
        parents = {"*." + ".".join(above[place:]) for place in range(1, len(above))}
        return not self.recipients.isdisjoint({address, domain, *parents})

    def _refusal(self, told: str, field: str, setting: str) -> AgainstRules:
        return AgainstRules(told, field=field, fix=self._ask(setting))

    def _ask(self, setting: str) -> str:
        return _ASK.format(setting=setting, provider=self.provider)


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an integration's settings with the rules in one spelling. Raises InvalidRequest."""
    made = dict(settings)
    for name in ("allowedRecipients", "allowedSenders"):
        if name in made:
            places = ((text, f"settings.{name}[{place}]") for place, text in enumerate(made[name]))
            made[name] = [_entry(text, field, people=name == "allowedRecipients") for text, field in places]
    return made


def domain(text: str, field: str) -> str:
    """Return a domain that somebody typed, in lower case and A-labels. Raises InvalidRequest."""
    try:
        return _domain(mime.check_address(f"x@{text.strip()}", field))
    except InvalidRequest as error:
        raise InvalidRequest("This is not a domain name.", field=field) from error


def _entry(text: str, field: str, *, people: bool) -> str:
    if people and "@" in text:
        return mime.check_address(text, field)
    below = "*." if people and text.startswith("*.") else ""
    return below + domain(text.removeprefix(below), field)


def _within_the_hour(tally: Tally, now: datetime) -> dict[str, int]:
    first = int(minute(now)) - HOUR
    return {at: number for at, number in tally.minutes.items() if int(at) > first}


def _without(tally: Tally, at: datetime | None) -> Tally:
    counted = minute(at) if at else ""
    left = {one: number - (one == counted) for one, number in tally.minutes.items()}
    return Tally(tally.provider, {one: number for one, number in left.items() if number})


def minute(at: datetime) -> str:
    """Name the minute (since 1970) in which a mail is counted."""
    return str(int(at.timestamp()) // 60)


def _one_more(tally: Tally, now: datetime) -> Tally:
    kept, current = _within_the_hour(tally, now), minute(now)
    return Tally(tally.provider, {**kept, current: kept.get(current, 0) + 1})


def _domain(address: str) -> str:
    return address.rpartition("@")[2]
