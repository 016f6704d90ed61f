"""A held mail is decided about once: it is in the case and `filed`, or nothing of it is read and it is `dismissed`."""

import email.policy

import pytest

from shared import casework, looking, reviewing
from shared.callers import Caller
from shared.contract import Person
from shared.errors import Conflict, Temporary
from shared.model import DecidedReview
from shared.providers.base import Query
from tests.doors import Acting, Guard, dying, guarded
from tests.scenes import caller, parsed, someone, write
from tests.walks.test_copies import his, received
from tests.walks.test_planted import keep, mallory

__all__ = ["his", "mallory"]


def decide(scene, review, action, app=None):
    return reviewing.decide(app or scene.app, scene.caller, scene.mailbox.id, review.id, action)


def ended(scene, review):
    """How it was decided; the case and the list of held mails say the same."""
    decision = scene.app.records.get(scene.org_id, DecidedReview, review.key).value.decision
    assert review not in scene.reviews()
    filed = [message for message in scene.timeline() if message.message_id == review.message_id]
    assert len(filed) == (decision == "filed")
    return decision


def test_what_is_dismissed_just_before_it_would_be_read_is_not_read(scene):
    review = scene.held()
    guard = Acting(then=lambda name, n: (name, n) == ("records.get", 1) and decide(scene, review, "dismiss"))
    with pytest.raises(Conflict):
        decide(scene, review, "file", guarded(scene.app, guard))
    assert guard.count(f"{scene.receiver}") == 0
    assert ended(scene, review) == "dismissed"


def test_what_is_being_filed_cannot_be_dismissed(scene):
    review, refused = scene.held(), []

    def then(name, times):
        if (name, times) == (f"{scene.receiver}.fetch", 1):
            with pytest.raises(Conflict) as caught:
                decide(scene, review, "dismiss")
            refused.append(caught.value.fix)

    assert decide(scene, review, "file", guarded(scene.app, Acting(then=then)))
    assert "decide again" in refused[0]
    assert ended(scene, review) == "filed"


def test_what_was_being_dismissed_as_its_owner_chose_to_file_it_is_filed(scene):
    review = scene.held()
    guard = Acting(then=lambda name, n: (name, n) == ("records.get", 1) and decide(scene, review, "file"))
    with pytest.raises(Conflict):
        decide(scene, review, "dismiss", guarded(scene.app, guard))
    assert ended(scene, review) == "filed"


def test_what_could_not_be_read_can_be_dismissed(scene):
    review = scene.held()

    def broken(name):
        raise Temporary("The wire broke.")

    guard = Guard(fail_at=1, how="error", error=broken, only="fetch")
    with pytest.raises(Temporary):
        decide(scene, review, "file", guarded(scene.app, guard))
    assert scene.reviews() == [review]
    decide(scene, review, "dismiss")
    assert ended(scene, review) == "dismissed"


def test_what_breaks_each_time_it_is_filed_can_be_dismissed_later(scene):
    review = scene.held()
    guard = Guard(fail_at=2, how="error", error=lambda _: ValueError("a bug"), only="commit")
    with pytest.raises(ValueError, match="a bug"):
        decide(scene, review, "file", guarded(scene.app, guard))
    with pytest.raises(Conflict):
        decide(scene, review, "dismiss")
    scene.clock.advance(minutes=16)
    decide(scene, review, "dismiss")
    assert ended(scene, review) == "dismissed"


@pytest.fixture
def filed_elsewhere(scene):
    """A mail that is held in Alice's mailbox, and was linked to the case in a colleague's."""
    review = scene.held()
    answer = {"In_Reply_To": review.message_id}
    scene.supplier.send(scene.alice.address, "Re: Offer 4711", "passed over until then", **answer)
    scene.sync()
    [raw] = [raw for raw in scene.alice.inbox() if f"Message-ID: {review.message_id}".encode() in raw]
    person, box = scene.colleague()
    person.receive(raw)
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-1", "Screws", [scene.alice.address, person.address])
    who = caller(scene.org_id, person.address)
    [hit] = looking.search(scene.app, who, box.id, Query(subject="Re: Offer 4711"), None)[0]
    reviewing.link(scene.app, who, "C-1", box.id, hit.ref)
    return review


def listed(scene):
    return reviewing.held(scene.app, scene.caller, scene.mailbox.id, limit=10, cursor=None)[0]


