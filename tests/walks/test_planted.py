"""What a colleague plants, by an own mailbox or mail server, moves nobody else's mail into his case."""

import email.policy
from dataclasses import replace

import pytest

from shared import casework, looking, reviewing
from shared.callers import Caller
from shared.contract import Person
from shared.errors import NotAllowed
from shared.providers.base import Query
from shared.views import email as shown
from tests.providers.scripted import ScriptedSmtp
from tests.scenes import caller, connect, parsed, someone, write

PRIVATE = "<private@imap.example>"


@pytest.fixture
def mallory(scene):
    """A colleague who is member of a case of his own only."""
    person = someone(scene.world, "mallory", "imap.example")
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-2", "His own", [person.address])
    return person


def as_he_sees_it(scene, mallory, **settings):
    """Connect his mailbox; return the scene with him in Alice's place."""
    box = connect(scene.world, scene.app, scene.org_id, mallory, **settings)
    return replace(scene, alice=mallory, mailbox=box, case_id="C-2")


def received(scene):
    return [message.snippet for message in scene.timeline() if message.direction == "in"]


def keep(person, mail):
    person.keep(mail.as_bytes(policy=email.policy.SMTP))


def test_a_server_that_claims_another_mails_id_does_not_get_that_mails_answers(scene, mallory):
    scene.sent()
    answer = scene.supplier.reply(scene.supplier.inbox()[0], "The first answer")
    scene.sync()
    stolen = answer["Message-ID"]
    claims = {"dot": f"250 2.0.0 OK {stolen} [Hostname=x]"}
    with ScriptedSmtp(scene.world.authority.server_context(), claims) as server:
        smtp = {"host": "localhost", "port": server.port, "security": "tls"}
        imap = {"host": "localhost", "port": scene.world.ports["imaps"], "security": "tls"}
        his = as_he_sees_it(scene, mallory, settings={"imap": imap, "smtp": smtp})
        promised = his.send()
        his.work()
    told = his.email(promised.id)
    assert (told.state, told.message_id) == ("sent", promised.message_id)
    following = {"In_Reply_To": stolen, "References": stolen}
    scene.supplier.send(scene.alice.address, "Re: Offer 4711", "The price", **following)
    scene.sync()
    assert received(his) == []
    assert received(scene)[-1] == "The price"


def test_an_answer_to_a_private_mail_whose_id_a_colleague_planted_waits_for_its_owner(scene, mallory):
    his = as_he_sees_it(scene, mallory)
    sent = his.sent()
    planted = {"Message_ID": PRIVATE, "In_Reply_To": sent.message_id, "References": sent.message_id}
    keep(mallory, write(mallory.address, scene.supplier.address, "Re: Offer 4711", "Planted", **planted))
    assert his.sync()["file"] == 1
    private = {"In_Reply_To": PRIVATE, "References": PRIVATE}
    scene.supplier.send(scene.alice.address, "Re: salary", "Very private", **private)
    keep(
        scene.alice,
        write(scene.alice.address, scene.supplier.address, "Re: salary", "Very private", **private),
    )
    assert scene.sync()["review"] == 2
    assert received(his) == []
    [first, second] = scene.reviews()
    assert "does not have" in first.reason
    assert "does not have" in second.reason


def test_a_planted_id_keeps_no_answer_from_its_own_case(scene, mallory):
    scene.sent()
    answer = scene.supplier.reply(scene.supplier.inbox()[0])
    scene.sync()
    his = as_he_sees_it(scene, mallory)
    sent = his.sent()
    planted = {"Message_ID": PRIVATE, "In_Reply_To": sent.message_id, "References": sent.message_id}
    keep(mallory, write(mallory.address, scene.supplier.address, "Re: Offer 4711", "Planted", **planted))
    his.sync()
    named = {"In_Reply_To": PRIVATE, "References": f"{answer['Message-ID']} {PRIVATE}"}
    scene.supplier.send(scene.alice.address, "Re: Offer 4711", "The price", **named)
    scene.sync()
    assert received(scene)[-1] == "The price"
    assert (received(his), scene.reviews()) == ([], [])


