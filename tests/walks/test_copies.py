"""What only has the headers of a mail of the case takes no mail's place (decision 024)."""

import email.policy

import pytest

from shared import casework, looking, reviewing
from shared.callers import Caller
from shared.comparing import ANOTHER, LESS
from shared.errors import NotFound, Rejected, Temporary
from shared.providers.base import Query
from shared.syncing import PATIENCE
from shared.views import email as shown
from tests.doors import Acting, Guard, guarded
from tests.scenes import parsed, write
from tests.walks.test_crashes import attempt, failing
from tests.walks.test_planted import as_he_sees_it, keep, mallory

__all__ = ["mallory"]

TEXT = "Our price is 100. IBAN DE00 REAL"
FORGED = (b"DE00 REAL", b"DE99 FAKE")


def answer(scene, *people, text=TEXT, number=1) -> bytes:
    """The supplier's answer to Alice, with others in copy."""
    ours = parsed(scene.supplier.inbox()[0])["Message-ID"]
    copy = ", ".join(person.address for person in people)
    related = {
        "Cc": copy,
        "In-Reply-To": ours,
        "References": ours,
        "Message-ID": f"<{number}@supplier.example>",
    }
    mail = write(scene.supplier.address, scene.alice.address, "Re: Offer 4711", text, **related)
    return mail.as_bytes(policy=email.policy.SMTP)


@pytest.fixture
def his(scene, mallory):
    """The scene as Mallory, in copy, sees it."""
    scene.sent()
    scene.sync()
    return as_he_sees_it(scene, mallory)


def received(scene):
    return [message for message in scene.timeline() if message.direction == "in"]


def facts(scene):
    """Who has which text, by what the timeline says."""
    return {message.text.split()[-1]: shown(message).mailbox_ids for message in received(scene)}


def test_an_altered_copy_in_a_colleagues_mailbox_takes_no_mails_place(scene, mallory, his):
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(*FORGED))
    assert his.sync()["file"] == 1
    scene.alice.receive(genuine)
    assert scene.sync()["file"] == 1
    assert facts(scene) == {"FAKE": [his.mailbox.id], "REAL": [scene.mailbox.id]}
    assert [ANOTHER in message.evidence.notes for message in received(scene)] == [True, True]
    assert {message.message_id for message in received(scene)} == {"<1@supplier.example>"}
    assert [scene.raw(message) for message in received(scene) if "REAL" in message.text] == [genuine]


def test_an_altered_copy_that_comes_later_stands_beside_the_mail(scene, mallory, his):
    genuine = answer(scene, mallory)
    scene.alice.receive(genuine)
    scene.sync()
    mallory.receive(*(genuine.replace(b"DE00 REAL", f"DE99 FAKE{n}".encode()) for n in range(3)))
    his.sync()
    assert facts(scene) == {"REAL": [scene.mailbox.id], "FAKE0": [his.mailbox.id]}, "one a mailbox"


def test_what_a_mailbox_has_is_fetched_once_whatever_comes_again(scene, mallory, his, watched, guard):
    genuine, same = answer(scene, mallory), answer(scene, mallory, text="The same for all", number=2)
    mallory.receive(genuine.replace(*FORGED), same)
    his.sync()
    scene.alice.receive(genuine, same)
    scene.sync(app=watched)
    assert guard.count(f"{scene.receiver}.fetch") == 2
    before = scene.timeline()
    scene.forget()
    his.forget()
    scene.sync(app=watched)
    his.sync(app=watched)
    assert guard.count(f"{scene.receiver}.fetch") == 2
    assert scene.timeline() == before


def test_an_altered_copy_costs_no_more_storage_operations_than_any_filed_mail(
    scene, mallory, his, watched, guard
):
    scene.supplier.send(scene.alice.address, "Other", **{"In-Reply-To": "<other@supplier.example>"})
    scene.sync(app=watched)  # warms up what is cached
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(*FORGED))
    his.sync()
    scene.alice.receive(genuine)
    guard.calls.clear()
    assert scene.sync(app=watched)["file"] == 1
    first = guard.calls.index(f"{scene.receiver}.pages")
    filed = guard.calls.index("records.commit", first)
    assert len([call for call in guard.calls[first : filed + 1] if call.startswith("records.")]) <= 8


