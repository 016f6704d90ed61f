"""What only Graph has: sweeps and delta, moved mail, lost sync states, KQL. Nothing lost, nothing double."""

import email.policy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.graph.mailbox import Mailbox
from sandbox.web import Reply
from shared import looking
from shared.errors import ConsentRequired, Temporary
from shared.model import AuditRecord
from shared.providers.base import Query
from shared.storage.base import Save
from tests import microsoft
from tests.microsoft import faults, in_place_of
from tests.scenes import write

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def office(world):
    """One Microsoft scene for this file; its push is dead, so that each look is the test's own."""
    scene = microsoft.office(world)
    yield scene
    scene.bell.stop()


@pytest.fixture(autouse=True)
def no_microsoft_faults(world):
    world.graph.notifier.faults.lose = 1.0
    yield
    microsoft.calm(world)


@pytest.fixture(autouse=True)
def box(office):
    """Alice's mailbox as Exchange has it; emptied afterwards, or every look would list it all."""
    yield office.alice.box
    office.alice.box.items.clear()


@pytest.fixture
def crowded(world):
    """Many mails: they are not held against Graph's description, which takes a while for each."""
    with faults(world.graph, contract=None):
        yield


@pytest.fixture
def first(office):
    message = office.sent()
    office.sync()
    return message


def mail(office, first=None, text="x", **headers):
    """Bytes of a mail to Alice; with `first`, an answer to it, else one that only has its subject."""
    related = {"In_Reply_To": first.message_id, "References": first.message_id} if first else {}
    subject = "Re: Offer 4711" if first else "Offer 4711"
    raw = write(office.supplier.address, office.alice.address, subject, text, **related, **headers)
    return raw.as_bytes(policy=email.policy.SMTP)


def texts(office, first):
    return sorted(message.text.strip() for message in office.answers(first))


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_mailbox_that_is_gone_before_its_first_look_says_what_to_do(office, how):
    """In a batch Graph says so for each part, and everything around it succeeds."""
    person, box = office.colleague("gone")
    office.forget(box)
    if how == "moved":
        person.box.enabled = False
    else:
        del office.world.graph._mailboxes[person.address]
    with pytest.raises(Temporary):  # a fresh token is tried first
        office.sync(box)
    with pytest.raises(ConsentRequired):
        office.sync(box)
    found = office.record(box)
    assert (found.state, "IT" in found.problem.fix) == ("needs_consent", True)


# Envelopes first


@pytest.mark.usefixtures("crowded")
def test_of_mails_outside_cases_nothing_but_envelopes_is_asked_for(office, box, first):
    office.world.graph.requests.clear()
    read = box.bodies_read.total()
    for number in range(60):
        box.add(mail(office, text=f"private {number}"))
    assert office.sync()["ignore"] == 60
    assert box.bodies_read.total() == read
    asked = {path for _, path in office.calls()}
    assert asked == {"messages", "mailFolders/{id}/messages/delta"}
    assert all("$select" in query for _, path, _, query in office.world.graph.requests if path == "messages")
    box.add(mail(office, first, "Answer"))
    office.sync()
    assert box.bodies_read.total() == read + 1
    assert office.calls()["GET", "messages/{id}/$value"] == 1


def test_an_idle_look_costs_three_calls(office, first):
    office.sync()
    office.world.graph.requests.clear()
    office.sync()
    assert office.calls() == {("GET", "messages"): 1, ("GET", "mailFolders/{id}/messages/delta"): 2}


# Wherever it lies


def test_a_mail_that_a_rule_moved_into_a_folder_of_ones_own_is_found(office, box, first):
    box.add(mail(office, first, "By rule"), "Suppliers")
    office.sync()
    assert texts(office, first) == ["By rule"]


def test_mail_in_junk_and_trash_and_drafts_is_left_alone_until_it_comes_back(office, box, first):
    read = box.bodies_read.total()
    items = [box.add(mail(office, first, name), name) for name in ("junkemail", "deleteditems")]
    box.add(mail(office, first, "unfinished"), "drafts", draft=True)
    office.sync()
    assert (texts(office, first), box.bodies_read.total()) == ([], read)
    office.clock.advance(hours=3)
    for item in items:
        box.move(item, "inbox")  # "Not junk": an old mail, new in the inbox
    office.sync()
    assert texts(office, first) == ["deleteditems", "junkemail"]