@pytest.mark.parametrize("sender", ["alice", "the supplier", "nobody known"])
def test_a_colleague_who_knows_an_id_files_nothing_in_anybodys_name(scene, mallory, sender):
    scene.sent()
    answer = scene.supplier.reply(scene.supplier.inbox()[0])
    scene.sync()
    before = len(scene.timeline())
    his = as_he_sees_it(scene, mallory)
    known = {"alice": scene.alice.address, "the supplier": scene.supplier.address}
    forged = write(
        known.get(sender, "x@elsewhere.example"),
        scene.supplier.address,
        "Re: Offer 4711",
        "Forged",
        In_Reply_To=answer["Message-ID"],
    )
    keep(mallory, forged)
    mallory.receive(forged.as_bytes(policy=email.policy.SMTP).replace(b"Forged", b"Other"))
    assert his.sync()["file"] == 0
    assert len(scene.timeline()) == before


def planted_private(scene, mallory, his, folder):
    """A private mail of Alice's, whose headers lie with another text in a case of Mallory's."""
    boss = scene.supplier
    private = write(boss.address, scene.alice.address, "Salary", "Very private", Message_ID=PRIVATE)
    planted = parsed(private.as_bytes())
    planted["References"] = his.sent().message_id
    planted.set_payload("Planted")
    if folder == "Sent":
        keep(mallory, planted)
    else:
        mallory.receive(planted.as_bytes(policy=email.policy.SMTP))
    assert his.sync()["file"] == 1
    scene.alice.receive(private.as_bytes(policy=email.policy.SMTP))


@pytest.mark.parametrize("folder", ["INBOX", "Sent"])
def test_an_answer_to_a_private_mail_whose_headers_a_colleague_planted_waits_for_its_owner(
    scene, mallory, watched, guard, folder
):
    his = as_he_sees_it(scene, mallory)
    planted_private(scene, mallory, his, folder)
    scene.sync(app=watched)
    private = {"In_Reply_To": PRIVATE, "References": PRIVATE}
    scene.supplier.send(scene.alice.address, "Re: Salary", "Also very private", **private)
    assert scene.sync(app=watched)["review"] == 1
    assert guard.count(f"{scene.receiver}.fetch") == 0
    [planted] = [message for message in his.timeline() if message.message_id == PRIVATE]
    assert (len(his.timeline()), shown(planted).mailbox_ids) == (2, [his.mailbox.id])


def test_a_mail_that_only_looks_like_a_filed_one_is_judged_once_a_mailbox(scene, mallory):
    his = as_he_sees_it(scene, mallory)
    planted_private(scene, mallory, his, "INBOX")
    scene.sync()
    before = his.timeline()
    scene.forget()
    scene.sync()
    assert his.timeline() == before
    assert [fact.unproven for fact in before[-1].deliveries] == [False, True]


def test_a_sent_mail_whose_headers_a_colleague_planted_is_not_shown_as_sent_in_his_case(scene, mallory):
    his = as_he_sees_it(scene, mallory)
    private = write(scene.alice.address, scene.supplier.address, "Salary", "Very private", Message_ID=PRIVATE)
    planted = parsed(private.as_bytes())
    planted["References"] = his.sent().message_id
    mallory.receive(planted.as_bytes(policy=email.policy.SMTP))
    his.sync()
    keep(scene.alice, private)
    scene.sync()
    scene.supplier.send(scene.alice.address, "Re: Salary", "Also very private", In_Reply_To=PRIVATE)
    assert scene.sync()["review"] == 1
    assert len(received(his)) == 1


def test_what_only_looked_like_a_filed_mail_is_in_the_mailbox_once_its_owner_links_it(scene):
    """And an answer to it is filed by itself from then on."""
    carol, carols = scene.colleague()
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-1", "Screws", [scene.alice.address, carol.address])
    mail = write(
        scene.supplier.address, scene.alice.address, "Screws", "Text", Cc=carol.address, Message_ID=PRIVATE
    ).as_bytes(policy=email.policy.SMTP)
    for person in (scene.alice, carol):
        person.receive(mail)
    linked(scene, caller(scene.org_id, carol.address), carols)
    scene.sync()
    [message] = scene.timeline()
    assert shown(message).mailbox_ids == [carols.id]
    linked(scene, scene.caller, scene.mailbox)
    [message] = scene.timeline()
    assert shown(message).mailbox_ids == [carols.id, scene.mailbox.id]
    scene.supplier.send(scene.alice.address, "Re: Screws", "The price", In_Reply_To=PRIVATE)
    assert scene.sync()["file"] == 1


def linked(scene, who, box):
    [hit] = looking.search(scene.app, who, box.id, Query(subject="Screws"), None)[0]
    reviewing.link(scene.app, who, "C-1", box.id, hit.ref)