def test_a_text_that_several_have_is_one_mail(scene, mallory, his):
    carol, carols = scene.colleague()
    genuine = answer(scene, mallory, carol)
    mallory.receive(genuine.replace(*FORGED))
    his.sync()
    for person, box in ((scene.alice, scene.mailbox), (carol, carols)):
        person.receive(genuine)
        scene.sync(box)
    assert facts(scene) == {"FAKE": [his.mailbox.id], "REAL": [scene.mailbox.id, carols.id]}


def test_an_answer_to_the_mail_that_has_another_text_is_filed_from_that_mailbox(scene, mallory, his):
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(*FORGED))
    his.sync()
    scene.alice.receive(genuine)
    scene.sync()
    named = {"In_Reply_To": "<1@supplier.example>", "References": "<1@supplier.example>"}
    scene.supplier.send(scene.alice.address, "Re: Offer 4711", "Once more", **named)
    assert scene.sync()["file"] == 1


def test_a_footer_that_one_copy_lacks_makes_no_second_mail_and_is_noted(scene, mallory, his):
    plain = answer(scene, mallory)
    mallory.receive(plain + b"--\r\nScanned for viruses\r\n")
    his.sync()
    scene.alice.receive(plain)
    assert scene.sync()["known"] == 1
    [message] = received(scene)
    assert shown(message).mailbox_ids == [his.mailbox.id, scene.mailbox.id]
    assert LESS in message.evidence.notes


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("REAL", "FAKE")])
def test_a_copy_that_names_a_colleagues_own_case_keeps_no_mail_from_its_case(scene, mallory, his, text):
    ours, theirs = parsed(scene.supplier.inbox()[0])["Message-ID"], his.sent().message_id
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(ours.encode(), theirs.encode()).replace(TEXT.encode(), text.encode()))
    assert his.sync()["file"] == 1
    scene.alice.receive(genuine)
    for _ in range(2):
        scene.sync()
        scene.forget()
    assert [message.text.strip() for message in received(scene)] == [TEXT]
    assert [message.text.strip() for message in received(his)] == [text]
    named = {"In_Reply_To": "<1@supplier.example>", "References": "<1@supplier.example>"}
    scene.supplier.send(scene.alice.address, "Re: Offer 4711", "A correction", **named)
    assert scene.sync()["file"] == 1  # where her own one is
    assert {message.text.strip() for message in received(scene)} == {TEXT, "A correction"}
    assert len(received(his)) == 1


def test_a_text_too_long_for_a_record_is_compared_as_a_whole(scene, mallory, his):
    genuine = answer(scene, mallory, text="A long line.\n" * 25_000 + TEXT)
    mallory.receive(genuine.replace(*FORGED))
    his.sync()
    scene.alice.receive(genuine)
    scene.sync()
    assert facts(scene) == {"FAKE": [his.mailbox.id], "REAL": [scene.mailbox.id]}


def test_a_private_mail_whose_headers_a_colleague_plants_is_not_read(scene, mallory, his, watched, guard):
    """In his own case, as if it had come in; it must look like the private mail to the second."""
    sent = his.sent()
    private = write(
        scene.supplier.address,
        scene.alice.address,
        "Salary",
        "Very private",
        Message_ID="<p@supplier.example>",
    )
    planted = parsed(private.as_bytes())
    planted["References"] = sent.message_id
    planted.set_payload("Planted")
    mallory.receive(planted.as_bytes(policy=email.policy.SMTP))
    assert his.sync()["file"] == 1
    scene.alice.receive(private.as_bytes(policy=email.policy.SMTP))
    scene.sync(app=watched)
    assert guard.count(f"{scene.receiver}.fetch") == 0
    assert [message.text.strip() for message in received(his)] == ["Planted"]


