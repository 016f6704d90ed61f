"""What somebody asks when it does not work: is the service ready, what is wrong with this mailbox?"""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Literal

from shared import audit, logs, resuming
from shared.app import DELIVER, SYNC, App
from shared.callers import Caller, Tokens
from shared.contract import CheckResource, Health
from shared.deliverability import Examination
from shared.errors import ConsentRequired, ZalionError
from shared.model import Mailbox
from shared.owning import own
from shared.providers.base import Receiver
from shared.roundtrip import LONGEST_PAUSE, RoundTrip, in_time
from shared.storage.base import Stored

HEALTH_LASTS = timedelta(seconds=5)
"""A vault takes 4,000 transactions in ten seconds, in all and from everybody; then it refuses us our work.

https://learn.microsoft.com/azure/key-vault/general/service-limits#secrets-managed-storage-account-keys-and-vault-transactions
"""

OVERDUE = timedelta(minutes=10)
"""Several ticks: a timer that is late, or a store that was away for a moment, is no news."""

AGAIN = "Test again in a few minutes; if it still fails, ask who runs the mail server what its answer means."


_Found = tuple[Literal["ok", "warning"], str, str | None]
"""How a part does, in which words, and what to do about it."""


def health(app: App, tokens: Tokens) -> Health:
    """Ask every part whether it answers, and count what is poisoned or overdue. No secrets, no customer data.

    Anybody may ask, and as often as they like: the parts are asked every `HEALTH_LASTS` only.
    """
    known = app.health
    with known.lock:
        if known.until is None or app.clock() >= known.until:
            known.found = _looked_at(app, tokens)
            known.until = app.clock() + HEALTH_LASTS
        found: Health = known.found
    return found


def _looked_at(app: App, tokens: Tokens) -> Health:
    poison: dict[str, int] = {}
    parts: list[tuple[str, str, Callable[[], _Found]]] = [
        ("tables", "STORAGE", lambda: _answers(app.records.ping)),
        ("blobs", "STORAGE", lambda: _answers(app.blobs.ping)),
        ("vault", "KEY_VAULT_URL and KEY_VAULT_VERIFY_CHALLENGE", lambda: _answers(app.vault.ping)),
        ("queues", "STORAGE", lambda: _queues(app, poison)),
        ("schedule", "STORAGE", lambda: _schedule(app)),
        ("issuer", "AUTH_JWKS_URL", lambda: _issuer(tokens)),
    ]
    checks = [_part(*part) for part in parts]
    states = {check.status for check in checks}
    status: Literal["ok", "degraded", "failed"] = (
        "failed" if "failed" in states else "degraded" if "warning" in states else "ok"
    )
    return Health(status=status, checks=checks, poison=poison)


def _part(name: str, settings: str, look: Callable[[], _Found]) -> CheckResource:
    """Have a look at a part; `settings` say where it is."""
    try:
        status, detail, fix = look()
    except ZalionError as error:
        return CheckResource(name=name, status="failed", detail=error.detail, fix=error.fix)
    except Exception as error:  # noqa: BLE001 - what no store of ours can mean is a part that is none
        logs.log("health.failed", level=logging.ERROR, error=error, part=name)
        fix = f"Check {settings}; the log has more under `health.failed`."
        return CheckResource(name=name, status="failed", detail="The part is misconfigured.", fix=fix)
    return CheckResource(name=name, status=status, detail=detail, fix=fix)


def _answers(ping: Callable[[], None]) -> _Found:
    ping()
    return "ok", "answers", None


def _queues(app: App, poison: dict[str, int]) -> _Found:
    """Count the failed jobs into `poison`."""
    poison |= {f"{queue}-poison": app.queues.length(f"{queue}-poison") for queue in (SYNC, DELIVER)}
    if not any(poison.values()):
        return "ok", "no poison", None
    fix = "Find the error by the correlation id in the logs; then `python -m tools.requeue` puts it back."
    return "warning", "Some jobs failed for good and wait in a poison queue.", fix


def _schedule(app: App) -> _Found:
    """Whether the timer runs: each minute it takes off the schedule what is due.

    A warning only. Were this no readiness, whoever restarts what is not ready would keep it from catching up.
    """
    now = app.clock()
    first = next(app.schedule.until(now - OVERDUE), None)
    if first is None:
        return "ok", "nothing is overdue", None
    fix = "Look in the logs for runs of the timer `tick`, and for `tick.failed` and `tick.postponed`."
    return "warning", f"Work is {(now - first.at) // timedelta(minutes=1)} minutes overdue.", fix


def _issuer(tokens: Tokens) -> _Found:
    """What the last call with a token found out. A warning: known keys may serve on, and no restart helps."""
    if tokens.cut_off:
        fix = "See whether AUTH_JWKS_URL is right and can be reached from here."
        return "warning", "The keys of the token issuer could not be fetched when they were last needed.", fix
    return "ok", "no failure known", None