def test_who_has_another_text_under_a_mails_headers_may_not_move_its_conversation(scene, mallory):
    his = as_he_sees_it(scene, mallory)
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-1", "Screws", [scene.alice.address, mallory.address])
    own = his.sent()
    sent = scene.sent()
    genuine = scene.supplier.reply(scene.raw(sent), "Our price is 100.", to=scene.alice.address)
    scene.sync()
    planted = parsed(genuine)
    for name in ("In-Reply-To", "References"):
        del planted[name]
        planted[name] = own.message_id
    mallory.receive(planted.as_bytes(policy=email.policy.SMTP))
    his.sync()
    [mail] = [one for one in scene.timeline() if one.direction == "in"]
    assert mallory_has(his, mail) == [True]
    with pytest.raises(NotAllowed, match="Only the owner of a mailbox that holds this mail"):
        casework.move(scene.app, his.caller, "C-1", mail.id, "C-2")


def mallory_has(his, mail):
    return [bool(fact.variant) for fact in mail.deliveries if fact.mailbox_id == his.mailbox.id]


@pytest.mark.parametrize("where", ["Sent", "INBOX"])
def test_an_id_that_only_a_colleagues_copy_taught_is_none_of_those_that_others_had(
    scene, mallory, watched, guard, where
):
    """Alice has his mail. Its copy under the id of a private mail of hers is no reason to file answers to that."""
    his = as_he_sees_it(scene, mallory)
    mail = his.sent(cc=[Person(address=scene.alice.address, name="Alice")])
    scene.sync()
    his.sync()
    copy = parsed(his.raw(mail))
    copy.replace_header("Message-ID", PRIVATE)
    keep(mallory, copy) if where == "Sent" else mallory.receive(copy.as_bytes(policy=email.policy.SMTP))
    assert his.sync()["learnt"] == 1
    private = {"In_Reply_To": PRIVATE, "References": PRIVATE}
    scene.supplier.send(scene.alice.address, "Re: salary", "Very private", **private)
    assert scene.sync(app=watched)["review"] == 1
    assert guard.count(f"{scene.receiver}.fetch") == 0
    assert received(his) == []


def test_an_id_under_which_a_colleague_has_a_mail_of_ours_leads_his_answers_home(scene):
    """A relay changed it on its way to him; his correspondent's program names nothing else."""
    carol, carols = scene.colleague()
    mail = scene.sent(cc=[Person(address=carol.address, name="Carol")])
    copy = parsed(scene.raw(mail))
    copy.replace_header("Message-ID", "<changed@relay.example>")
    carol.receive(copy.as_bytes(policy=email.policy.SMTP))
    assert scene.sync(carols)["learnt"] == 1
    scene.supplier.send(carol.address, "Re: Offer 4711", "To Carol", In_Reply_To="<changed@relay.example>")
    assert scene.sync(carols)["file"] == 1
    assert received(scene) == ["To Carol"]


def test_a_copy_whose_sender_is_forged_teaches_no_id(scene):
    mail = scene.sent()
    scene.sync()
    copy = parsed(scene.raw(mail))
    copy.replace_header("Message-ID", PRIVATE)
    copy["Authentication-Results"] = "imap.example; dmarc=fail header.from=imap.example"
    scene.alice.receive(copy.as_bytes(policy=email.policy.SMTP))
    assert scene.sync() == {"known": 1}
    scene.supplier.send(scene.alice.address, "Re: salary", "Very private", In_Reply_To=PRIVATE)
    assert scene.sync()["ignore"] == 1


@pytest.mark.parametrize("where", ["Sent", "INBOX"])
def test_a_members_copy_of_a_mail_of_the_case_teaches_its_sender_no_id(scene, watched, guard, where):
    """Who may read the case can make a copy of its mail, under the id of a private one of its sender's."""
    carol, carols = scene.colleague()
    copy = parsed(scene.raw(scene.sent()))
    scene.sync()
    copy.replace_header("Message-ID", PRIVATE)
    keep(carol, copy) if where == "Sent" else carol.receive(copy.as_bytes(policy=email.policy.SMTP))
    assert scene.sync(carols)["learnt"] == 1
    scene.supplier.send(scene.alice.address, "Re: salary", "Very private", In_Reply_To=PRIVATE)
    assert scene.sync(app=watched)["review"] == 1
    assert guard.count(f"{scene.receiver}.fetch") == 0
