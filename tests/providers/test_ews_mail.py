"""The EWS provider's reading, searching and sending; what it leaves alone."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from shared.errors import (
    ConsentRequired,
    CursorExpired,
    InvalidRequest,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Withheld,
)
from shared.providers.base import Query, given
from shared.providers.ews.position import MOST_SHUT, Position
from shared.providers.ews.searching import EwsSearcher
from shared.providers.ews.sending import EwsSender
from shared.providers.ews.wire import MOST_MARKS
from shared.providers.positions import ASKED, LONGEST, WAITED
from tests.providers.exchange_parts import PASSWORD, SINCE, Box
from tests.providers.parts import id_of, mail

OLD = mail("Old")
OURS = f"<z.{'0' * 16}.{'0' * 13}-{'0' * 12}.{'0' * 16}@imap.example>"


@pytest.fixture
def box(server):
    return Box(server.exchange)


def looked(cursor, *ago):
    """The cursor as if the last look had been so long ago, and the one before it, too, or longer."""
    last, *before = [str(datetime.now(UTC) - one) for one in ago]
    return json.dumps(json.loads(cursor) | {"swept": last, "sweep_from": before[0] if before else last})


def quiet(box, name):
    """A folder in which nothing has happened for days."""
    folder = box.mailbox.add_folder(name).id
    box.mailbox.touched[folder] = datetime.now(UTC) - timedelta(days=3)
    return folder


class TestReading:
    def test_an_idle_look_costs_three_requests(self, box):
        _, cursor = box.read()
        with box.asked() as asked:
            assert box.read(cursor)[0] == []
        assert asked == ["FindFolder", "SyncFolderItems", "SyncFolderItems", 3]

    def test_a_large_mailbox_is_begun_without_reading_it_and_its_cursor_is_small(self, box):
        long_ago = SINCE - timedelta(days=30)
        other = box.mailbox.add_folder("Suppliers").id
        for _ in range(600):
            box.mailbox.add(OLD, at=long_ago)
        old = {box.mailbox.add(OLD, other, at=long_ago).id for _ in range(600)}
        box.mailbox.add(mail("New"))
        box.mailbox.add(mail("By a rule"), other, at=SINCE + timedelta(minutes=1))
        with box.asked() as asked:
            found, cursor = box.read()
        assert [e.subject for e in found] == ["New", "By a rule"]
        assert (asked.count("SyncFolderItems"), asked.count("FindItem")) == (1 + 2, 1)
        assert asked.count("GetItem") == 2
        assert not old & {*box.mailbox.headers_read}
        assert len(cursor) < 4096

    def test_no_body_is_asked_for_but_by_fetch(self, box):
        raw = mail("Hello")
        box.mailbox.add(raw)
        box.mailbox.add(mail("Mine"), "sentitems", sent=True)
        asked = box.exchange.mime_asked.total()
        [_, found], _ = box.read()
        with box.opened() as receiver, box.opened(EwsSearcher) as searcher:
            list(receiver.look([id_of(raw)]))
            receiver.find_sent(id_of(raw))
            searcher.search(Query(text="Hello"))
            assert box.mailbox.bodies_read.total() == 0
            assert box.exchange.mime_asked.total() == asked
            assert receiver.fetch(found.ref) == raw
        assert box.exchange.mime_asked.total() == asked + 1

    @pytest.mark.parametrize("bare", [False, True])
    def test_a_lost_sync_state_is_an_expired_cursor(self, box, bare):
        box.mailbox.add(mail("One"))
        _, cursor = box.read()
        box.mailbox.lose_sync_states()
        box.exchange.faults.bare_errors = bare
        with pytest.raises(CursorExpired):
            box.read(cursor)

    def test_what_was_moved_before_a_sync_state_was_lost_is_found_all_the_same(self, box):
        minutes = timedelta(minutes=1)
        cursor = looked(box.read()[1], 30 * minutes)
        folder = box.mailbox.add_folder("Suppliers").id
        box.mailbox.add(mail("By a rule"), folder, at=datetime.now(UTC) - 20 * minutes)
        box.mailbox.lose_sync_states()
        with pytest.raises(CursorExpired) as caught:
            box.read(cursor)
        found, cursor = box.read(caught.value.resume)
        assert [e.subject for e in found] == ["By a rule"]
        assert box.read(cursor)[0] == []

    def test_what_was_moved_during_a_first_look_that_took_long_is_found(self, box):
        for number in range(150):
            box.mailbox.add(mail(str(number)))
        with box.opened() as receiver:
            first = next(receiver.pages(None, SINCE))
        box.mailbox.add(mail("By a rule"), box.mailbox.add_folder("Suppliers").id)
        found, _ = box.read(first.cursor)
        assert "By a rule" in [e.subject for e in found]

    @pytest.mark.long
    @pytest.mark.parametrize("long_from", ["the first look", "a later look"])
    def test_a_folder_whose_sync_state_has_no_room_is_read_by_time_and_nothing_is_lost_or_given_out_twice(
        self, box, long_from
    ):
        folders, told = [f"Project {number}" for number in range(50)], []
        for name in folders:
            box.mailbox.add_folder(name)
        box.mailbox.blanks = 12_000 if long_from == "the first look" else 0
        for number in range(600):
            box.mailbox.add(mail(f"0 {number}"), folders[-1], at=datetime.now(UTC) - timedelta(minutes=30))
        box.mailbox.add(OLD, folders[-1], at=SINCE - timedelta(days=30))
        found, cursor = box.read(folders=folders)
        box.mailbox.blanks = 12_000
        told += found
        for look in "12":
            box.mailbox.add(mail(f"{look} received"))
            box.mailbox.add(mail(f"{look} own"), "sentitems", sent=True)
            box.mailbox.add(mail(f"{look} first"), folders[0])
            box.mailbox.add(mail(f"{look} last"), folders[-1])
            box.mailbox.add(mail(f"{look} private"), "Private")
            found, cursor = box.read(cursor, folders=folders)
            told += found
            assert len(cursor) < LONGEST
        kinds = ("received", "own", "first", "last")
        wanted = [f"0 {number}" for number in range(600)] + [f"{n} {kind}" for n in "12" for kind in kinds]
        assert sorted(e.subject for e in told) == sorted(wanted)
        assert [e.subject for e in told if e.is_sent] == ["1 own", "2 own"]
        assert box.read(cursor, folders=folders)[0] == []
        with box.asked() as asked:
            box.read(cursor, folders=folders)
        assert asked.count("SyncFolderItems") < 8

    def test_a_first_look_that_ends_in_a_folder_whose_sync_state_has_no_room_comes_to_its_end(self, box):
        box.mailbox.blanks = 460_000
        for number in range(600):
            box.mailbox.add(mail(str(number)))
        with box.opened() as receiver:
            pages = list(islice(receiver.pages(None, SINCE), 6))
        found, cursor = box.read(pages[-1].cursor)
        told = [e.subject for page in pages for e in page.envelopes] + [e.subject for e in found]
        assert (len(told), {*told}) == (600, {str(number) for number in range(600)})
        box.mailbox.add(mail("New"))
        assert [e.subject for e in box.read(cursor)[0]] == ["New"]

    def test_a_first_look_is_gone_on_with_where_it_ended_although_all_was_old(self, box):
        for _ in range(600):
            box.mailbox.add(OLD, at=SINCE - timedelta(days=30))
        with box.opened() as receiver, box.asked() as asked:
            first = next(receiver.pages(None, SINCE))
        assert first.envelopes == ()
        assert asked.count("SyncFolderItems") == 1 + 1
        with box.asked() as asked:
            box.read(first.cursor)
        assert asked.count("SyncFolderItems") == 1 + 1

    def test_a_cursor_of_another_kind_is_expired(self, box):
        with pytest.raises(CursorExpired):
            box.read("nonsense")

    def test_sent_mail_has_no_headers_and_its_envelope_comes_from_its_properties(self, box):
        raw = mail(
            "=?utf-8?q?kept?= as it is", In_Reply_To="<a@x.example>", References="<z@x.example> <a@x.example>"
        )
        box.mailbox.add(raw, "sentitems", sent=True)
        [found], _ = box.read()
        assert found.message_id == id_of(raw)
        assert found.references == ("<z@x.example>", "<a@x.example>")
        assert (found.in_reply_to, found.sender.address) == ("<a@x.example>", "supplier@supplier.example")
        assert [one.address for one in found.recipients] == ["alice@imap.example"]
        assert found.is_sent

    def test_chosen_folders_are_followed_by_their_paths_and_may_go_away(self, box):
        projects = box.mailbox.add_folder("Projects")
        inner = box.mailbox.add_folder("2026", parent=projects.id)
        box.mailbox.add(mail("Inside"), inner.id)
        found, cursor = box.read(folders=["Projects/2026"])
        assert [(e.subject, e.folder) for e in found] == [("Inside", "Projects/2026")]
        box.mailbox.add(mail("Next"), inner.id)
        found, cursor = box.read(cursor, folders=["Projects/2026"])
        assert [e.subject for e in found] == ["Next"]
        del box.mailbox.folders[inner.id]
        assert box.read(cursor, folders=["Projects/2026"])[0] == []
        with pytest.raises(InvalidRequest) as caught:
            box.check(folders=["Projects/2026"])
        assert caught.value.field == "folders[0]"

    def test_inbox_and_sent_are_followed_once_where_they_are_chosen_by_the_names_that_are_shown(self, box):
        with box.opened(EwsSearcher) as searcher:
            names = [one.name for one in searcher.folders() if one.role in {"inbox", "sent"}]
        box.check(folders=names)
        _, cursor = box.read(folders=names)
        box.mailbox.add(mail("Received"))
        box.mailbox.add(mail("Own", From=box.address), "sentitems", sent=True)
        box.mailbox.add(mail("Private"), "Private")
        with box.opened(folders=names) as receiver:
            pages = list(receiver.pages(cursor, SINCE))
        found = [(e.subject, e.folder, e.is_sent) for page in pages for e in page.envelopes]
        assert found == [("Own", "sentitems", True), ("Received", "inbox", False)]
        assert not any(page.missing for page in pages)
        with box.opened(EwsSearcher, folders=names) as searcher:
            assert len(searcher.search(Query()).mails) == 2

    def test_a_folder_that_is_called_as_exchange_calls_its_inbox_is_another_one(self, box):
        inbox = box.mailbox.place("inbox")
        inbox.name = "Posteingang"
        other = box.mailbox.add_folder("inbox").id
        for folders in ([], ["inbox"]):
            _, cursor = box.read(folders=folders)
            box.mailbox.add(mail("Received"), inbox.id)
            box.mailbox.add(mail("By a rule"), other)
            assert {e.subject for e in box.read(cursor, folders=folders)[0]} == {"Received", "By a rule"}

    def test_what_a_rule_moved_elsewhere_is_found_once_and_trash_and_drafts_never(self, box):
        _, cursor = box.read()
        trash = box.mailbox.folder("deleteditems")
        box.mailbox.add(mail("By a rule"), box.mailbox.add_folder("Suppliers").id)
        box.mailbox.add(mail("Deleted"), box.mailbox.add_folder("Old", parent=trash.id).id)
        box.mailbox.add(mail("Draft"), "drafts", draft=True)
        box.mailbox.add(mail("Draft elsewhere"), "Suppliers", draft=True)
        found, cursor = box.read(cursor)
        assert [(e.subject, e.folder) for e in found] == [("By a rule", "Suppliers")]
        assert box.read(cursor)[0] == []

    def test_where_folders_are_chosen_others_give_no_header_but_of_mail_that_quotes_an_id_like_ours(
        self, box
    ):
        box.mailbox.add_folder("Projects")
        other = box.mailbox.add_folder("Suppliers").id
        _, cursor = box.read(folders=["Projects"])
        private = [box.mailbox.add(mail("Private", References="<z@x.example>"), other) for _ in range(20)]
        for name, header in (("Whole", {}), ("Its id", {"In_Reply_To": OURS})):
            box.mailbox.add(mail(name, **header), "Projects")
        box.mailbox.add(mail("A reply", In_Reply_To=OURS), other)
        box.mailbox.add(mail("Later", References=f"<a@x.example> {OURS.upper()} <b@x.example>"), other)
        found, cursor = box.read(cursor, folders=["Projects"])
        assert [e.subject for e in found] == ["Whole", "Its id", "A reply", "Later"]
        assert not {*box.mailbox.headers_read} & {item.id for item in private}
        assert box.read(cursor, folders=["Projects"])[0] == []

    def test_folders_that_are_chosen_and_given_up_later_lose_no_mail(self, box):
        projects, suppliers = (box.mailbox.add_folder(name).id for name in ("Projects", "Suppliers"))
        _, cursor = box.read()
        box.mailbox.add(mail("To be chosen"), projects)
        box.mailbox.add(mail("A reply", In_Reply_To=OURS), suppliers)
        found, cursor = box.read(cursor, folders=["Projects"])
        assert [e.subject for e in found] == ["To be chosen", "A reply"]
        box.mailbox.add(mail("While it was chosen"), projects)
        box.mailbox.add(mail("In the other one"), suppliers)
        found, cursor = box.read(cursor)
        assert {"While it was chosen", "In the other one"} <= {e.subject for e in found}
        box.mailbox.add(mail("Later"), suppliers)
        assert [e.subject for e in box.read(cursor)[0]] == ["Later"]

    @pytest.mark.parametrize("others", ["search", "never"])
    def test_a_chosen_folder_is_read_whole_for_as_long_as_it_bears_another_name(self, box, others):
        projects, chosen = (
            box.mailbox.add_folder("Projects"),
            {"folders": ["Projects"], "otherFolders": others},
        )
        _, cursor = box.read(**chosen)
        projects.name = "Projects 2025"
        for subject in ("First", "Second"):
            box.mailbox.add(mail(subject), projects.id)
            found, cursor = box.read(cursor, **chosen)
            assert [e.subject for e in found] == [subject]
        box.mailbox.add(mail("Once it is chosen no more", In_Reply_To=OURS), projects.id)
        found, _ = box.read(cursor, folders=["Inbox"], otherFolders=others)
        assert len(found) == (others == "search")

    @pytest.mark.parametrize("others", ["search", "never"])
    def test_of_two_folders_with_the_path_that_is_chosen_both_are_read(self, box, others):
        chosen = {"folders": ["Projects/2026"], "otherFolders": others}
        inner = box.mailbox.add_folder("2026", parent=box.mailbox.add_folder("Projects").id)
        folders = {inner.id, box.mailbox.add_folder("Projects/2026").id}
        box.check(**chosen)
        for folder in folders:
            box.mailbox.add(mail("Before"), folder, at=SINCE + timedelta(minutes=1))
        found, cursor = box.read(**chosen)
        assert [e.subject for e in found] == ["Before"] * 2
        for folder in folders:
            box.mailbox.add(mail(folder), folder)
        found, cursor = box.read(cursor, **chosen)
        assert {e.subject for e in found} == folders
        assert len({e.folder for e in found}) == 2
        assert box.read(cursor, **chosen)[0] == []

    def test_a_look_that_ends_among_moved_mails_goes_on_where_it_ended(self, box):
        _, cursor = box.read()
        folder = box.mailbox.add_folder("Suppliers").id
        for number in range(250):
            box.mailbox.add(mail(str(number)), folder)
        with box.opened() as receiver:
            pages = receiver.pages(cursor, SINCE)
            first = next(pages)
            box.exchange.faults.errors["GetItem"] = ["ErrorMailboxStoreUnavailable"]
            with pytest.raises(Temporary):
                next(pages)
        found, cursor = box.read(first.cursor)
        assert [e.subject for e in (*first.envelopes, *found)] == [str(number) for number in range(250)]
        assert box.read(cursor)[0] == []

    def test_a_mail_that_is_moved_after_a_look_read_the_folders_is_found_by_the_next(self, box):
        quiet(box, "Suppliers")
        half_an_hour, hour = timedelta(minutes=30), timedelta(hours=1)
        cursor = looked(box.read()[1], hour)
        item = box.mailbox.add(mail("A reply"), at=datetime.now(UTC) - half_an_hour)
        box.mailbox.add(mail("Own"), "sentitems", sent=True)
        with box.opened() as receiver:
            pages = receiver.pages(cursor, SINCE)
            found = [*next(pages).envelopes]
            box.mailbox.move(item, "Suppliers")
            for page in pages:
                found += page.envelopes
        assert [e.subject for e in found] == ["Own"]
        found, cursor = box.read(page.cursor)
        assert [e.subject for e in found] == ["A reply"]
        assert box.read(cursor)[0] == []

    def test_a_mail_that_is_moved_among_other_folders_while_they_are_searched_is_found_by_the_next(
        self, box, monkeypatch
    ):
        first, second = quiet(box, "First"), quiet(box, "Second")
        cursor = looked(box.read()[1], timedelta(hours=1))
        item = box.mailbox.add(mail("A reply"), second, at=datetime.now(UTC) - timedelta(minutes=30))
        box.mailbox.touched[first] = datetime.now(UTC) - timedelta(days=3)
        listed = box.mailbox.listed

        def moved(folder):
            if item.folder == second and box.exchange.requests[-1][0] == "FindItem":
                box.mailbox.move(item, "First")
            return listed(folder)

        monkeypatch.setattr(box.mailbox, "listed", moved)
        found, cursor = box.read(cursor)
        assert (found, item.folder) == ([], first)
        assert [e.subject for e in box.read(cursor)[0]] == ["A reply"]

    def test_a_look_that_ended_among_moved_mails_is_gone_through_again_and_gives_out_nothing_twice(self, box):
        folder, minute = quiet(box, "Suppliers"), timedelta(minutes=1)
        cursor, now = looked(box.read()[1], 60 * minute), datetime.now(UTC)
        for number in range(250):
            box.mailbox.add(mail(str(number)), folder, at=now - 50 * minute + number * minute / 6)
        with box.opened() as receiver:
            first = next(receiver.pages(cursor, SINCE))
        box.mailbox.add(mail("Moved meanwhile"), quiet(box, "Others"), at=now - 55 * minute)
        found, cursor = box.read(first.cursor)
        found += box.read(cursor)[0]
        assert [e.subject for e in (*first.envelopes, *found)] == [
            *(str(number) for number in range(250)),
            "Moved meanwhile",
        ]

    def test_a_cursor_that_knows_the_last_look_alone_is_read(self, box):
        position = json.loads(looked(box.read()[1], timedelta(hours=1)))
        del position["sweep_from"]
        minutes = timedelta(minutes=30)
        box.mailbox.add(mail("A reply"), quiet(box, "Suppliers"), at=datetime.now(UTC) - minutes)
        assert [e.subject for e in box.read(json.dumps(position))[0]] == ["A reply"]

    def test_a_folder_out_of_an_imap_profile_is_a_mail_folder(self, box):
        folder = box.mailbox.add_folder("Suppliers").id
        box.mailbox.kinds[folder] = "IPF.Imap"
        box.check(folders=["Suppliers"])
        _, cursor = box.read()
        box.mailbox.add(mail("By a rule"), folder)
        assert [(e.subject, e.folder) for e in box.read(cursor)[0]] == [("By a rule", "Suppliers")]

    def test_a_folder_at_which_the_accounts_rights_end_stops_no_other_and_is_named_where_it_is_chosen(
        self, box
    ):
        projects, suppliers = (box.mailbox.add_folder(name).id for name in ("Projects", "Suppliers"))
        box.exchange.faults.closed = {projects}
        _, cursor = box.read()
        reply = mail("A reply", In_Reply_To=OURS)
        for folder in ("inbox", projects, suppliers):
            box.mailbox.add(reply, folder)
        for chosen, missing in (([], ()), (["Projects"], ("Projects",))):
            with box.opened(folders=chosen) as receiver:
                pages = list(receiver.pages(cursor, SINCE))
                found = [one.folder for page in pages for one in page.envelopes]
                assert found == ["inbox", "Suppliers"]
                assert tuple(name for page in pages for name in page.missing) == missing
                assert [one.folder for one in given(receiver.look([OURS]))] == ["inbox", "Suppliers"]
            with box.opened(EwsSearcher, folders=chosen) as searcher:
                assert [one.folder for one in searcher.search(Query()).mails] == ["inbox"]
        box.exchange.faults.closed.clear()
        assert [e.folder for e in box.read(pages[-1].cursor, folders=["Projects"])[0]] == ["Projects"]

    @pytest.mark.parametrize("chosen", [[], ["Suppliers"], ["Projects"]])
    def test_what_came_while_a_folder_could_not_be_opened_is_found_once_it_can(self, box, chosen):
        projects, suppliers = quiet(box, "Projects"), box.mailbox.add_folder("Suppliers").id
        cursor = looked(box.read(folders=chosen)[1], timedelta(hours=1))
        box.exchange.faults.closed = {projects}
        half_an_hour = datetime.now(UTC) - timedelta(minutes=30)
        items = [box.mailbox.add(mail(str(n), In_Reply_To=OURS), projects, at=half_an_hour) for n in range(3)]
        for _ in range(3):
            found, cursor = box.read(cursor, folders=chosen)
            assert found == []
        box.mailbox.touched[projects] = half_an_hour
        box.exchange.faults.closed.clear()
        box.mailbox.add(mail("Elsewhere", In_Reply_To=OURS), suppliers)
        found, cursor = box.read(cursor, folders=chosen)
        assert {e.subject for e in found} == {"0", "1", "2", "Elsewhere"}
        assert len(found) == len(items) + 1
        assert (box.read(cursor, folders=chosen)[0], Position.of(cursor).shut) == ([], {})

    def test_a_look_that_ends_among_the_mails_of_a_folder_that_opened_again_goes_on_where_it_ended(self, box):
        projects = quiet(box, "Projects")
        cursor = looked(box.read()[1], timedelta(hours=1))
        box.exchange.faults.closed = {projects}
        begin = datetime.now(UTC) - timedelta(minutes=30)
        for number in range(250):
            box.mailbox.add(mail(str(number)), projects, at=begin + number * timedelta(seconds=1))
        for _ in range(2):
            _, cursor = box.read(cursor)
        box.exchange.faults.closed.clear()
        with box.opened() as receiver:
            first = next(receiver.pages(cursor, SINCE))
        found, cursor = box.read(first.cursor)
        assert [e.subject for e in (*first.envelopes, *found)] == [str(number) for number in range(250)]
        assert (box.read(cursor)[0], Position.of(cursor).shut) == ([], {})

    def test_a_folder_that_stays_shut_costs_nothing_after_a_while_and_is_forgotten_with_its_deletion(
        self, box
    ):
        private = box.mailbox.add_folder("Private")
        box.mailbox.add(mail("Not ours to see"), private.id)
        box.exchange.faults.closed = {private.id}
        _, cursor = box.read()
        box.mailbox.touched[private.id] = datetime.now(UTC) - timedelta(days=3)
        with box.opened() as receiver:
            shut = [page.cursor for page in receiver.pages(cursor, SINCE)]
            with pytest.raises(Withheld) as caught:
                list(receiver.look([OURS]))
            assert (caught.value.message_ids, caught.value.mails) == ({OURS}, 1)
        later = json.loads(shut[-1])
        [(folder, (after, noticed))] = later["shut"].items()
        later["shut"] = {folder: (after, noticed - WAITED - 1)}
        with box.asked() as asked, box.opened() as receiver:
            assert [page.envelopes for page in receiver.pages(json.dumps(later), SINCE)] == [()]
        assert asked == ["FindFolder", "SyncFolderItems", "SyncFolderItems", 3]
        with box.opened() as receiver:
            pages = [*receiver.pages(json.dumps(later), SINCE)]
            assert [*receiver.look([OURS])] == []
        del box.mailbox.folders[private.id]
        assert Position.of(box.read(pages[-1].cursor)[1]).shut == {}

    def test_what_came_to_a_chosen_folder_that_could_not_be_opened_is_found_once_it_is_chosen_no_more(
        self, box
    ):
        projects = quiet(box, "Projects")
        cursor = looked(box.read(folders=["Projects"])[1], timedelta(hours=1))
        box.exchange.faults.closed = {projects}
        box.mailbox.add(mail("A reply"), projects, at=datetime.now(UTC) - timedelta(minutes=30))
        for _ in range(2):
            _, cursor = box.read(cursor, folders=["Projects"])
        _, cursor = box.read(cursor)
        box.exchange.faults.closed.clear()
        found, cursor = box.read(cursor)
        assert [e.subject for e in found] == ["A reply"]
        assert (box.read(cursor)[0], Position.of(cursor).shut) == ([], {})

    def test_many_folders_that_cannot_be_opened_leave_the_cursor_small(self, box):
        folders = [box.mailbox.add_folder(f"Project {number}").id for number in range(MOST_SHUT + 20)]
        box.mailbox.touched.update(dict.fromkeys(folders, datetime.now(UTC)))
        box.exchange.faults.closed = {*folders[:MOST_SHUT]}
        _, cursor = box.read()
        assert (len(Position.of(cursor).shut), len(cursor) < LONGEST // 8) == (MOST_SHUT, True)
        box.mailbox.add(mail("A reply"), folders[0])
        box.exchange.faults.closed = {*folders[20:]}
        found, cursor = box.read(cursor)
        assert [e.subject for e in found] == ["A reply"]
        assert len(Position.of(cursor).shut) <= MOST_SHUT

    @pytest.mark.parametrize("name", ["inbox", "sentitems"])
    def test_who_may_not_read_inbox_or_sent_needs_consent(self, box, name):
        cursor = box.read()[1]
        box.exchange.faults.closed = {box.mailbox.place(name).id}
        with pytest.raises(ConsentRequired):
            box.read(cursor)
        with box.opened() as receiver, pytest.raises(ConsentRequired):
            list(receiver.look([OURS]))

    @pytest.mark.parametrize("deleted", [True, False])
    def test_a_list_of_many_pages_misses_no_mail_as_others_are_deleted_or_all_are_of_one_second(
        self, box, monkeypatch, deleted
    ):
        folder, begin = quiet(box, "Suppliers"), datetime.now(UTC) - timedelta(minutes=55)
        cursor, box.mailbox.most_found = looked(box.read()[1], timedelta(hours=1)), 10
        apart = timedelta(seconds=deleted)
        items = [box.mailbox.add(mail(str(n)), folder, at=begin + n * apart) for n in range(35)]
        listed = box.mailbox.listed

        def gone(folder):
            if deleted and box.exchange.requests[-1][0] == "FindItem":
                box.mailbox.remove(items.pop())
            return listed(folder)

        monkeypatch.setattr(box.mailbox, "listed", gone)
        with box.asked() as asked:
            found = {e.subject for e in box.read(cursor)[0]}
        assert found >= {*map(str, range(len(items)))}
        assert 3 < asked.count("FindItem") < 6

    def test_search_combines_its_terms_and_keeps_to_the_second(self, box):
        now = datetime.now(UTC).replace(microsecond=0)
        for minutes, subject in ((1, "Offer screws"), (3, "Offer nuts"), (9, "Invoice screws")):
            box.mailbox.add(mail(subject), at=now - timedelta(minutes=minutes))
        with box.opened(EwsSearcher) as searcher:
            after = searcher.search(Query(subject="Offer", after=now - timedelta(minutes=2))).mails
            before = searcher.search(Query(text='"screws"', before=now - timedelta(minutes=2))).mails
            sender = searcher.search(Query(sender="supplier@supplier.example", has_attachment=False)).mails
            with pytest.raises(InvalidRequest):
                searcher.search(Query(text="two\nlines"))
        assert [e.subject for e in after] == ["Offer screws"]
        assert [e.subject for e in before] == ["Invoice screws"]
        assert len(sender) == 3


def quoting(subject, quotes):
    """A mail with so many quotes in its headers."""
    return b"X-Odd: " + b'"' * quotes + b"\r\n" + mail(subject)


class TestRefused:
    """A mail that Exchange lists and does not show, while it shows others."""

    CODES = ("ErrorInternalServerError", "ErrorCorruptData", "ErrorAccessDenied")

    @pytest.fixture
    def cursor(self, box):
        return box.read()[1]

    @pytest.fixture
    def refuse(self, box):
        def refuse(raw=OLD, code=self.CODES[0], folder="inbox"):
            item = box.mailbox.add(raw, folder)
            box.exchange.faults.bad_mails[item.id] = code
            return item

        return refuse

    @staticmethod
    def look(box, cursor):
        """One look: the subjects, how many are refused and given up, and the cursor."""
        with box.opened() as receiver:
            pages = list(receiver.pages(cursor, SINCE))
        found = [envelope.subject for page in pages for envelope in page.envelopes]
        return found, sum(p.refused for p in pages), sum(p.unreadable for p in pages), pages[-1].cursor

    @pytest.mark.parametrize("code", CODES)
    def test_one_stops_no_other_and_comes_once_it_is_shown(self, box, cursor, refuse, code):
        refuse(mail("Bad"), code)
        box.mailbox.add(mail("Good"))
        *told, cursor = self.look(box, cursor)
        assert told == [["Good"], 1, 0]
        *told, cursor = self.look(box, cursor)
        assert told == [[], 1, 0]
        box.exchange.faults.bad_mails.clear()
        *told, cursor = self.look(box, cursor)
        assert told == [["Bad"], 0, 0]
        assert self.look(box, cursor)[:2] == ([], 0)

    def test_it_is_asked_for_two_days_and_given_up_on_record(self, box, cursor, refuse):
        item = refuse()
        box.mailbox.add(mail("Good"))
        position = Position.of(self.look(box, cursor)[3])
        position.refused[item.moving_id] -= WAITED + 1
        *told, cursor = self.look(box, position.cursor)
        assert told == [[], 1, 0]
        position = Position.of(cursor)
        position.tried[item.moving_id] = ASKED
        *told, cursor = self.look(box, position.cursor)
        assert told == [[], 0, 1]
        assert Position.of(cursor).refused == Position.of(cursor).tried == {}

    def test_where_nothing_is_shown_it_is_no_single_mails_fault(self, box, cursor, refuse):
        refuse()
        box.exchange.faults.bad_mails = {one.id: self.CODES[0] for one in box.mailbox.listed()}
        with pytest.raises(Temporary, match="shows no mail"):
            self.look(box, cursor)

    def test_where_there_is_no_other_to_judge_by_what_is_new_is_read_and_nothing_given_up(
        self, box, cursor, refuse
    ):
        refuse(mail("Bad"))
        good = box.mailbox.add(mail("Good"))
        cursor = self.look(box, cursor)[3]
        tried = Position.of(cursor).tried
        box.exchange.faults.bad_mails[good.id] = self.CODES[0]
        *told, cursor = self.look(box, cursor)
        assert told == [[], 1, 0]
        assert Position.of(cursor).tried == tried
        box.mailbox.add(mail("New"))
        assert self.look(box, cursor)[:3] == (["New"], 1, 0)

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("ErrorServerBusy", RateLimited),
            ("ErrorMailboxStoreUnavailable", Temporary),
            ("ErrorAccountDisabled", ConsentRequired),
        ],
    )
    def test_what_is_about_the_server_or_the_account_ends_the_look(self, box, cursor, refuse, code, error):
        refuse(code=code)
        box.mailbox.add(mail("Good"))
        with pytest.raises(error):
            self.look(box, cursor)

    @pytest.mark.parametrize(("others", "page"), [(1, False), (1, True), (150, False)])
    def test_one_at_which_the_server_breaks_stops_no_other_and_is_asked_for_again(self, box, others, page):
        box.mailbox.add(mail("Before"))
        cursor = box.read()[1]
        bad = box.mailbox.add(mail("Bad"))
        for number in range(others):
            box.mailbox.add(mail(str(number)))
        box.exchange.faults.breaking.add(bad.moving_id)
        box.exchange.faults.breaking_page = page
        found, *told, cursor = self.look(box, cursor)
        assert (len(found), told) == (others, [1, 0])
        with box.asked() as asked:
            assert self.look(box, cursor)[:3] == ([], 1, 0)
        assert asked[-1] < 10
        box.exchange.faults.clear()
        assert self.look(box, cursor)[:3] == (["Bad"], 0, 0)

    def test_where_the_server_breaks_at_all_mails_it_is_not_asked_for_each(self, box, cursor):
        items = [box.mailbox.add(mail(str(number))) for number in range(50)]
        box.exchange.faults.breaking |= {item.moving_id for item in items}
        with box.asked() as asked, pytest.raises(Temporary):
            self.look(box, cursor)
        assert asked.count("GetItem") <= 3

    @pytest.mark.parametrize("sides", [("inbox",), ("inbox", "sentitems")])
    def test_one_at_which_the_server_breaks_stops_nothing_where_no_other_is_left_to_judge_by(
        self, box, cursor, sides
    ):
        bad = [box.mailbox.add(mail("Bad"), folder, sent=folder != "inbox") for folder in sides]
        for number in range(8):
            box.mailbox.add(mail(str(number)))
        box.exchange.faults.breaking |= {item.moving_id for item in bad}
        found, *told, _ = self.look(box, cursor)
        assert (len(found), told) == (8, [len(sides), 0])

    def test_mails_that_are_too_large_together_are_asked_for_apart(self, box, cursor):
        box.mailbox.add(mail("Good"))
        for subject in "ABCD":
            box.mailbox.add(quoting(subject, MOST_MARKS // 4))
        found, *told, cursor = self.look(box, cursor)
        assert (sorted(found), told) == (["A", "B", "C", "D", "Good"], [0, 0])
        assert self.look(box, cursor)[:3] == ([], 0, 0)

    def test_one_that_is_too_large_is_put_off_and_stops_no_other(self, box, cursor):
        box.mailbox.add(quoting("Large", MOST_MARKS + 1))
        box.mailbox.add(mail("Good"))
        *told, cursor = self.look(box, cursor)
        assert told == [["Good"], 1, 0]
        box.mailbox.add(mail("New"))
        assert self.look(box, cursor)[:3] == (["New"], 1, 0)

    def test_one_word_about_many_mails_is_about_all(self, box, cursor):
        for subject in ("One", "Two"):
            box.mailbox.add(mail(subject))
        box.exchange.faults.errors["GetItem"] = [self.CODES[0]] * 3  # for both, and for each
        with pytest.raises(Temporary):
            self.look(box, cursor)
        assert self.look(box, cursor)[0] == ["One", "Two"]

    def test_it_is_kept_over_a_lost_sync_state_and_found_where_it_was_moved(self, box, cursor, refuse):
        box.mailbox.add(mail("Good"))
        item = refuse(mail("Bad"))
        cursor = self.look(box, cursor)[3]
        box.mailbox.lose_sync_states()
        with box.opened() as receiver, pytest.raises(CursorExpired) as caught:
            list(receiver.pages(cursor, SINCE))
        cursor = self.look(box, caught.value.resume)[3]
        assert [*Position.of(cursor).refused] == [item.moving_id]
        box.mailbox.folder("Projects")
        box.mailbox.move(item, "Projects")
        box.exchange.faults.bad_mails.clear()
        position = Position.of(cursor)
        position.sweep_from += timedelta(days=1)  # so old that no other sweep finds it
        assert self.look(box, position.cursor)[:2] == (["Bad"], 0)

    @pytest.mark.parametrize("before", [[], ["Private"]])
    def test_once_other_folders_are_chosen_one_in_a_private_folder_is_asked_for_no_more(
        self, box, cursor, refuse, before
    ):
        for name in ("Projects", "Private"):
            box.mailbox.add_folder(name)
        box.mailbox.add(mail("Good"))
        _, cursor = box.read(cursor, folders=before)
        private = refuse(mail("Private words"), folder="Private")
        replies = [refuse(mail("A reply", In_Reply_To=OURS), folder="Private") for _ in range(2)]
        chosen = refuse(mail("To be read"), folder="inbox" if before else "Projects")
        _, cursor = box.read(cursor, folders=before)
        box.exchange.faults.bad_mails = {replies[1].id: self.CODES[0]}
        box.mailbox.headers_read.clear()
        found, cursor = box.read(cursor, folders=["Projects"])
        assert {e.subject for e in found} == {"To be read", "A reply"}
        assert not box.mailbox.headers_read[private.id]
        assert box.mailbox.headers_read[chosen.id]
        for tries in (2, 3):  # what quotes an id of ours is asked for as often as any
            _, cursor = box.read(cursor, folders=["Projects"])
            assert Position.of(cursor).tried == {replies[1].moving_id: tries}

    def test_one_that_quotes_an_id_of_ours_is_asked_for_no_more_once_no_other_folder_is_looked_into(
        self, box, cursor, refuse
    ):
        for name in ("Projects", "Private"):
            box.mailbox.add_folder(name)
        box.mailbox.add(mail("Good"))
        _, cursor = box.read(cursor, folders=["Projects"])
        reply = refuse(mail("A reply", In_Reply_To=OURS), folder="Private")
        _, cursor = box.read(cursor, folders=["Projects"])
        assert (Position.of(cursor).refused.keys(), Position.of(cursor).places) == ({reply.moving_id}, {})
        box.exchange.faults.bad_mails.clear()
        box.mailbox.headers_read.clear()
        found, cursor = box.read(cursor, folders=["Projects"], otherFolders="never")
        assert (found, box.mailbox.headers_read[reply.id], Position.of(cursor).refused) == ([], 0, {})

    def test_one_in_sent_hides_no_copy(self, box, refuse):
        copy = mail("Copy", From=box.address, References="<planned@x>")
        item = box.mailbox.add(copy, "sentitems", sent=True)
        refuse(mail("Bad"), "ErrorCorruptData", "sentitems")
        with box.opened() as sent:
            assert sent.find_sent("<planned@x>").ref == item.moving_id
            with pytest.raises(Temporary, match="does not show"):
                sent.find_sent("<other@x>")

    def test_late_evidence_and_search_go_on_without_it_and_a_refused_body_is_no_missing_consent(
        self, box, refuse
    ):
        first, answer = mail("First"), mail("Bad", In_Reply_To="<1@x>")
        box.mailbox.add(first)
        ids = [id_of(first), "<1@x>"]
        item = refuse(answer, "ErrorAccessDenied")
        with box.opened() as receiver, box.opened(EwsSearcher) as searcher:
            found = receiver.look(ids)
            assert next(found).subject == "First"
            with pytest.raises(Withheld) as caught:
                next(found)
            assert (caught.value.message_ids, caught.value.mails) == ({*ids}, 1)
            assert [one.subject for one in searcher.search(Query()).mails] == ["First"]
            pages = [searcher.search(Query(offset=offset, limit=1)) for offset in (0, 1)]
            assert sorted(len(hits.mails) for hits in pages) == [0, 1]
            assert [hits.more for hits in pages] == [True, False]
            for ask in (receiver.fetch, receiver.returned_headers):
                with pytest.raises(Temporary, match="does not show this mail"):
                    ask(item.moving_id)

    def test_too_many_at_once_are_not_passed_over_and_the_cursor_stays_small(
        self, box, cursor, refuse, monkeypatch
    ):
        box.mailbox.add(mail("Good"))
        for _ in range(3):
            refuse()
        monkeypatch.setattr(Position, "most_refused", 3)
        cursor = self.look(box, cursor)[3]
        assert 10 * len(cursor) < 30_000  # thirty
        refuse()
        with pytest.raises(Temporary):
            self.look(box, cursor)


class TestSending:
    def test_hidden_recipients_get_it_and_nobody_sees_them(self, box, server):
        shown, hidden = server.account("shown"), server.account("hidden")
        raw = mail(From=box.address, To=shown.address)
        box.send(raw, (shown.address, hidden.address))
        for account in (shown, hidden):
            [(arrived, _)] = account.read("INBOX")
            assert id_of(arrived) == id_of(raw)
            assert b"hidden" not in arrived.partition(b"From: ")[2]

    @pytest.mark.parametrize("rewriting", [False, True])
    def test_the_copy_is_found_although_exchange_may_rename_it(self, box, server, rewriting):
        box.exchange.faults.rewrite_message_id = rewriting
        ours = "<ours@exchange.example>"
        raw = mail(From=box.address, To=server.account().address, Message_ID=ours, References=ours)
        with box.opened() as receiver:
            assert receiver.find_sent(ours) is None
            box.send(raw, (server.account().address,))
            found = receiver.find_sent(ours)
            assert receiver.fetch(found.ref).partition(b"\r\n\r\n")[2] == raw.partition(b"\r\n\r\n")[2]
        assert (found.message_id == ours) is not rewriting

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("ErrorServerBusy", RateLimited),
            ("ErrorSubmissionQuotaExceeded", RateLimited),
            ("ErrorMailboxMoveInProgress", Temporary),
            ("ErrorSendAsDenied", Rejected),
            ("ErrorMessageSizeExceeded", Rejected),
            ("ErrorQuotaExceeded", Rejected),
            ("ErrorInternalServerError", OutcomeUnknown),
            ("ErrorInternalServerTransientError", OutcomeUnknown),
            ("ErrorTimeoutExpired", OutcomeUnknown),
        ],
    )
    def test_what_exchange_refuses_is_certain_unless_it_broke_itself(self, box, code, error):
        box.exchange.faults.errors["CreateItem"] = [code]
        commits = []
        with box.asked() as asked, pytest.raises(error):
            box.send(commit=lambda: commits.append(1))
        assert commits == [1]
        assert asked == ["GetFolder", "CreateItem", 2]

    def test_who_may_read_and_not_write_is_told_so_and_the_mailbox_needs_no_consent(self, box):
        box.exchange.faults.errors["CreateItem"] = ["ErrorAccessDenied"] * 2
        with pytest.raises(Rejected, match="Sent Items"):
            box.send()
        with box.opened() as receiver, pytest.raises(Rejected, match="Sent Items"):
            receiver.keep_sent(mail(From=box.address), datetime.now(UTC))

    def test_sending_as_somebody_else_is_rejected(self, box):
        other = Box(box.exchange, "other")
        with pytest.raises(Rejected, match="send as"):
            box.send(mail(From=other.address))

    def test_a_connection_that_ended_meanwhile_is_noticed_before_commit(self, box, server):
        with box.opened(EwsSender) as sender:
            sender.check()
            box.exchange.faults.half_closed = 1
            commits = []
            with pytest.raises(Temporary):
                sender.send(
                    mail(From=box.address), box.address, ["x@imap.example"], lambda: commits.append(1)
                )
        assert commits == []


class TestContainment:
    def test_the_librarys_process_wide_settings_stay_as_they_are(self, box):
        from exchangelib.protocol import BaseProtocol, CachingProtocol
        from requests.adapters import HTTPAdapter

        box.check()
        assert BaseProtocol.TIMEOUT == 120
        assert BaseProtocol.HTTP_ADAPTER_CLS is HTTPAdapter
        assert "Zalion" not in str(BaseProtocol.USERAGENT)
        assert not CachingProtocol._protocol_cache

    def test_nothing_of_a_mail_or_a_password_is_logged_whatever_breaks(self, box, caplog):
        box.exchange.faults.errors["CreateItem"] = ["ErrorInternalServerError"]
        with caplog.at_level("DEBUG"):
            for options in ({"auth": "ntlm"}, {"port": 1}):
                with pytest.raises((Temporary, OutcomeUnknown)), box.opened(EwsSender, **options) as sender:
                    sender.send(
                        mail("Secret words", "Secret words"), box.address, ["x@imap.example"], lambda: None
                    )
        assert "Secret words" not in caplog.text
        assert PASSWORD not in caplog.text


@pytest.mark.fast
def test_the_provider_is_described_without_loading_its_library():
    code = (
        "import sys; from shared.providers.registry import provider; provider('ews');"
        "sys.exit('exchangelib' in sys.modules or 'lxml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
