"""What becomes of a mail whose outcome nobody told: proof from elsewhere, and a store that is away a moment."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from shared import disconnecting, integrating, scheduling, views, working
from shared.contract import Person, PutIntegration
from shared.errors import (
    ConsentRequired,
    InvalidRequest,
    OutcomeUnknown,
    Raced,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)
from shared.model import Mailbox, Message, OutboxItem, Tally
from shared.promises import Promised
from shared.rules import AgainstRules
from shared.storage.base import Save
from tests.doors import Guard, guarded
from tests.fakes import FakeMail
from tests.scenes import caller, connect, someone
from tests.walks.test_other_providers import later, stage  # noqa: F401 - a mailbox at the fake system

# ruff: noqa: F811 - fixtures are named as what they are


class Observed(FakeMail):
    """Has something happen before a hand-over begins, and right after it."""

    def before(self) -> None: ...

    def after(self) -> None: ...

    def send(self, raw, envelope_from, envelope_to, commit):
        self.before()

        def committed(*refused):
            commit(*refused)
            self.after()

        return super().send(raw, envelope_from, envelope_to, committed)


@pytest.fixture
def mail():
    return Observed()


@pytest.fixture
def carol(stage):
    """A colleague with a connected mailbox at another system."""
    person = someone(stage.world, "carol", stage.alice.address.rpartition("@")[2])
    box = connect(stage.world, stage.app, stage.org_id, person, "imap")
    stage.work()

    def got(message):
        person.receive(stage.raw(message))
        stage.sync(box)

    return person, got


def in_sent(mail):
    return sum(is_sent for _, _, is_sent in mail.raws)


def open_(stage):
    return stage.app.records.range(stage.org_id, OutboxItem)


def test_proof_that_comes_while_the_server_does_not_answer_is_not_written_over(stage, mail, carol):
    mail.files = False
    person, got = carol
    message = stage.send(to=[Person(address=person.address)])
    mail.after = lambda: got(message)
    mail.fails["lost"] = [OutcomeUnknown("Broken.")]
    stage.work()
    later(stage, minutes=20)
    assert stage.email(message.id).state == "sent"
    assert in_sent(mail) == 1
    assert open_(stage) == []


def test_proof_that_comes_when_it_was_uncertain_files_the_copy_too(stage, mail, carol):
    mail.files = False
    person, got = carol
    message = stage.send(to=[Person(address=person.address)])
    mail.fails["lost"] = [OutcomeUnknown("Broken.")]
    stage.work()
    assert stage.email(message.id).state == "uncertain"
    got(message)
    later(stage, minutes=5)
    assert stage.email(message.id).state == "sent"
    assert in_sent(mail) == 1
    assert open_(stage) == []


def test_proof_from_elsewhere_adds_no_copy_to_the_one_that_the_server_files_late(stage, mail, carol):
    person, got = carol
    message = stage.send(to=[Person(address=person.address)])
    mail.fails["lost"] = [OutcomeUnknown("Broken.")]
    stage.work()
    got(message)
    later(stage, minutes=4)
    assert stage.email(message.id).state == "sent"
    mail.arrive(stage.raw(message), is_sent=True)
    later(stage, minutes=30)
    assert in_sent(mail) == 1
    assert open_(stage) == []


def test_a_mail_that_waits_and_has_arrived_all_the_same_is_not_sent_again(stage, mail, carol):
    person, got = carol
    message = stage.send(to=[Person(address=person.address)])
    mail.fails["lost"] = [Temporary("451")]
    stage.work()
    assert stage.email(message.id).state == "queued"
    before = len(mail.left)
    got(message)
    later(stage, minutes=20)
    assert stage.email(message.id).state == "sent"
    assert len(mail.left) == before


@pytest.mark.parametrize(
    ("fault", "error", "state", "times"),
    [
        ("", None, "sent", 1),
        ("before", Rejected("550 No such user."), "failed", 0),
        ("lost", Rejected("554 Spam."), "failed", 0),
        ("lost", OutcomeUnknown("It broke."), "uncertain", 0),
    ],
)
def test_a_copy_that_somebody_has_before_any_hand_over_began_proves_nothing(
    stage, mail, carol, fault, error, state, times
):
    _, planted = carol
    message = stage.send()
    mail.fails[fault] = [error]
    planted(message)
    stage.work()
    assert stage.email(message.id).deliveries
    for _ in range(2):
        later(stage, minutes=20)
        assert (stage.email(message.id).state, len(mail.left), open_(stage)) == (state, times, [])


def test_what_somebody_had_before_the_first_attempt_keeps_it_from_no_later_one(stage, mail, carol):
    _, planted = carol
    message = stage.send()
    mail.fails["lost"] = [Temporary("451 Greylisted.")]
    planted(message)
    stage.work()
    later(stage, minutes=20)
    assert (stage.email(message.id).state, len(mail.left)) == ("sent", 1)


def test_a_begun_mail_whose_mailbox_is_gone_is_uncertain_at_the_first_look(stage, mail):
    message = stage.send()
    mail.fails["lost"] = [ValueError("a bug")]
    for text in stage.waiting():
        with suppress(RuntimeError):
            working.run(stage.app, text)
    disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
    stage.work()
    assert stage.email(message.id).state == "sending", "its worker may still be at it"
    later(stage, minutes=20)
    found = stage.email(message.id)
    assert (found.state, found.error.code) == ("uncertain", "outcome_unknown")
    assert open_(stage) == []


def test_what_keeps_us_from_looking_for_a_begun_mail_is_shown_until_its_copy_is_found(stage, mail):
    message = stage.send()
    mail.fails["lost"] = [OutcomeUnknown("Broken.")]
    mail.fails["find_sent"] = [InvalidRequest("Expired certificate.", fix="Renew it.")]
    stage.work()
    found = stage.email(message.id)
    assert (found.state, found.error.detail, found.error.fix) == (
        "sending",
        "Expired certificate.",
        "Renew it.",
    )
    mail.arrive(stage.raw(message), is_sent=True)
    later(stage, minutes=20)
    found = stage.email(message.id)
    assert (found.state, found.error) == ("sent", None)


def test_a_full_mailbox_gets_the_copy_ever_more_rarely_and_the_mail_says_that_it_is_missing(stage, mail):
    mail.files = False
    mail.fails["keep_sent"] = [RateLimited("Quota exceeded.", retry_after=300) for _ in range(1000)]
    message = stage.sent()
    assert (message.state, message.error) == ("sent", None)
    pauses = []
    while promises := open_(stage):
        pauses.append(promises[0].value.not_before - stage.clock())
        later(stage, seconds=max(pauses[-1].total_seconds(), 1))
    assert timedelta(hours=23) < sum(pauses, timedelta()) < timedelta(hours=26)
    found = stage.email(message.id)
    assert (found.state, found.error.code, len(mail.left)) == ("sent", "copy_missing", 1)
    assert "Quota exceeded." in found.error.detail
    assert found.error.fix
    assert open_(stage) == []
    assert 20 < 1000 - len(mail.fails["keep_sent"]) < 35


@pytest.mark.parametrize("error", [Rejected, Unsupported])
def test_a_copy_that_is_refused_for_good_is_told_until_it_lies_in_sent_at_the_mail_which_stays_sent(
    stage, mail, error
):
    mail.files = False
    mail.fails["keep_sent"] = [error("Not here.", fix="Name a folder.")]
    message = stage.sent()
    shown = views.email(stage.email(message.id))
    assert (shown.state, shown.error.code, shown.error.fix) == ("sent", "copy_missing", "Name a folder.")
    mail.arrive(stage.raw(message), is_sent=True)
    stage.sync()
    assert stage.email(message.id).error is None


def days_of_bugs(stage, hours=30):
    """What the timers and the queues do where a worker dies of every attempt."""
    for _ in range(hours):
        stage.clock.advance(hours=1)
        scheduling.tick(stage.app)
        for text in stage.waiting():
            with suppress(RuntimeError):
                working.run(stage.app, text)


def test_a_mail_that_every_worker_dies_of_fails_visibly_after_a_day(stage, mail):
    message = stage.send()
    mail.fails["before"] = [ValueError("a bug")] * 100
    days_of_bugs(stage, 23)
    assert stage.email(message.id).state == "queued"
    days_of_bugs(stage, 3)
    found = stage.email(message.id)
    assert (found.state, found.error.code) == ("failed", "gave_up")
    assert found.error.fix
    assert open_(stage) == []
    left = len(mail.fails["before"])
    days_of_bugs(stage, 3)
    assert len(mail.fails["before"]) == left


def test_a_begun_mail_that_every_look_dies_of_is_uncertain_after_a_day_until_its_copy_shows(stage, mail):
    message = stage.send()
    mail.fails["lost"] = [ValueError("a bug")]
    mail.fails["find_sent"] = [ValueError("a bug")] * 100
    days_of_bugs(stage, 23)
    assert stage.email(message.id).state == "sending"
    days_of_bugs(stage, 3)
    found = stage.email(message.id)
    assert (found.state, found.error.code) == ("uncertain", "outcome_unknown")
    assert open_(stage) == []
    mail.arrive(stage.raw(message), is_sent=True)
    stage.sync()
    assert stage.email(message.id).state == "sent"


def test_after_days_without_a_worker_a_begun_mail_is_still_looked_for(stage, mail):
    message = stage.send()
    mail.fails["after"] = [ValueError("a bug")]
    for text in stage.waiting():
        with suppress(RuntimeError):
            working.run(stage.app, text)
    stage.clock.advance(hours=72)
    stage.deliver(message)
    assert stage.email(message.id).state == "sent"


class Away(Guard):
    """One storage call fails, the `fail_at`th since the hand-over began."""

    def __init__(self, fail_at, begun):
        super().__init__(fail_at=fail_at)
        self.begun = begun

    def around(self, name, call):
        if name.split(".")[0] in {"records", "schedule", "queues"} and self.begun():
            self.calls.append(name)
            if len(self.calls) == self.fail_at:
                raise Temporary("Away.")
        return call()


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Temporary("451"), "queued"),
        (ConsentRequired("401"), "queued"),
        (None, "sent"),
    ],
    ids=["refused for now", "signed out", "renamed"],
)
def test_a_store_that_is_away_for_one_call_makes_no_known_outcome_unknown(stage, mail, outcome, state):
    k, calls = 0, [""]
    while k < len(calls):
        k += 1
        message = stage.send()
        list(stage.waiting())
        mail.fails["lost"] = [outcome]
        mail.rename = lambda _, k=k: f"<{k}@final.example>" if outcome is None else None

        def begun(message=message):
            return stage.app.records.get(stage.org_id, Message, message.key).value.state == "sending"

        guard = Away(k, begun)
        stage.deliver(message, app=guarded(stage.app, guard))
        calls = guard.calls
        assert stage.email(message.id).state == state, f"call {k}: {calls}"
        mailbox = stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id)
        if mailbox.value.state == "needs_consent":
            healed(stage)
        later(stage, minutes=20)
        later(stage, minutes=20)
        assert stage.email(message.id).state == "sent", f"call {k}: {calls}"
    assert k > 1
    assert open_(stage) == []


def healed(stage):
    stored = stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value
    stage.app.records.commit(stage.org_id, Save(replace(stored, state="active", problem=None)))


def rule(stage, **settings):
    admin = caller(stage.org_id, "admin@imap.example", "admin")
    integrating.put(stage.app, admin, "fake", PutIntegration(approved=True, settings=settings))


def test_a_hand_over_that_takes_its_time_is_counted_when_it_begins(stage, mail):
    rule(stage, maxPerHour=1)
    message = stage.send()
    mail.before = lambda: stage.clock.advance(minutes=10)
    mail.fails["lost"] = [Temporary("451")]
    stage.work()
    mail.before = lambda: None
    later(stage, minutes=6)
    assert stage.email(message.id).state == "sent", "it does not stand in its own way"
    stage.clock.advance(minutes=56)
    with pytest.raises(AgainstRules):
        stage.send()  # 72 minutes after the promise, 56 after the other left
    tally = stage.app.records.get(stage.org_id, Tally, "fake").value
    assert sum(tally.minutes.values()) == 1
    stage.clock.advance(minutes=6)
    assert stage.sent().state == "sent"


def test_a_pause_that_outlasts_the_mails_day_ends_with_it(scene):
    message = scene.send()
    list(scene.waiting())
    stored = scene.app.records.get(scene.org_id, Message, message.key)
    Promised(scene.app, scene.org_id, stored).postpone(
        RateLimited("Not before tomorrow.", retry_after=200_000), timedelta(hours=48)
    )
    scene.clock.advance(hours=24, minutes=40)
    scheduling.tick(scene.app)
    scene.work()
    assert scene.email(message.id).state == "sent"


def test_a_lost_answer_to_the_word_that_it_left_keeps_no_copy_waiting(scene):
    promised = scene.send()
    told = []

    def lost(name):
        told.append(name)
        return Raced()

    begun_and_left = 2
    guard = Guard(begun_and_left, how="lost", error=lost, only="records.commit")
    scene.deliver(promised, app=guarded(scene.app, guard))
    message = scene.email(promised.id)
    assert (message.state, message.next_at, len(message.deliveries)) == ("sent", None, 1)
    assert len(scene.alice.inbox("Sent")) == len(told) == 1
    assert guard.count("records.commit") == 3