def test_a_mail_moved_between_listing_and_fetching_is_fetched_all_the_same(office, box, first):
    item = box.add(mail(office, first, "Moving"))
    moved = []

    class Moving(dict):
        def get(self, key, *rest):  # Graph's store: the item is moved the moment it is asked for
            found = super().get(key, *rest)
            if found is item and not moved:
                moved.append(key)
                box.move(item, "Later")
            return found

    box.items = Moving(box.items)
    office.sync()
    box.items = dict(box.items)
    assert moved
    assert texts(office, first) == ["Moving"]


def test_what_alice_sent_herself_counts_as_sent_wherever_she_keeps_it(office, box, first):
    raw = write(
        office.alice.address,
        office.supplier.address,
        "Re: Offer 4711",
        "Mine",
        In_Reply_To=first.message_id,
        References=first.message_id,
    ).as_bytes(policy=email.policy.SMTP)
    item = box.add(raw, "sentitems", sent=True)
    box.move(item, "Projects")
    office.sync()
    [found] = office.answers(first)
    assert (found.direction, found.state, found.origin) == ("out", "sent", "mailbox")


def test_a_mail_that_shows_up_late_under_an_old_time_is_found(office, box, first):
    """In a folder of her own, where no delta looks."""
    box.add(mail(office, text="newer"))
    office.sync()
    box.add(mail(office, first, "Late"), "Suppliers", at=datetime.now(UTC) - timedelta(minutes=4))
    office.sync()
    assert texts(office, first) == ["Late"]


@pytest.mark.usefixtures("crowded")
def test_a_mail_deleted_between_two_pages_hides_no_other(office, box, first):
    """Graph's links count mails: what moves up into a page that was read would never be seen."""
    start = datetime.now(UTC) - timedelta(seconds=200)
    items = [box.add(mail(office, text=f"n{n}"), "Bulk", at=start + timedelta(seconds=n)) for n in range(60)]
    for n in range(60, 70):
        box.add(mail(office, first, f"a{n}"), "Bulk", at=start + timedelta(seconds=n))
    graph, pages = office.world.graph, []
    answer = graph.answer

    def deleting(request):
        reply = answer(request)
        if request.path.endswith("/messages"):
            pages.append(request)
            if len(pages) == 1:
                for item in items[:10]:
                    box.remove(item)
        return reply

    graph.answer = deleting
    office.sync()
    del graph.answer
    assert len(pages) > 1
    assert texts(office, first) == [f"a{n}" for n in range(60, 70)]


@pytest.mark.usefixtures("crowded")
def test_more_mails_of_one_second_than_a_page_holds_are_all_seen(office, box, first):
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=100)
    for number in range(110):
        box.add(mail(office, first if number % 22 == 0 else None, f"b{number}"), "Burst", at=at)
    office.sync()
    assert len(texts(office, first)) == 5


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>Back soon</html>", {"Content-Type": "Text/HTML"}),
        Reply(302, b"", {"Location": "https://login.proxy.example/"}),
    ],
)
def test_what_something_on_the_way_answers_for_a_mail_is_not_filed_as_the_mail(office, box, first, reply):
    box.add(mail(office, first, "True"))
    with in_place_of(office.world.graph, "/$value", reply), pytest.raises(Temporary):
        office.sync()
    office.sync()
    assert texts(office, first) == ["True"]


# Lost sync states


@pytest.mark.parametrize("fault", ["410", "syncStateNotFound", "ErrorInvalidMailboxItemId"])
def test_a_lost_sync_state_starts_over_without_loss_or_double(office, box, first, fault):
    box.add(mail(office, first, "Before"))
    office.sync()
    box.add(mail(office, first, "Meanwhile"))
    office.world.graph.faults.expired_deltas = [fault]
    office.sync()
    box.add(mail(office, first, "After"))
    office.sync()
    assert texts(office, first) == ["After", "Before", "Meanwhile"]
    told = office.app.records.range(office.org_id, AuditRecord)
    assert "mailbox.restarted" in {row.value.event for row in told}
    assert office.state().problem is None


