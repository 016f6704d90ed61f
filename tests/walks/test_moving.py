"""A conversation moved to another case: wherever that breaks, whoever moves it too, no mail of it is lost."""

from dataclasses import replace

import pytest

from shared import casework, knowing, looking, reviewing
from shared.errors import Conflict, NotAllowed
from shared.model import Conversation
from shared.providers.base import Query
from shared.storage.base import Save
from tests.doors import Acting, Guard, dying, guarded
from tests.scenes import caller

MAILS = 42
"""More than are carried in one transaction: a crash leaves some in either case."""


@pytest.fixture
def mails(scene):
    """A conversation in C-1; its member may move it to C-2 and C-3, too."""
    for case in ("C-2", "C-3"):
        casework.put_case(scene.app, caller(scene.org_id, "", "platform"), case, "", [scene.alice.address])
    first = scene.send()
    list(scene.waiting())
    scene.app.records.commit(
        scene.org_id, *(Save(replace(first, id=f"{first.id}-{n}")) for n in range(1, MAILS))
    )
    return scene.timeline()


def place(scene, mails):
    """Where the conversation is, with every mail of it in there and findable."""
    stored = scene.app.records.get(scene.org_id, Conversation, mails[0].conversation_id).value
    assert stored.moved_from is None
    assert [mail.id for mail in scene.timeline(stored.case_id)] == [mail.id for mail in mails]
    others = {"C-1", "C-2", "C-3"} - {stored.case_id}
    assert [scene.timeline(case) for case in others] == [[], []]
    findable(scene, mails)
    return stored.case_id


def findable(scene, mails):
    for mail in (mails[0], mails[-1]):
        assert knowing.find(scene.app, scene.org_id, mail.conversation_id, mail.id)


def seen(scene, mail):
    """The case in which a member finds the mail."""
    return next(case for case in ("C-1", "C-2", "C-3") if mail.id in {m.id for m in scene.timeline(case)})


def move(scene, mail, target, app=None):
    return casework.move(app or scene.app, scene.caller, seen(scene, mail), mail.id, target)


@pytest.mark.parametrize("then", ["C-1", "C-2", "C-3"])
def test_a_move_that_broke_off_anywhere_can_be_followed_by_any_other(scene, mails, then):
    """Moved back where only its first mails had left, a conversation could never be moved again."""
    for k in range(1, 9):
        guard = Guard(fail_at=k, only="commit")
        with dying():
            move(scene, mails[0], "C-2", guarded(scene.app, guard))
        findable(scene, mails)
        move(scene, mails[-1], then)  # of all mails the one that is carried last
        assert place(scene, mails) == then, k
        if not guard.dead:
            break
        move(scene, mails[0], "C-1")
    assert k > 4


def test_a_conversation_that_was_moved_to_where_it_was_is_free_again(scene, mails):
    """Records of the time when a move back could do that; their job poisoned."""
    stored = scene.app.records.get(scene.org_id, Conversation, mails[0].conversation_id).value
    scene.app.records.commit(scene.org_id, Save(replace(stored, moved_from="C-1")))
    casework.carry(scene.app, scene.org_id, stored.id)
    assert place(scene, mails) == "C-1"
    move(scene, mails[0], "C-2")
    assert place(scene, mails) == "C-2"


def test_whoever_falls_asleep_while_carrying_takes_nothing_to_where_it_was_to_go_then(scene, mails):
    def then(name, times):
        if (name, times) == ("records.range", 1):
            move(scene, mails[0], "C-3")
            move(scene, mails[0], "C-1")

    move(scene, mails[0], "C-2", guarded(scene.app, Acting(then=then)))
    assert place(scene, mails) == "C-1"


@pytest.mark.parametrize("call", ["queues.put", "records.range"])
def test_the_same_move_asked_for_at_once_is_answered_to_both(scene, mails, call):
    def then(name, times):
        if (name, times) == (call, 1):
            move(scene, mails[-1], "C-2")

    assert move(scene, mails[0], "C-2", guarded(scene.app, Acting(then=then))).case_id == "C-2"
    assert place(scene, mails) == "C-2"


def test_who_may_not_see_where_a_mail_has_gone_meanwhile_does_not_fetch_it_from_there(scene, mails):
    platform = caller(scene.org_id, "", "platform")

    def then(name, times):
        if (name, times) == ("records.find", 1):
            move(scene, mails[0], "C-3")
            casework.put_case(scene.app, platform, "C-3", "", ["bob@imap.example"])

    with pytest.raises(NotAllowed):
        move(scene, mails[0], "C-2", guarded(scene.app, Acting(then=then)))


def test_who_links_a_conversation_that_is_moved_meanwhile_is_told_so_and_links_the_rest_there(scene):
    casework.put_case(scene.app, caller(scene.org_id, "", "platform"), "C-2", "", [scene.alice.address])
    first = scene.supplier.send(scene.alice.address, "Complaint")
    second = scene.supplier.reply(first, to=scene.alice.address)
    third = scene.supplier.reply(second, "third", to=scene.alice.address)
    ids = {mail["Message-ID"] for mail in (first, second, third)}
    scene.sync()
    hits = looking.search(scene.app, scene.caller, scene.mailbox.id, Query(subject="Complaint"), None)[0]
    [ref] = [hit.ref for hit in hits if hit.message_id == third["Message-ID"]]

    def then(name, times):
        if (name, times) == (f"{scene.receiver}.fetch", 2):  # the linked mail is filed, another is at hand
            move(scene, scene.timeline()[0], "C-2")

    with pytest.raises(Conflict, match="moved to another case"):
        link(scene, "C-1", ref, guarded(scene.app, Acting(then=then)))
    assert scene.timeline() == []
    assert link(scene, "C-2", ref)[1] == 2
    assert {mail.message_id for mail in scene.timeline("C-2")} == ids


def link(scene, case_id, ref, app=None):
    return reviewing.link(app or scene.app, scene.caller, case_id, scene.mailbox.id, ref)
