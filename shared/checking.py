"""What somebody asks when it does not work: is the service ready, what is wrong with this mailbox?"""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Literal

from shared import audit, identity, mime
from shared.app import DELIVER, SYNC, App
from shared.callers import Caller
from shared.connecting import own
from shared.contract import CheckResource, Health
from shared.errors import Temporary, ZalionError
from shared.identity import SignedId
from shared.model import Address, Mailbox
from shared.providers.base import Receiver

ROUND_TRIP_SECONDS = 20
"""How long the doctor waits for its own mail: within the 230 s that Azure gives an HTTP answer."""


def health(app: App) -> Health:
    """Ask every part whether it answers, and count poisoned jobs. No secrets, no customer data."""
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
        fix = "Find the error by the job's correlation id in the logs, then put the messages back."
        detail = "Some jobs failed for good and wait in a poison queue."
        return counts, CheckResource(name="queues", status="warning", detail=detail, fix=fix)
    return counts, CheckResource(name="queues", status="ok", detail="no poison")


def doctor(app: App, caller: Caller, mailbox_id: str) -> list[CheckResource]:
    """Try everything the mailbox is for: sign-in, reading, a mail to itself, its Sent folder, push."""
    mailbox = own(app, caller, mailbox_id, admin=True).value
    checks = list(_examine(app, caller.org_id, mailbox))
    outcome = "failed" if any(check.status == "failed" for check in checks) else "done"
    event = audit.entry(app, "mailbox.tested", actor=caller.email, mailbox_id=mailbox_id, outcome=outcome)
    app.records.commit(caller.org_id, event)
    return checks


def _examine(app: App, org_id: str, mailbox: Mailbox) -> Iterator[CheckResource]:
    if mailbox.receives_with:
        yield _tried("sign_in_receiving", "Signed in and can read.", lambda: _read(app, org_id, mailbox))
    if mailbox.sends_with:
        yield _tried("sign_in_sending", "Signed in and may send.", lambda: _may_send(app, org_id, mailbox))
    if mailbox.receives_with and mailbox.sends_with:
        yield _tried("round_trip", "A mail to itself arrived.", lambda: _round_trip(app, org_id, mailbox))
    if app.has_sent_folder(mailbox):
        yield _tried("sent_copy", "The Sent folder answers.", lambda: _sent(app, org_id, mailbox))
    detail = "This provider has no push; the mailbox is polled."
    yield CheckResource(name="push", status="skipped", detail=detail)


def _tried(name: str, good: str, attempt: Callable[[], None]) -> CheckResource:
    try:
        attempt()
    except ZalionError as error:
        return CheckResource(name=name, status="failed", detail=error.detail, fix=error.fix)
    return CheckResource(name=name, status="ok", detail=good)


def _read(app: App, org_id: str, mailbox: Mailbox) -> None:
    with app.receiving(org_id, mailbox) as receiver:
        receiver.check()


def _may_send(app: App, org_id: str, mailbox: Mailbox) -> None:
    with app.sending(org_id, mailbox) as sender:
        sender.check()


def _sent(app: App, org_id: str, mailbox: Mailbox) -> None:
    with app.sent_folder(org_id, mailbox) as sent:
        sent.find_sent("<nothing@zalion.invalid>")


def _round_trip(app: App, org_id: str, mailbox: Mailbox) -> None:
    """Send a short mail from the mailbox to itself and wait until it can be read there."""
    signed = SignedId("0" * 16, f"{int(app.clock().timestamp() * 1000):013d}-{secrets.token_hex(6)}")
    domain = mailbox.address.rpartition("@")[2]
    message_id = identity.mint(app.keys.signing(org_id), org_id, signed, domain)
    me = Address(mailbox.address, mailbox.name)
    raw = mime.compose(
        mime.Outgoing(
            message_id=message_id,
            date=app.clock().replace(microsecond=0),
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
    with app.sending(org_id, mailbox) as sender:
        sender.send(raw, mailbox.address, [mailbox.address], lambda: None)
    with app.receiving(org_id, mailbox) as receiver:
        _await(receiver, message_id)


def _await(receiver: Receiver, message_id: str) -> None:
    deadline = time.monotonic() + ROUND_TRIP_SECONDS
    while time.monotonic() < deadline:
        if any(found.message_id == message_id for found in receiver.look([message_id])):
            return
        time.sleep(1)
    raise Temporary(
        f"The mail was sent but did not arrive within {ROUND_TRIP_SECONDS} seconds.",
        fix="Look into Junk and into the filters of the mailbox, then test again.",
    )