def test_what_was_filed_through_a_colleagues_mailbox_is_held_no_longer_and_lies_in_both(
    scene, filed_elsewhere
):
    assert listed(scene) == []
    assert ended(scene, filed_elsewhere) == "filed"
    scene.work()
    [message] = [found for found in scene.timeline() if found.message_id == filed_elsewhere.message_id]
    assert scene.mailbox.id in {delivery.mailbox_id for delivery in message.deliveries}
    assert "passed over until then" in {found.snippet for found in scene.timeline()}


def test_what_was_filed_through_a_colleagues_mailbox_cannot_be_dismissed(scene, filed_elsewhere):
    with pytest.raises(Conflict, match="filed already"):
        decide(scene, filed_elsewhere, "dismiss")
    assert ended(scene, filed_elsewhere) == "filed"


def test_another_mail_under_the_message_id_of_a_filed_one_stays_held(scene):
    scene.sent()
    answer = scene.supplier.reply(scene.supplier.inbox()[0])
    scene.sync()
    same = {"Message-ID": answer["Message-ID"], "In-Reply-To": answer["Message-ID"]}
    someone(scene.world, "stranger", "supplier.example").send(scene.alice.address, "Re: Offer 4711", **same)
    scene.sync()
    assert [review for review, _ in listed(scene)] == scene.reviews() != []


def test_wherever_a_worker_dies_of_filing_the_decision_is_what_was_done(scene):
    first = scene.held()
    stranger = someone(scene.world, "stranger", "supplier.example")
    for n in range(5):
        stranger.send(scene.alice.address, f"Re: Offer {n}", **{"In-Reply-To": first.evidence.matched})
    scene.sync()
    endings = []
    for k, review in enumerate(scene.reviews(), start=1):
        guard = Guard(fail_at=k, only="commit")
        with dying():
            decide(scene, review, "file", guarded(scene.app, guard))
        try:
            decide(scene, review, "dismiss")
        except Conflict:
            if guard.dead:
                decide(scene, review, "file")
        endings.append(ended(scene, review))
        if not guard.dead:
            break
    assert endings == ["dismissed", *["filed"] * (k - 1)]
    assert k > 3


@pytest.fixture
def held_and_planted(scene, mallory, his):
    """A mail that waits for Alice, and as Mallory, in copy, has it: answering a case of his own."""
    theirs = his.sent().message_id
    known = scene.supplier.reply(scene.supplier.inbox()[0], "The first answer")["Message-ID"]
    scene.sync()
    related = {"Cc": mallory.address, "In-Reply-To": known, "Message-ID": "<77@supplier.example>"}
    mail = write("new@supplier.example", scene.alice.address, "Re: Offer 4711", "The price", **related)
    genuine, planted = mail.as_bytes(policy=email.policy.SMTP), parsed(mail.as_bytes())
    planted.replace_header("In-Reply-To", theirs)
    return genuine, planted


def plant(person, planted, folder):
    """Have a mail in a mailbox: as one that came in, or in Sent as one of another address of its user."""
    if folder == "Sent":
        del planted["Cc"]
        keep(person, planted)
    else:
        person.receive(planted.as_bytes(policy=email.policy.SMTP))


def held_beside_a_plant(scene, mallory, his, genuine, planted):
    """Have Alice's mail held, and then Mallory's copy filed in his case."""
    scene.alice.receive(genuine)
    scene.sync()
    plant(mallory, planted, "INBOX")
    his.sync()


def texts(scene):
    return [message.text.strip() for message in received(scene)]


@pytest.mark.parametrize("folder", ["INBOX", "Sent"])
def test_what_a_colleague_has_filed_in_a_case_of_his_own_waits_for_its_owner_nevertheless(
    scene, mallory, his, held_and_planted, folder
):
    genuine, planted = held_and_planted
    plant(mallory, planted, folder)
    assert his.sync()["file"] == 1
    scene.alice.receive(genuine)
    assert scene.sync()["review"] == 1
    [(review, case_id)] = listed(scene)
    assert case_id == "C-1"
    decide(scene, review, "dismiss")
    scene.forget()
    scene.sync()
    assert (scene.reviews(), texts(scene)) == ([], ["The first answer"])


