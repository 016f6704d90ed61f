"""Sending with Mail.Send alone: threads, the copy in Sent that tells the truth, limits, and lost answers."""

import base64
import email
import email.policy
from contextlib import suppress

import pytest

from sandbox.mail import without
from sandbox.web import Reply
from shared import scheduling
from shared.contract import NewAttachment, Person
from shared.errors import InvalidRequest, Temporary
from shared.model import Alias, ThreadHint, digest
from shared.providers.microsoft.sending import LONGEST_INDEX, ROOM, SMALL
from tests import microsoft
from tests.doors import Acting, Guard, guarded
from tests.microsoft import connect, faults, in_place_of
from tests.scenes import someone


@pytest.fixture(scope="module")
def office(world):
    """One Microsoft scene for this file, with live push."""
    scene = microsoft.office(world, sharedMailboxes=True)
    yield scene
    scene.bell.stop()


@pytest.fixture(autouse=True)
def no_microsoft_faults(world, office):
    yield
    microsoft.calm(world)
    office.settle()


def sent(office, **changes):
    message = office.sent(**changes)
    office.settle()
    return office.email(message.id)


def looked(office):
    """What a notice or a poll comes to; how mail is noticed is not tested here."""
    office.settle()
    office.sync()


def copies(office, message):
    """What lies in Sent of a mail from the case: it quotes the id that we gave it, whatever its own."""
    found = office.alice.box.listed(office.alice.box.folder("sentitems").id)
    ours = message.references[-1] if message.references else message.message_id
    return [item for item in found if message.message_id.encode() in item.raw or ours.encode() in item.raw]


def conversation(office, item):
    return item.conversation