def doctor(app: App, caller: Caller, mailbox_id: str, selector: str | None = None) -> list[CheckResource]:
    """Try everything the mailbox is for: sign-in, reading, a mail to itself, its Sent folder, push.

    And look whether receivers will believe its mail: `selector` is the DKIM selector to look at, else the
    one in the mail to itself. One that stopped goes on where nobody has to sign in for it and that works.
    Raises InvalidRequest for what is no selector.
    """
    stored = own(app, caller, mailbox_id, admin=True)
    Examination(app, stored.value, selector)
    with audit.recorded(app, caller, "mailbox.tested", mailbox_id=mailbox_id) as ending:
        checks = list(_examine(app, caller, stored, selector))
        if any(check.status == "failed" for check in checks):
            ending.outcome = "failed"
    return checks


def _examine(
    app: App, caller: Caller, stored: Stored[Mailbox], selector: str | None = None
) -> Iterator[CheckResource]:
    org_id, mailbox = caller.org_id, stored.value
    trip, refused = RoundTrip(app, org_id, mailbox), set[str]()
    signing_in = list(_signing_in(app, org_id, mailbox, refused))
    yield from signing_in
    if mailbox.state == "needs_consent":
        signed_in = all(check.status == "ok" for check in signing_in)
        yield _tried(
            "state",
            "It had stopped and goes on now; what waited leaves.",
            lambda: resuming.tested(app, org_id, stored, caller.email, signed_in=signed_in),
        )
    if mailbox.receives_with and mailbox.sends_with:
        good = "A mail to itself arrived."
        yield _spared("round_trip") if refused else _tried("round_trip", good, trip.there_and_back)
    if mailbox.sends_with and app.has_sent_folder(mailbox):
        good = "A copy of it lies in Sent."
        yield _spared("sent_copy") if refused else _tried("sent_copy", good, trip.copy)
    yield _push(app, mailbox)
    if mailbox.sends_with:
        yield from Examination(app, mailbox, selector, trip.arrived).findings()


def _signing_in(app: App, org_id: str, mailbox: Mailbox, refused: set[str]) -> Iterator[CheckResource]:
    """Sign in for each side; `refused` takes the providers whose server refuses the password."""

    def attempt(provider: str, sign_in: Callable[[App, str, Mailbox], None]) -> None:
        try:
            sign_in(app, org_id, mailbox)
        except ConsentRequired:
            refused.update([provider] if app.provider(provider).oauth is None else [])
            raise

    receives, sends = mailbox.receives_with, mailbox.sends_with
    if receives:
        yield _tried("sign_in_receiving", "Signed in and can read.", lambda: attempt(receives, _read))
    if sends in refused:
        yield _spared("sign_in_sending")
    elif sends:
        yield _tried("sign_in_sending", "Signed in and may send.", lambda: attempt(sends, _may_send))


def _spared(name: str) -> CheckResource:
    """Leave out what would show a server once more a password that it refuses: some lock the account then."""
    detail = "Not tried, because the server refuses the sign-in, and may lock the account after a few tries."
    return CheckResource(name=name, status="skipped", detail=detail, fix="Mend the checks above first.")


def _push(app: App, mailbox: Mailbox) -> CheckResource:
    """What the record knows of the mailbox's push; polls find everything meanwhile."""
    minutes = f"The mailbox is looked at every {mailbox.poll_seconds // 60} minutes."
    if not app.has_push(mailbox):
        return CheckResource(name="push", status="skipped", detail=f"This provider has no push. {minutes}")
    push = mailbox.push
    if push is None:
        fix = "Wait a minute and test again; then ask IT whether our address can be reached."
        return CheckResource(name="push", status="warning", detail=f"No push yet. {minutes}", fix=fix)
    if push.silent:
        told = app.provider(mailbox.receives_with or "").silence
        return CheckResource(name="push", status="warning", detail=f"{told.why} {minutes}", fix=told.fix)
    return CheckResource(
        name="push", status="ok", detail=f"Told of new mail until {push.until:%Y-%m-%d %H:%M}."
    )


def _tried(name: str, good: str, attempt: Callable[[], None]) -> CheckResource:
    try:
        attempt()
    except ZalionError as error:
        return CheckResource(name=name, status="failed", detail=error.detail, fix=error.fix or AGAIN)
    return CheckResource(name=name, status="ok", detail=good)


def _read(app: App, org_id: str, mailbox: Mailbox) -> None:
    with app.receiving(org_id, mailbox) as receiver:
        in_time(lambda: _works(receiver), LONGEST_PAUSE)


def _works(receiver: Receiver) -> bool:
    receiver.check()
    return True


def _may_send(app: App, org_id: str, mailbox: Mailbox) -> None:
    with app.sending(org_id, mailbox) as sender:
        sender.check()