def test_what_a_colleague_makes_of_an_own_mail_in_copy_is_not_shown_as_sent(scene, mallory, his):
    ours = parsed(scene.supplier.inbox()[0])["Message-ID"]
    related = {"Cc": mallory.address, "References": ours}
    own = write(scene.alice.address, scene.supplier.address, "Re: Offer 4711", "I agree.", **related)
    altered = own.as_bytes(policy=email.policy.SMTP) + b"And I pay twice.\r\n"
    mallory.receive(altered)
    assert his.sync()["file"] == 1
    keep(scene.alice, own)
    for _ in range(2):
        scene.sync()
        scene.forget()
    sent = [message.text.split()[-1] for message in scene.timeline() if message.direction == "out"]
    assert sent == ["offer.", "agree."]
    assert [message.text.split()[-1] for message in received(scene)] == ["twice."]


class Withheld(Guard):
    """The server gives no mail."""

    def around(self, name, call):
        if name.endswith("receiver.fetch"):
            raise self.error(name)
        return call()


@pytest.mark.parametrize("error", [NotFound, Rejected])
def test_a_copy_that_cannot_be_fetched_is_one_more_delivery_fact(scene, mallory, his, error):
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(*FORGED))
    his.sync()
    scene.alice.receive(genuine)
    guard = Withheld(error=lambda _: error("No."))
    assert scene.sync(app=guarded(scene.app, guard))["known"] == 1
    assert facts(scene) == {"FAKE": [his.mailbox.id, scene.mailbox.id]}


def test_a_mail_that_cannot_be_fetched_is_no_copy_of_one_in_a_colleagues_own_case(scene, mallory, his):
    ours, theirs = parsed(scene.supplier.inbox()[0])["Message-ID"], his.sent().message_id
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(ours.encode(), theirs.encode()))
    his.sync()
    scene.alice.receive(genuine)
    guard = Withheld(error=lambda _: NotFound("No."))
    assert scene.sync(app=guarded(scene.app, guard))["lost"] == 1
    [review] = scene.reviews()
    message = reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    assert (message.case_id, message.text.strip()) == ("C-1", TEXT)


def test_a_copy_whose_fetching_fails_again_and_again_stops_no_mailbox(scene, mallory, his):
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(*FORGED))
    his.sync()
    scene.alice.receive(genuine)
    for _ in range(PATIENCE):
        guard = Guard(only=r"receiver\.fetch$", fail_at=1, how="error", error=lambda _: Temporary("Broken."))
        with pytest.raises(Temporary):
            scene.sync(app=guarded(scene.app, guard))
    assert scene.sync()["known"] == 1
    assert facts(scene) == {"FAKE": [his.mailbox.id, scene.mailbox.id]}


def test_who_links_a_mail_gets_the_text_that_lies_in_the_own_mailbox(scene, mallory, his):
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(*FORGED))
    his.sync()
    scene.alice.receive(genuine)
    with scene.app.searching(scene.org_id, scene.mailbox) as searcher:
        [hit] = searcher.search(Query(subject="Offer", sender=scene.supplier.address)).mails
    for _ in range(2):
        message, _others = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit.ref)
        assert "REAL" in message.text
    assert facts(scene) == {"FAKE": [his.mailbox.id], "REAL": [scene.mailbox.id]}


@pytest.mark.long
def test_a_copy_with_another_text_ends_the_same_wherever_its_look_breaks(scene, mallory, his):
    for k in range(1, 40):
        genuine = answer(scene, mallory, number=k)
        mallory.receive(genuine.replace(*FORGED))
        his.sync()
        scene.alice.receive(genuine)
        guard = failing("lost" if k % 2 else "before")
        guard.only, guard.fail_at = r"\.(commit|put|fetch|get)$", (k + 1) // 2
        attempt(lambda guard=guard: scene.sync(app=guarded(scene.app, guard)))
        scene.clock.advance(minutes=10)
        scene.sync()
        mails = [message for message in received(scene) if message.message_id == f"<{k}@supplier.example>"]
        told = f"call {guard.fail_at} {guard.how}: {guard.calls}"
        held = sorted((m.text.split()[-1], len(m.deliveries), ANOTHER in m.evidence.notes) for m in mails)
        assert held == [("FAKE", 2, True), ("REAL", 1, True)], told
        if guard.fail_at > len(guard.calls):
            break
    assert k > 8, k