def attachment(size, name="plan.bin", content_type="application/octet-stream"):
    content = base64.b64encode(bytes(range(256)) * (size // 256)).decode()
    return NewAttachment(name=name, content_type=content_type, content_base64=content)


# Threads


def test_an_answer_from_the_case_stands_in_the_answered_mails_thread_in_outlook(office):
    first = sent(office)
    office.supplier.reply(office.arrived(first), "Here it is.")
    looked(office)
    [theirs] = office.answers(first)
    answer = sent(office, in_reply_to=theirs.id, subject="Re: Offer 4711", text="Thank you")
    [copy] = copies(office, answer)[-1:]
    there = next(
        item for item in office.alice.box.listed() if theirs.message_id == item.message["Message-ID"]
    )
    assert conversation(office, copy) == conversation(office, there)
    mail = email.message_from_bytes(copy.raw)
    assert mail["In-Reply-To"] == theirs.message_id
    known, index = (base64.b64decode(text) for text in (index_of(office, there), mail["Thread-Index"]))
    assert (index[:-5], len(known) % 5) == (known, 2)  # MS-OXOMSG: 22 octets, and five for each answer
    assert email.message_from_bytes(office.arrived(answer))["Thread-Index"] == mail["Thread-Index"]


def index_of(office, item):
    from sandbox.graph.showing import message_json

    return message_json(item, immutable=True)["conversationIndex"]


def test_an_answer_to_a_mail_that_lies_in_a_colleagues_mailbox_leaves_all_the_same(office):
    first = sent(office)
    for item in office.alice.box.listed():
        office.alice.box.remove(item)
    answer = sent(office, in_reply_to=first.id, text="Once more")
    assert answer.state == "sent"
    assert "Thread-Index" not in email.message_from_bytes(office.arrived(answer))


def test_a_send_costs_two_calls_and_at_most_twelve_storage_operations(office):
    office.sent()
    guard = Guard()
    app = guarded(office.app, guard)
    message = office.send(app=app)
    office.deliver(message, app=app)
    guard.calls.clear()
    office.world.graph.requests.clear()
    message = office.send(app=app)
    office.deliver(message, app=app)
    assert office.calls() == {("GET", "mailFolders/sentitems"): 1, ("POST", "sendMail"): 1}
    storage = [
        call for call in guard.calls if call.split(".")[0] in {"records", "blobs", "queues", "schedule"}
    ]
    assert len(storage) <= 12, storage


# The copy in Sent tells the truth


def answer(office, message_id, text):
    """All that is left of us in it is the id that Exchange made up."""
    related = {"In-Reply-To": message_id, "References": message_id}
    office.supplier.send(office.alice.address, "Re: Offer 4711", text, **related)


@pytest.mark.parametrize("late", [False, True])
def test_a_message_id_that_exchange_changed_is_read_back_and_an_answer_to_it_is_filed(office, late):
    graph = office.world.graph
    with faults(
        graph.faults, rewrite_message_id=True, rewrite_date=True, drop_x_headers=True, late_sent_copy=late
    ):
        message = sent(office)
    if late:
        graph.release_sent_copies()
    looked(office)
    [copy] = copies(office, message)
    final = str(copy.message["Message-ID"])
    assert final != message.message_id
    alias = office.app.records.get(office.org_id, Alias, digest(final)).value
    assert alias.email_id == message.id
    hint = ThreadHint(office.mailbox.id, conversation(office, copy), "").key
    assert (
        office.app.records.get(office.org_id, ThreadHint, hint).value.conversation_id
        == message.conversation_id
    )
    assert any(final.encode() in raw for raw in office.supplier.inbox())
    answer(office, final, "To the new id")
    looked(office)
    assert [one.text.strip() for one in office.answers(message)] == ["To the new id"]
    assert len([one for one in office.timeline() if one.conversation_id == message.conversation_id]) == 2


def test_an_answer_that_was_faster_than_the_sent_copy_is_filed_once_the_copy_tells(office):
    graph = office.world.graph
    with faults(graph.faults, rewrite_message_id=True, late_sent_copy=True):
        message = sent(office)
    [final] = {item.message["Message-ID"] for item in office.alice.box.items.values() if not item.visible}
    answer(office, final, "Very fast")
    looked(office)
    assert office.answers(message) == []
    graph.release_sent_copies()
    looked(office)
    assert [one.text.strip() for one in office.answers(message)] == ["Very fast"]


# Limits


def test_a_mail_above_one_request_is_refused_before_anything_is_promised(office):
    before = (len(office.timeline()), office.calls())
    with pytest.raises(InvalidRequest) as caught:
        office.send(attachments=[attachment(3_000_000)])
    assert caught.value.field == "attachments"
    assert "MB" in caught.value.detail
    assert caught.value.fix
    assert (len(office.timeline()), office.calls()) == before


def test_the_largest_mail_that_is_promised_also_leaves_with_its_hidden_recipients(office):
    """What we add for Exchange must not lift a promised mail over the limit of a request."""
    most = 300 * len(f",\r\n {'x' * 254}")
    assert most + 2 * LONGEST_INDEX < ROOM
    bulk = someone(office.world, "bulk", "supplier.example")
    hidden = [Person(address=bulk.address.replace("@", f"+{number}@")) for number in range(2)]
    shown = [Person(address=bulk.address)]
    message = office.send(attachments=[attachment(2_090_000)], to=shown, bcc=hidden)
    assert SMALL - ROOM - 20_000 < len(office.raw(message)) <= SMALL - ROOM
    office.work()
    office.settle()
    assert office.email(message.id).state == "sent"
    assert len(bulk.inbox()) == 3
    assert not any(b"\nBcc:" in raw.partition(b"\r\n\r\n")[0] for raw in bulk.inbox())
    [copy] = copies(office, message)
    office.alice.box.remove(copy)


@pytest.fixture(scope="module")
def roomy(world):
    """An organisation whose IT granted Mail.ReadWrite for large mails."""
    scene = microsoft.office(world, largeAttachments=True)
    yield scene
    scene.bell.stop()


def test_large_attachments_go_through_an_upload_session_where_that_was_granted(roomy):
    files = [attachment(3_300_032), attachment(1_000_000, "small.bin")]
    roomy.world.graph.requests.clear()
    message = sent(roomy, attachments=files, html="<p>See <b>both</b></p>")
    assert message.state == "sent"
    calls = roomy.calls()
    assert calls["POST", "messages/{id}/attachments/createUploadSession"] == 1
    assert calls["POST", "messages/{id}/attachments"] == 1
    assert calls["POST", "messages/{id}/send"] == 1
    assert calls["POST", "sendMail"] == 0
    arrived = email.message_from_bytes(roomy.arrived(message), policy=email.policy.default)
    assert arrived["Message-ID"] == message.message_id
    found = {part.get_filename(): part.get_content() for part in arrived.iter_attachments()}
    assert {name: len(content) for name, content in found.items()} == {
        file.name: len(base64.b64decode(file.content_base64)) for file in files
    }
    assert found["plan.bin"] == base64.b64decode(files[0].content_base64)
    [copy] = copies(roomy, message)
    assert roomy.email(message.id).deliveries[0].ref == copy.id


def test_a_large_mail_leaves_with_the_headers_that_were_composed_and_goes_to_nobody_in_a_name(roomy):
    stranger = someone(roomy.world, "stranger", "supplier.example")
    to = [Person(address=roomy.supplier.address, name=f"Mü <{stranger.address}>, H")]
    table = attachment(3_300_032, "table.csv", "text/csv; charset=cp1252")
    first = sent(roomy)
    assert len(first.message_id) >= 80
    message = sent(roomy, to=to, attachments=[table], in_reply_to=first.id)
    copy = next(item for item in copies(roomy, message) if item.message["Message-ID"] == message.message_id)
    left, composed = without(copy.raw, "Thread-Index"), roomy.raw(message)
    assert left.partition(b"\r\n\r\n")[0] == composed.partition(b"\r\n\r\n")[0]
    assert stranger.inbox() == []
    [file] = copy.message.iter_attachments()
    assert file.get_content_charset() == "cp1252"


def test_a_large_mail_that_broke_off_leaves_no_draft_behind_when_it_is_sent_again(roomy):
    message = roomy.send(attachments=[attachment(3_300_032)])
    roomy.world.graph.faults.unavailable[roomy.alice.address] = 0
    uploads = roomy.world.graph.uploads
    take = uploads.take

    def broken(request):
        raise ConnectionAbortedError

    uploads.take = broken
    roomy.work()
    uploads.take = take
    assert roomy.email(message.id).state == "queued"
    roomy.poll(minutes=3)
    roomy.settle()
    assert roomy.email(message.id).state == "sent"
    assert roomy.alice.inbox("drafts") == []
    assert len(copies(roomy, message)) == 1


def test_a_large_mail_whose_hand_over_could_not_begin_leaves_no_draft_that_its_owner_could_send(roomy):
    message, k = roomy.send(attachments=[attachment(3_300_032)]), 0
    list(roomy.waiting())
    roomy.world.graph.requests.clear()
    while roomy.email(message.id).state == "queued":
        k += 1
        away = Guard(fail_at=k, how="error", error=lambda _: Temporary("Away."), only=r"^records\.commit$")
        with suppress(Temporary):
            roomy.deliver(message, app=guarded(roomy.app, away))
        assert roomy.alice.inbox("drafts") == [], f"commit {k}"
        roomy.clock.advance(minutes=20)
    made = [one for one in roomy.world.graph.requests if one[:2] == ("POST", "messages")]
    assert len(made) > 1, "a draft was made before the hand-over that could not begin, too"


def once_begun(scene, message, act):
    """Has something happen right after the hand-over began, before the request that makes the mail leave."""
    done = []

    def then(name, _times):
        if name == "records.commit" and not done and scene.email(message.id).state == "sending":
            done.append(name)
            act()

    return guarded(scene.app, Acting(then=then))


def drafts(scene):
    return scene.alice.box.listed(scene.alice.box.folder("drafts").id)


def large(scene):
    message = scene.send(attachments=[attachment(3_300_032)])
    list(scene.waiting())
    return message


def arrived(scene, message):
    return sum(message.message_id.encode() in raw for raw in scene.supplier.inbox())


def owner(scene, *, sends):
    """The draft's owner sends it in Outlook, or throws it away."""
    for draft in drafts(scene):
        scene.alice.box.remove(draft)
        if sends:
            scene.alice.submit(draft.raw, [])


def test_a_large_mail_that_is_put_off_leaves_no_draft_that_its_owner_could_send(roomy):
    message = large(roomy)
    throttled = roomy.world.graph.faults.throttled
    roomy.deliver(message, app=once_begun(roomy, message, lambda: throttled.update({roomy.alice.address: 1})))
    assert roomy.email(message.id).state == "queued"
    assert drafts(roomy) == []
    roomy.poll(minutes=5)
    roomy.settle()
    assert (roomy.email(message.id).state, arrived(roomy, message)) == ("sent", 1)


def test_a_text_above_one_request_is_refused_before_anything_is_promised(roomy):
    """Files have an upload session; the rest of a mail has not."""
    before = len(roomy.timeline())
    long = {"html": "<p>" + "ü" * 900_000, "text": "ä" * 300_000}
    with pytest.raises(InvalidRequest) as caught:
        roomy.send(**long, attachments=[attachment(100_000)])
    assert (caught.value.field, len(roomy.timeline())) == ("html", before)


def test_a_large_mail_that_is_refused_leaves_no_draft(roomy):
    message = large(roomy)
    roomy.world.graph.faults.largest = 1_000_000
    roomy.deliver(message)
    assert roomy.email(message.id).state == "failed"
    assert drafts(roomy) == []


def test_a_large_mail_whose_draft_its_owner_sent_at_that_very_moment_was_sent_once(roomy):
    message = large(roomy)
    roomy.deliver(message, app=once_begun(roomy, message, lambda: owner(roomy, sends=True)))
    for _ in range(3):
        roomy.poll(minutes=11)
        roomy.settle()
    assert (roomy.email(message.id).state, arrived(roomy, message)) == ("sent", 1)


def test_a_large_mail_whose_draft_is_thrown_away_while_its_files_are_added_is_sent_all_the_same(roomy):
    message = roomy.send(attachments=[attachment(3_300_032), attachment(1_000_000, "b.bin")])
    list(roomy.waiting())
    uploads = roomy.world.graph.uploads
    take = uploads.take

    def meanwhile(request):
        uploads.take = take
        owner(roomy, sends=False)
        return take(request)

    uploads.take = meanwhile
    roomy.deliver(message)
    assert roomy.email(message.id).state == "queued"
    roomy.poll(minutes=5)
    roomy.settle()
    assert (roomy.email(message.id).state, arrived(roomy, message)) == ("sent", 1)


def test_a_token_that_cannot_be_had_when_the_mail_is_to_leave_makes_nothing_unknown(office):
    message = office.send()
    list(office.waiting())
    guard = Acting()

    def begun():
        office.clock.advance(seconds=61)  # what is remembered of the sign-in has ended
        guard.fail_at, guard.how = len(guard.calls) + 1, "error"
        guard.error = lambda _: Temporary("Away.")

    def then(name, _times):
        if name == "records.commit" and not guard.fail_at and office.email(message.id).state == "sending":
            begun()

    guard.then = then
    office.deliver(message, app=guarded(office.app, guard))
    assert office.email(message.id).state == "queued"
    for _ in range(3):
        later(office)
    assert (office.email(message.id).state, arrived(office, message)) == ("sent", 1)


# Lost answers


def later(office):
    office.clock.advance(minutes=2)
    scheduling.tick(office.app)
    office.settle()


@pytest.mark.parametrize("fault", ["lost_answers", "late_answers"])
def test_a_send_whose_answer_was_lost_or_a_504_is_found_in_sent_and_never_sent_again(office, fault):
    setattr(office.world.graph.faults, fault, 1)
    message = sent(office)
    later(office)
    assert office.email(message.id).state == "sent"
    later(office)
    assert len(copies(office, message)) == 1
    assert sum(message.message_id.encode() in raw for raw in office.supplier.inbox()) == 1


def test_a_lost_answer_and_a_late_copy_is_uncertain_until_the_copy_shows_and_never_sent_again(office):
    graph = office.world.graph
    with faults(graph.faults, late_sent_copy=True):
        graph.faults.lost_answers = 1
        message = sent(office)
        later(office)
        assert office.email(message.id).state == "uncertain"
        assert office.email(message.id).error.fix
    graph.release_sent_copies()
    looked(office)
    assert office.email(message.id).state == "sent"
    assert sum(message.message_id.encode() in raw for raw in office.supplier.inbox()) == 1


def test_a_send_that_never_arrived_at_microsoft_is_uncertain_and_never_sent_by_itself(office):
    office.world.graph.faults.lost_before = 1
    message = sent(office)
    for _ in range(3):
        later(office)
    assert office.email(message.id).state == "uncertain"
    assert office.email(message.id).error.fix
    assert copies(office, message) == []
    assert not any(message.message_id.encode() in raw for raw in office.supplier.inbox())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>Back soon</html>", {"Content-Type": "text/html; charset=utf-8"}),
        Reply(302, None, {"Location": "https://login.proxy.example/"}),
        Reply(200, b"", {"Content-Type": "text/plain"}),
    ],
)
def test_what_something_on_the_way_answers_to_a_send_counts_as_no_acceptance(office, reply):
    with in_place_of(office.world.graph, "/sendMail", reply):
        message = sent(office)
    for _ in range(3):
        later(office)
    assert office.email(message.id).state == "uncertain"