@pytest.mark.parametrize("folder", ["INBOX", "Sent"])
def test_a_held_mail_that_a_colleague_has_filed_in_a_case_of_his_own_is_filed_where_its_owner_says(
    scene, mallory, his, held_and_planted, folder
):
    genuine, planted = held_and_planted
    scene.alice.receive(genuine)
    scene.sync()
    plant(mallory, planted, folder)
    assert his.sync()["file"] == 1
    [(review, _)] = listed(scene)
    message = decide(scene, review, "file")
    assert (message.case_id, message.text.strip()) == ("C-1", "The price")
    scene.work()
    scene.forget()
    scene.sync()
    assert (listed(scene), texts(scene)) == ([], ["The first answer", "The price"])
    assert [found.case_id for found in his.timeline()] == ["C-2", "C-2"]


def test_a_held_mail_that_its_owner_links_into_another_case_is_held_no_more(scene):
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-2", "Two", [scene.alice.address])
    scene.held()
    [review] = scene.reviews()
    reviewing.link(scene.app, scene.caller, "C-2", scene.mailbox.id, review.ref)
    assert listed(scene) == scene.reviews() == []
    assert len(scene.timeline("C-2")) == 1


def test_a_held_mail_that_its_owner_linked_into_another_case_is_not_filed_twice_from_an_older_page(scene):
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-2", "Two", [scene.alice.address])
    scene.held()
    before = len(scene.timeline())
    [review] = scene.reviews()
    reviewing.link(scene.app, scene.caller, "C-2", scene.mailbox.id, review.ref)
    with pytest.raises(Conflict, match="filed already"):
        reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    assert len(scene.timeline()) == before
    assert len(scene.timeline("C-2")) == 1
    assert listed(scene) == []


def test_a_held_mail_whose_filing_broke_is_dismissed_although_a_colleague_has_its_headers(
    scene, mallory, his, held_and_planted
):
    held_beside_a_plant(scene, mallory, his, *held_and_planted)
    [review] = scene.reviews()
    guard = Guard(fail_at=2, how="error", error=lambda _: ValueError("a bug"), only="commit")
    with pytest.raises(ValueError, match="a bug"):
        decide(scene, review, "file", guarded(scene.app, guard))
    scene.clock.advance(minutes=16)
    [(review, _)] = listed(scene)
    assert "The price" not in texts(scene)
    decide(scene, review, "dismiss")
    assert scene.reviews() == []


def test_a_held_mail_that_was_filed_by_itself_beside_a_colleagues_copy_is_held_no_more(
    scene, mallory, his, held_and_planted
):
    held_beside_a_plant(scene, mallory, his, *held_and_planted)
    first = [message for message in scene.timeline() if message.direction == "in"][-1]
    scene.sent(in_reply_to=first.id, to=[Person(address="new@supplier.example", name="N")])  # takes part now
    scene.forget()
    scene.sync()
    assert "The price" in texts(scene)
    assert listed(scene) == []


@pytest.mark.parametrize("action", ["file", "dismiss"])
def test_a_colleagues_altered_copy_closes_no_held_mail_that_is_not_compared_with_it(scene, action):
    carol, carols = scene.colleague()
    ours = scene.sent().message_id
    scene.sync()
    forged = {"In-Reply-To": ours, "Message-ID": "<1@supplier.example>", "Cc": carol.address}
    mail = write(scene.supplier.address, scene.alice.address, "Re: Offer 4711", "IBAN REAL", **forged)
    mail["Authentication-Results"] = "imap.example; dmarc=fail header.from=supplier.example"
    raw = mail.as_bytes(policy=email.policy.SMTP)
    scene.alice.receive(raw)
    carol.receive(raw.replace(b"REAL", b"FAKE"))
    assert scene.sync() == scene.sync(carols) == {"review": 1}
    [hers] = scene.reviews()
    reviewing.decide(scene.app, caller(scene.org_id, carol.address), carols.id, hers.id, "file")
    assert [review for review, _ in listed(scene)] == [hers]
    decide(scene, hers, action)
    assert {text.split()[-1] for text in texts(scene)} == ({"REAL", "FAKE"} if action == "file" else {"FAKE"})


@pytest.mark.every_provider
@pytest.mark.only("microsoft", "ews")
def test_a_mail_of_ours_whose_date_the_server_rewrote_is_linked_into_no_other_case(scene, world):
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-2", "Two", [scene.alice.address])
    faults = world.graph.faults if scene.receiver.startswith("microsoft") else world.exchange.faults
    faults.rewrite_date = True
    scene.sent()
    scene.sync()
    [hit] = looking.search(scene.app, scene.caller, scene.mailbox.id, Query(subject="Offer 4711"), None)[0]
    with pytest.raises(Conflict, match="belongs to another case"):
        reviewing.link(scene.app, scene.caller, "C-2", scene.mailbox.id, hit.ref)
    message, _ = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit.ref)
    assert [message.id] == [one.id for one in scene.timeline()]


