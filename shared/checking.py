"""What somebody asks when it does not work: is the service ready, what is wrong with this mailbox?"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

from shared import audit, identity, mime, relaying, resuming
from shared.app import DELIVER, SYNC, App
from shared.callers import Caller
from shared.contract import CheckResource, Health
from shared.deliverability import Examination
from shared.errors import ConsentRequired, RateLimited, Temporary, ZalionError
from shared.identity import SignedId
from shared.model import Address, Mailbox
from shared.owning import own
from shared.providers.base import NOBODY, Receiver, given
from shared.relaying import Counting
from shared.storage.base import Stored

ROUND_TRIP_SECONDS = 20
"""How long the doctor waits for its own mail: within the 230 s that Azure gives an HTTP answer."""

LONGEST_PAUSE = 60
"""And beyond that, seconds that it leaves a server alone that asks for it: some take one sign-in a minute."""

SELDOM = 5
"""Seconds between two tries at most; the first ones come sooner."""

HEALTH_LASTS = timedelta(seconds=5)
"""A vault takes 4,000 transactions in ten seconds, in all and from everybody; then it refuses us our work.

https://learn.microsoft.com/azure/key-vault/general/service-limits#secrets-managed-storage-account-keys-and-vault-transactions
"""


def health(app: App) -> Health:
    """Ask every part whether it answers, and count poisoned jobs. No secrets, no customer data.

    Anybody may ask, and as often as they like: the parts are asked every `HEALTH_LASTS` only.
    """
    known = app.health
    with known.lock:
        if known.until is None or app.clock() >= known.until:
            known.found = _looked_at(app)
            known.until = app.clock() + HEALTH_LASTS
        found: Health = known.found
    return found


def _looked_at(app: App) -> Health:
    parts: list[tuple[str, Callable[[], None]]] = [
        ("tables", app.records.ping),
        ("blobs", app.blobs.ping),
        ("vault", app.vault.ping),
    ]
    checks = [_part(name, ping) for name, ping in parts]
    poison, queues = _poison(app)
    checks.append(queues)
    states = {check.status for check in checks}
    status: Literal["ok", "degraded", "failed"] = (
        "failed" if "failed" in states else "degraded" if "warning" in states else "ok"
    )
    return Health(status=status, checks=checks, poison=poison)


def _part(name: str, ping: Callable[[], None]) -> CheckResource:
    try:
        ping()
    except ZalionError as error:
        return CheckResource(name=name, status="failed", detail=error.detail, fix=error.fix)
    return CheckResource(name=name, status="ok", detail="answers")


def _poison(app: App) -> tuple[dict[str, int], CheckResource]:
    try:
        counts = {f"{queue}-poison": app.queues.length(f"{queue}-poison") for queue in (SYNC, DELIVER)}
    except ZalionError as error:
        return {}, CheckResource(name="queues", status="failed", detail=error.detail, fix=error.fix)
    if any(counts.values()):
        fix = "Find the error by the correlation id in the logs; then `python -m tools.requeue` puts it back."
        detail = "Some jobs failed for good and wait in a poison queue."
        return counts, CheckResource(name="queues", status="warning", detail=detail, fix=fix)
    return counts, CheckResource(name="queues", status="ok", detail="no poison")


def doctor(app: App, caller: Caller, mailbox_id: str, selector: str | None = None) -> list[CheckResource]:
    """Try everything the mailbox is for: sign-in, reading, a mail to itself, its Sent folder, push.

    And look whether receivers will believe its mail: `selector` is the DKIM selector to look at, else the
    one in the mail to itself. One that stopped goes on where nobody has to sign in for it and that works.
    Raises InvalidRequest for what is no selector.
    """
    stored = own(app, caller, mailbox_id, admin=True)
    Examination(app, stored.value, selector)
    checks = list(_examine(app, caller, stored, selector))
    outcome = "failed" if any(check.status == "failed" for check in checks) else "done"
    event = audit.entry(app, "mailbox.tested", actor=caller.email, mailbox_id=mailbox_id, outcome=outcome)
    app.records.commit(caller.org_id, event)
    return checks


def _examine(
    app: App, caller: Caller, stored: Stored[Mailbox], selector: str | None = None
) -> Iterator[CheckResource]:
    org_id, mailbox = caller.org_id, stored.value
    trip, refused = _Trip(app, org_id, mailbox), set[str]()
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
        detail = f"The provider does not tell us of new mail, as with shared mailboxes. {minutes}"
        fix = "Ask IT to allow the app itself to read this mailbox, or poll it more often."
        return CheckResource(name="push", status="warning", detail=detail, fix=fix)
    return CheckResource(
        name="push", status="ok", detail=f"Told of new mail until {push.until:%Y-%m-%d %H:%M}."
    )


def _tried(name: str, good: str, attempt: Callable[[], None]) -> CheckResource:
    try:
        attempt()
    except ZalionError as error:
        return CheckResource(name=name, status="failed", detail=error.detail, fix=error.fix)
    return CheckResource(name=name, status="ok", detail=good)


def _read(app: App, org_id: str, mailbox: Mailbox) -> None:
    with app.receiving(org_id, mailbox) as receiver:
        _await(lambda: _works(receiver), LONGEST_PAUSE)


def _works(receiver: Receiver) -> bool:
    receiver.check()
    return True


def _may_send(app: App, org_id: str, mailbox: Mailbox) -> None:
    with app.sending(org_id, mailbox) as sender:
        sender.check()


@dataclass
class _Trip:
    """A short mail from the mailbox to itself, and its copy in Sent."""

    app: App
    org_id: str
    mailbox: Mailbox
    message_id: str = ""
    raw: bytes = b""
    arrived: bytes = b""
    copied: bool = False

    def there_and_back(self) -> None:
        """Send it and wait until it can be read. Raises AgainstRules where it may not leave."""
        raw, address = self._compose(), self.mailbox.address
        with self.app.sending(self.org_id, self.mailbox) as sender:
            receipt = sender.send(raw, address, [address], self._let_go)
            self.raw = raw
            self.message_id = receipt.message_id or self.message_id
            self.copied = sender.files_copy
        with self.app.receiving(self.org_id, self.mailbox) as receiver:
            _await(lambda: self._arrived(receiver), LONGEST_PAUSE)

    def _let_go(self, _refused: Mapping[str, str] = NOBODY, /) -> None:
        """See `Commit`. Nobody was promised this mail: all there is to write down is that one more leaves."""

        def commit(counting: Counting) -> None:
            if counting.writes:
                self.app.records.commit(self.org_id, *counting.writes)

        count = partial(relaying.count_test, self.app, self.org_id, self.mailbox)
        relaying.in_turn(self.app, self.org_id, count(), count, commit)

    def _arrived(self, receiver: Receiver) -> bool:
        """Whether it can be read yet; where a copy lies in Sent, too, what came is the one that says so."""
        receiver.close()  # a new session shows what came, and with POP3 no other does
        looked = given(receiver.look([self.message_id]))
        found = [one for one in looked if one.message_id == self.message_id]
        came = next((one for one in found if not one.is_sent), next(iter(found), None))
        if came:
            self.arrived = receiver.fetch(came.ref)
        return came is not None

    def copy(self) -> None:
        """File its copy as a real mail's would be, or wait for the provider's, and find it in Sent."""
        if not self.raw:
            raise Temporary("There was no mail to file a copy of.", fix="Mend the checks above first.")
        with self.app.sent_folder(self.org_id, self.mailbox) as sent:
            if not self.copied:
                sent.keep_sent(self.raw, self.app.clock())
            _await(lambda: sent.find_sent(self.message_id) is not None)

    def _compose(self) -> bytes:
        now = self.app.clock()
        signed = SignedId("0" * 16, f"{int(now.timestamp() * 1000):013d}-{secrets.token_hex(6)}")
        key, domain = self.app.keys.signing(self.org_id), self.mailbox.address.rpartition("@")[2]
        self.message_id = identity.mint(key, self.org_id, signed, domain)
        me = Address(self.mailbox.address, self.mailbox.name)
        return mime.compose(
            mime.Outgoing(
                message_id=self.message_id,
                date=now.replace(microsecond=0),
                sender=me,
                to=(me,),
                cc=(),
                subject="Zalion mailbox test",
                text="This mail tests the connection of your mailbox to Zalion. You can delete it.",
                html=None,
                in_reply_to=None,
                references=(),
                attachments=(),
            )
        )


def _await(there: Callable[[], bool], longest_pause: float = 0) -> None:
    """Try until it is there, and leave a server alone that asks for so long a pause at most, in all."""
    begun, asked, pause = time.monotonic(), 0.0, 1.0
    while time.monotonic() < begun + ROUND_TRIP_SECONDS + asked:
        try:
            if there():
                return
        except RateLimited as error:
            wait = max(error.retry_after, pause)
            asked += wait
            if asked > longest_pause:
                raise
            time.sleep(wait)
        else:
            time.sleep(pause)
            pause = min(2 * pause, SELDOM)
    raise Temporary(
        f"The mail was sent but did not show within {ROUND_TRIP_SECONDS} seconds.",
        fix="Look into Junk, the filters and the Sent folder of the mailbox, then test again.",
    )
