"""One mail in several mailboxes whose owners link it to cases of their own: each has it where he says."""

import email.policy
from dataclasses import replace

import pytest

from shared import casework, looking, reviewing
from shared.callers import Caller
from shared.errors import Conflict
from shared.providers.base import Query
from tests.scenes import connect, parsed, someone, write

LIST_ID = "<list@supplier.example>"


def colleague(scene, case_id, *cases):
    """The scene as somebody else sees it, who is member of one case (and of more)."""
    person = someone(scene.world, "colleague", "imap.example")
    put(scene, case_id, person.address)
    box = connect(scene.world, scene.app, scene.org_id, person)
    return replace(scene, alice=person, mailbox=box, case_id=case_id)


def put(scene, case_id, *members):
    casework.put_case(
        scene.app, Caller(scene.org_id, "", frozenset({"platform"})), case_id, case_id, list(members)
    )


@pytest.fixture
def everyone(scene):
    return [scene, colleague(scene, "C-2"), colleague(scene, "C-3")]


def receive(everyone, subject="Price list", **headers):
    to = ", ".join(one.alice.address for one in everyone)
    mail = write(
        everyone[0].supplier.address, to, subject, "Our prices", **{"Message_ID": LIST_ID, **headers}
    )
    for one in everyone:
        one.alice.receive(mail.as_bytes(policy=email.policy.SMTP))


def link(one, subject="Price list"):
    [hit] = looking.search(one.app, one.caller, one.mailbox.id, Query(subject=subject), None)[0]
    return reviewing.link(one.app, one.caller, one.case_id, one.mailbox.id, hit.ref)


def test_three_colleagues_each_have_one_mail_in_the_case_that_they_linked_it_to(everyone):
    receive(everyone)
    assert [link(one)[0].case_id for one in everyone] == ["C-1", "C-2", "C-3"]
    assert [len(one.timeline()) for one in everyone] == [1, 1, 1]


def test_what_one_of_three_answers_stands_in_his_own_case_and_in_no_colleagues(everyone):
    receive(everyone)
    for one in everyone:
        link(one)
    last = everyone[-1]
    related = {"In_Reply_To": LIST_ID, "References": LIST_ID}
    mine = write(last.alice.address, last.supplier.address, "Re: Price list", "Our margin", **related)
    last.alice.keep(mine.as_bytes(policy=email.policy.SMTP))
    assert last.sync()["file"] == 1
    assert [len(one.timeline()) for one in everyone] == [1, 1, 2]


def test_a_mail_that_two_colleagues_linked_elsewhere_is_in_the_case_that_it_answers_too(everyone):
    first, second, third = everyone
    third.sent()
    third.sync()
    ours = parsed(third.supplier.inbox()[0])["Message-ID"]
    receive(everyone, In_Reply_To=ours, References=ours)
    link(first)
    link(second)
    assert third.sync()["file"] == 1
    assert [message.message_id for message in third.timeline()][1:] == [LIST_ID]


def test_a_mail_whose_conversation_a_colleague_moved_on_can_be_linked_where_it_was(scene):
    his = colleague(scene, "C-2")
    put(scene, "C-1", scene.alice.address, his.alice.address)
    put(scene, "C-9", scene.alice.address)
    receive([scene, his])
    moved, _ = link(scene)
    casework.move(scene.app, scene.caller, "C-1", moved.id, "C-9")
    here = replace(his, case_id="C-1")
    message, _ = link(here)
    assert (message.case_id, link(here)[0].id) == ("C-1", message.id)
    with pytest.raises(Conflict):
        link(scene)
    assert [row.id for row in scene.timeline("C-9")] == [moved.id]


def test_what_a_linked_mail_answers_comes_along_whoever_linked_that_elsewhere(scene):
    his = colleague(scene, "C-2")
    receive([scene, his])
    receive([scene, his], "Re: Price list, again", Message_ID="<again@supplier.example>", In_Reply_To=LIST_ID)
    for one in (scene, his):
        one.sync()
        assert link(one, "Price list, again")[1] == 1
        assert len(one.timeline()) == 2