def test_a_large_copy_that_is_stored_at_the_same_moment_takes_no_mails_bytes(scene, mallory, his):
    """His worker has decided to file, and fetches: meanwhile the genuine mail is filed."""
    genuine = answer(scene, mallory, text="A long line.\n" * 25_000 + TEXT)
    mallory.receive(genuine.replace(*FORGED))
    scene.alice.receive(genuine)

    def then(name, times):
        if (name, times) == (f"{his.receiver}.fetch", 1):
            scene.sync()

    his.sync(app=guarded(scene.app, Acting(then=then)))
    mails = {message.text.split()[-1]: message for message in received(scene)}
    assert mails.keys() == {"REAL", "FAKE"}
    assert all(word.encode() in scene.raw(message) for word, message in mails.items())
    assert all(ANOTHER in message.evidence.notes for message in mails.values())


@pytest.mark.parametrize("first", ["his", "hers"])
def test_what_a_colleague_puts_into_his_sent_takes_no_suppliers_mails_place(scene, mallory, his, first):
    genuine = answer(scene, mallory)
    forged = parsed(genuine.replace(*FORGED))
    del forged["Cc"]  # so that nothing shows that it came in
    keep(mallory, forged)
    scene.alice.receive(genuine)
    for look in (his.sync, scene.sync) if first == "his" else (scene.sync, his.sync):
        assert look()["file"] == 1
    assert facts(scene) == {"REAL": [scene.mailbox.id]}
    assert {message.text.split()[-1] for message in scene.timeline()[1:]} == {"REAL", "FAKE"}


@pytest.mark.parametrize("says_so", [False, True])
def test_a_suppliers_mail_stays_one_that_came_in_whoever_keeps_it_in_his_sent(scene, mallory, his, says_so):
    genuine = answer(scene, mallory)
    scene.alice.receive(genuine)
    scene.sync()
    copy = parsed(genuine)
    del copy["Cc"]
    if says_so:
        copy["Sender"] = mallory.address
    keep(mallory, copy)
    his.sync()
    [mail] = received(scene)
    assert mail.mailbox_id is None


@pytest.mark.parametrize("altered", [True, False])
def test_a_mail_that_a_colleague_linked_into_his_case_first_is_in_the_one_that_it_answers_too(
    scene, mallory, his, altered
):
    genuine = answer(scene, mallory)
    mallory.receive(genuine.replace(*FORGED) if altered else genuine)
    hit, *_ = looking.search(scene.app, his.caller, his.mailbox.id, Query(subject="Offer 4711"), None)[0]
    reviewing.link(scene.app, his.caller, "C-2", his.mailbox.id, hit.ref)
    scene.alice.receive(genuine)
    assert scene.sync()["file"] == 1
    assert facts(scene) == {"REAL": [scene.mailbox.id]}


def test_a_mail_is_linked_where_its_owner_says_whoever_planted_its_headers_elsewhere(scene, mallory, his):
    private = write(
        scene.supplier.address, scene.alice.address, "Screws", TEXT, Message_ID="<p@supplier.example>"
    )
    planted = parsed(private.as_bytes().replace(*FORGED))
    planted["References"] = his.sent().message_id
    mallory.receive(planted.as_bytes(policy=email.policy.SMTP))
    assert his.sync()["file"] == 1
    scene.alice.receive(private.as_bytes(policy=email.policy.SMTP))
    scene.sync()
    [hit] = looking.search(scene.app, scene.caller, scene.mailbox.id, Query(subject="Screws"), None)[0]
    message, _ = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit.ref)
    assert (message.case_id, message.text.split()[-1]) == ("C-1", "REAL")
    again, _ = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit.ref)
    assert again.id == message.id


def test_another_mail_under_a_known_message_id_is_linked_into_any_case(scene, his):
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-3", "Three", [scene.alice.address])
    known = scene.supplier.reply(scene.supplier.inbox()[0])["Message-ID"]
    scene.sync()
    other = write(scene.supplier.address, scene.alice.address, "Nuts", "B", Message_ID=known)
    scene.alice.receive(other.as_bytes(policy=email.policy.SMTP))
    scene.sync()
    [hit] = looking.search(scene.app, scene.caller, scene.mailbox.id, Query(subject="Nuts"), None)[0]
    message, _ = reviewing.link(scene.app, scene.caller, "C-3", scene.mailbox.id, hit.ref)
    assert (message.case_id, message.text.strip()) == ("C-3", "B")