def test_a_mailbox_that_was_made_anew_is_read_on_and_says_nothing_is_wrong(office, box, first, monkeypatch):
    """The same user, but other folders: Graph finds nothing under the links that it gave."""
    box.add(mail(office, first, "Before"))
    office.sync()
    anew = Mailbox(office.alice.address)
    monkeypatch.setitem(office.world.graph._mailboxes, anew.address, anew)
    for text in ("After", "Later"):
        anew.add(mail(office, first, text))
        office.sync()
    assert texts(office, first) == ["After", "Before", "Later"]
    assert office.state().problem is None


def test_an_old_mail_that_comes_out_of_junk_after_a_lost_sync_state_is_found(office, box, first):
    record = office.record()
    office.app.records.commit(office.org_id, Save(replace(record, since=NOW - timedelta(days=1))))
    item = box.add(mail(office, first, "Not junk"), "junkemail", at=NOW - timedelta(hours=1))
    office.world.graph.faults.expired_deltas = ["410"]
    office.sync()
    box.move(item, "inbox")
    office.sync()
    assert texts(office, first) == ["Not junk"]
    office.app.records.commit(office.org_id, Save(record))


@pytest.mark.usefixtures("crowded")
def test_after_weeks_offline_everything_since_is_filed_once_whatever_became_of_the_sync_state(
    office, box, first
):
    """90 mails over two weeks in three folders; the delta links are dead by then."""
    cursor = office.state().cursor
    long_ago = cursor.replace(cursor.partition('"swept":"')[2][:10], f"{NOW - timedelta(days=21):%Y-%m-%d}")
    assert long_ago != cursor
    since = NOW - timedelta(days=22)
    app = office.app
    app.records.commit(office.org_id, Save(replace(office.record(), since=since)))
    app.records.commit(office.org_id, Save(replace(office.state(), cursor=long_ago)))
    for number in range(90):
        at = NOW - timedelta(days=20) + timedelta(hours=4 * number)
        answers = first if number % 15 == 0 else None
        box.add(mail(office, answers, f"w{number}"), ("inbox", "Suppliers", "archive")[number % 3], at=at)
    office.world.graph.faults.expired_deltas = ["410"]
    office.sync()
    office.sync()
    assert len(texts(office, first)) == 6
    app.records.commit(office.org_id, Save(replace(office.record(), since=NOW - timedelta(minutes=5))))


# The owner's live look


def search(office, **query):
    found, cursor = looking.search(office.app, office.caller, office.mailbox.id, Query(**query), None)
    return [envelope.subject for envelope in found], cursor


def test_search_takes_words_people_folders_and_times(office, box):
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    raw = write("eva@supplier.example", office.alice.address, "Gasket prices", "see the list")
    box.add(raw.as_bytes(policy=email.policy.SMTP), "Suppliers", at=at)
    assert search(office, text="gasket")[0] == ["Gasket prices"]
    assert search(office, sender="eva@supplier.example", subject="prices gasket")[0] == ["Gasket prices"]
    assert search(office, subject="Gasket", before=at)[0] == []
    assert search(office, subject="Gasket", after=at - timedelta(hours=1))[0] == ["Gasket prices"]
    names = {
        folder.name: folder.role for folder in looking.folders(office.app, office.caller, office.mailbox.id)
    }
    assert names["Inbox"] == "inbox"
    assert names["Suppliers"] is None


ODD = ['"', '"" \\', "gasket OR from:eva", "(((", "subject:*", "x" * 3000, "ä😀", "a\x00b", " ' or 1 eq 1"]


def test_odd_words_are_words_and_never_a_query_of_their_own(office, box):
    raw = write("eva@supplier.example", office.alice.address, "Gasket prices", "see the list")
    box.add(raw.as_bytes(policy=email.policy.SMTP))
    assert search(office, text="gasket")[0] == ["Gasket prices"]
    assert {text: search(office, text=text) for text in ODD} == dict.fromkeys(ODD, ([], None))


def test_pages_of_a_search_follow_each_other(office, box):
    for number in range(5):
        raw = write("eva@supplier.example", office.alice.address, f"Washer {number}", "x")
        box.add(raw.as_bytes(policy=email.policy.SMTP))
    page, cursor = search(office, subject="Washer", limit=3)
    found, end = looking.search(
        office.app, office.caller, office.mailbox.id, Query(subject="Washer", limit=3), cursor
    )
    assert sorted([*page, *(one.subject for one in found)]) == [f"Washer {number}" for number in range(5)]
    assert end is None