def test_a_colleagues_copy_that_makes_nobody_known_closes_no_held_mail(scene):
    carol, carols = scene.colleague()
    review = scene.held()
    [raw] = [raw for raw in scene.alice.inbox() if review.message_id.encode() in raw]
    carol.receive(b"Auto-Submitted: auto-replied\r\n" + raw.replace(b"Text", b"FAKE"))
    scene.sync(carols)
    reviewing.decide(scene.app, caller(scene.org_id, carol.address), carols.id, review.id, "file")
    assert [held for held, _ in listed(scene)] == [review]
    decide(scene, review, "file")
    assert scene.reviews() == []


def test_what_was_dismissed_is_not_read_when_it_is_seen_again_though_its_sender_takes_part_by_now(
    scene, watched, guard
):
    review = scene.held()
    decide(scene, review, "dismiss")
    first = scene.timeline()[1]
    scene.sent(in_reply_to=first.id, to=[Person(address=review.sender.address)])
    scene.sync()
    scene.forget()
    guard.calls.clear()
    assert scene.sync(app=watched)["file"] == 0
    assert guard.count(f"{scene.receiver}.fetch") == 0
    assert ended(scene, review) == "dismissed"


@pytest.fixture
def dismissed(scene):
    """A mail that was dismissed, of somebody who takes part by now; the mail server's clock is ahead of ours."""
    scene.clock.advance(minutes=-5)
    review = scene.held()
    decide(scene, review, "dismiss")
    scene.supplier.reply(scene.supplier.inbox()[0], "My colleague is in copy", Cc=review.sender.address)
    scene.sync()
    return review


def test_what_was_dismissed_is_not_read_though_the_mail_servers_clock_is_ahead(scene, dismissed):
    scene.forget()
    assert scene.sync()["file"] == 0
    assert ended(scene, dismissed) == "dismissed"


@pytest.mark.parametrize("answers", [False, True])
def test_what_was_dismissed_does_not_come_along_with_another_mail_that_is_linked(scene, dismissed, answers):
    """Beside it in the conversation, or the very mail that the linked one answers."""
    named = dismissed.message_id if answers else dismissed.evidence.matched
    headers = {"In-Reply-To": named, "Cc": dismissed.sender.address}
    another = someone(scene.world, "another", "supplier.example")
    drawing = another.send(scene.alice.address, "Drawing", References=named, **headers)
    before = {message.message_id for message in scene.timeline()}
    [hit] = looking.search(scene.app, scene.caller, scene.mailbox.id, Query(subject="Drawing"), None)[0]
    _, others = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit.ref)
    assert others == 0
    assert {message.message_id for message in scene.timeline()} - before == {drawing["Message-ID"]}
    assert ended(scene, dismissed) == "dismissed"


def test_what_was_dismissed_is_filed_where_its_owner_links_that_very_mail(scene, dismissed):
    [hit] = [
        hit
        for hit in looking.search(scene.app, scene.caller, scene.mailbox.id, Query(subject="4711"), None)[0]
        if hit.message_id == dismissed.message_id
    ]
    message, _ = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit.ref)
    assert message in scene.timeline()


@pytest.mark.parametrize(
    ("header", "direction"),
    [
        ("", "out"),
        ("Received: from evil.example by mx.imap.example; Fri, 27 Nov 2026 01:00:00 +0000", "in"),
        ("Authentication-Results: mx.imap.example; dmarc=fail header.from=imap.example", "in"),
    ],
)
def test_a_mail_from_the_own_address_is_linked_as_sent_only_where_nothing_shows_that_it_came_in(
    scene, header, direction
):
    """Its owner has sorted it out of Sent; or somebody forged it."""
    mail = write(scene.alice.address, scene.supplier.address, "Invoice", "Pay to DE00")
    name, _, value = header.partition(": ")
    if value:
        mail[name] = value
    scene.alice.receive(mail.as_bytes(policy=email.policy.SMTP))
    [hit] = looking.search(scene.app, scene.caller, scene.mailbox.id, Query(subject="Invoice"), None)[0]
    message, _ = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit.ref)
    assert (message.direction, message.state) == (direction, {"in": "received", "out": "sent"}[direction])