def test_what_microsoft_puts_off_leaves_later_and_once(office):
    """429 and 503 with a time are no acceptance."""
    for counter in ("throttled", "unavailable"):
        message = office.send()
        getattr(office.world.graph.faults, counter)[office.alice.address] = 1
        office.work()
        assert office.email(message.id).state == "queued"
        office.poll(minutes=3)
        office.settle()
        assert office.email(message.id).state == "sent"
        assert len(copies(office, message)) == 1


# Other senders


def shared_mailbox(office, name, *rights):
    who = office.person(name)
    who.box.grant_access(office.alice.address, "full_access", *rights)
    settings = {"microsoft": {"shared": True}}
    box = connect(office.world, office.app, office.org_id, who, office.alice.address, settings=settings)
    office.settle()
    return who, box


@pytest.mark.parametrize("right", ["send_as", "send_on_behalf"])
def test_a_shared_mailbox_sends_and_keeps_the_copy_itself(office, right):
    desk, box = shared_mailbox(office, f"desk-{right.replace('_', '-')}", right)
    message = sent(office, mailbox_id=box.id)
    assert message.state == "sent"
    assert email.message_from_bytes(office.arrived(message))["From"] == desk.address
    assert len(desk.inbox("sentitems")) == 1


def test_without_the_right_to_send_as_it_the_mail_fails_and_says_what_to_ask_for(office):
    desk, box = shared_mailbox(office, "nodesk")
    message = sent(office, mailbox_id=box.id)
    assert (message.state, message.error.code) == ("failed", "rejected")
    assert "send as" in message.error.detail
    assert "IT" in message.error.fix
    assert desk.inbox("sentitems") == []
    assert office.record(box).state == "active"


def test_a_refusal_in_the_middle_of_a_session_is_told_after_one_fresh_token_and_not_taken_for_an_old_one(
    office,
):
    """Mail.Read works and keeps the sign-in fresh; only the last call of a send is refused."""
    graph = office.world.graph
    graph.faults.sendless.add(office.alice.address)
    message = office.sent()
    assert office.email(message.id).state == "queued"
    office.sync()  # reads, and renews what the refusal took out of use
    office.poll(minutes=6)
    assert (office.record().state, office.record().problem.code) == ("needs_consent", "consent_required")
    assert "IT" in office.email(message.id).error.fix
    graph.faults.sendless.clear()
    connect(office.world, office.app, office.org_id, office.alice)
    office.settle()
    assert office.email(message.id).state == "sent"
