"""What only Gmail does: history and its end, sweeps within a quota, threads, uploads, and its refusals."""

import base64
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from sandbox.bounces import delivery_report
from sandbox.google import batch
from shared import mime
from shared.errors import (
    ConsentRequired,
    CursorExpired,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Withheld,
)
from shared.late_looks import AT_ONCE
from shared.providers import googling
from shared.providers.base import Bearer, Password, Query, given
from shared.providers.google import answers, client, listing, reading, reports, spending
from shared.providers.google import position as positions
from shared.providers.google.position import Position
from shared.providers.google.refusals import refusal
from shared.providers.google.searching import _words
from shared.providers.google.sending import LARGEST, SMALL, _addressed
from shared.providers.http import Answer
from shared.providers.positions import ASKED, WAITED
from shared.providers.transport import NotSent
from tests.contracts.stages import Google
from tests.providers.parts import SINCE, id_of, mail, read

CORPUS = Path(__file__).parents[1] / "eml"


@pytest.fixture
def stage(server):
    return Google(server)


@pytest.fixture
def receiver(stage):
    receiver = stage.receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def sender(stage):
    sender = stage.sender()
    yield sender
    sender.close()


def iter_pages(pages):
    for page in pages:
        yield from ((envelope, page.cursor) for envelope in page.envelopes)


def subjects(found):
    return [envelope.subject for envelope in found]


def asked(stage, method):
    return [one for one in stage.system.requests if one.user == stage.address and one.method == method]


def send(stage, sender, raw, commits=None):
    commits = [] if commits is None else commits
    return sender.send(raw, stage.address, [stage.recipient], lambda: commits.append(1))


class TestHistory:
    def test_a_mail_taken_out_of_spam_is_read_and_drafts_and_spam_are_not(self, stage, receiver):
        _, cursor = read(receiver)
        spam = stage.box.add(mail("Rescued"), "junk")
        stage.box.add(mail("Draft"), "drafts")
        found, cursor = read(receiver, cursor)
        assert found == []
        stage.box.move(spam, "inbox")
        assert subjects(read(receiver, cursor)[0]) == ["Rescued"]

    def test_what_a_filter_archived_is_read_too(self, stage, receiver):
        _, cursor = read(receiver)
        stage.box.add(mail("Archived"), "archive")
        assert subjects(read(receiver, cursor)[0]) == ["Archived"]

    def test_reading_a_mail_in_gmail_costs_no_look_at_it(self, stage, receiver):
        stage.put(mail("Seen"))
        _, cursor = read(receiver)
        stage.box.label(stage.box.listed()[0], remove=["UNREAD"])
        before = len(asked(stage, "messages.get"))
        assert read(receiver, cursor)[0] == []
        assert len(asked(stage, "messages.get")) == before

    def test_a_deleted_mail_is_passed_over(self, stage, receiver):
        _, cursor = read(receiver)
        gone, kept = mail("Gone"), mail("Kept")
        stage.put(gone)
        stage.put(kept)
        stage.remove(gone)
        assert subjects(read(receiver, cursor)[0]) == ["Kept"]

    def test_many_are_read_in_pages_each_with_a_cursor_that_is_true(self, stage, receiver):
        _, cursor = read(receiver)
        for number in range(60):
            stage.put(mail(str(number)))
        pages = list(receiver.pages(cursor, SINCE))
        assert [len(page.envelopes) for page in pages if page.envelopes] == [25, 25, 10]
        rest, _ = read(receiver, pages[0].cursor)
        assert subjects(rest) == [str(number) for number in range(25, 60)]

    def test_records_of_one_number_are_not_torn_apart_by_the_end_of_a_list(
        self, stage, receiver, monkeypatch
    ):
        _, cursor = read(receiver)
        stage.put(mail("Before"))
        with stage.box.together():
            for number in range(4):
                stage.put(mail(str(number)))
        stage.put(mail("After"))
        monkeypatch.setattr(reading, "MOST", 3)
        whole = ["Before", "0", "1", "2", "3", "After"]
        assert subjects(read(receiver, cursor)[0]) == whole
        for count in (1, 2):  # the look breaks off after so many pages
            pages = [page for page, _ in zip(receiver.pages(cursor, SINCE), range(count), strict=False)]
            first = [one.subject for page in pages for one in page.envelopes]
            assert first + subjects(read(receiver, pages[-1].cursor)[0]) == whole

    @staticmethod
    def rescued_together(stage, count):
        """Have one action of the user take so many mails out of spam; returns them, and a cursor before it."""
        items = [stage.box.add(mail(str(number)), "junk") for number in range(count)]
        cursor = Position(str(stage.box.history_id)).cursor
        with stage.box.together():
            for item in items:
                stage.box.move(item, "inbox")
        return items, cursor

    def test_one_action_with_more_mails_than_a_minutes_quota_allows_is_read_in_a_few_looks(self, stage):
        _, cursor = self.rescued_together(stage, 400)
        assert stage.system.gmail.quota.per_minute < 400 * 20
        found, cursor, looks = looked(stage, SINCE, cursor)
        assert found == [str(number) for number in range(400)]
        assert looks == 3
        assert len(cursor) < 500

    def test_one_action_with_many_mails_is_gone_on_with_wherever_it_broke_off(self, stage, receiver):
        items, cursor = self.rescued_together(stage, 60)
        stage.put(mail("After"))
        pages = list(receiver.pages(cursor, SINCE))
        assert [len(page.envelopes) for page in pages if page.envelopes] == [25, 25, 11]
        stage.box.remove(items[3])
        stage.box.changes = [
            one for one in stage.box.changes if one.item != items[3].id
        ]  # a count is no place
        rest, _ = read(receiver, pages[0].cursor)
        assert subjects(rest) == [*(str(number) for number in range(25, 60)), "After"]

    def test_what_came_before_one_action_with_many_mails_is_read_once(self, stage, receiver):
        _, cursor = read(receiver)
        stage.put(mail("Before"))
        with stage.box.together():
            for number in range(30):
                stage.put(mail(str(number)))
        first = next(page for page in receiver.pages(cursor, SINCE) if page.envelopes)
        rest, _ = read(receiver, first.cursor)
        whole = ["Before", *(str(number) for number in range(30))]
        assert subjects(first.envelopes) + subjects(rest) == whole

    def test_a_history_that_names_a_record_and_does_not_show_it_loses_nothing(self, stage, receiver):
        _, cursor = read(receiver)
        stage.put(mail("New"))
        stage.system.faults.late_history = 1
        found, cursor = read(receiver, cursor)
        assert found == []
        assert subjects(read(receiver, cursor)[0]) == ["New"]

    def test_after_a_lost_history_nothing_from_before_the_connection_is_read(self, stage, receiver):
        _, cursor = read(receiver)
        stage.put(mail("Private"), at=SINCE - timedelta(minutes=1))
        stage.put(mail("New"))
        stage.box.forget_history()
        with pytest.raises(CursorExpired) as caught:
            read(receiver, cursor)
        assert subjects(read(receiver, caught.value.resume)[0]) == ["New"]

    @pytest.mark.parametrize("place", ["archive", "junk"])
    def test_a_mail_from_before_the_connection_that_is_moved_to_the_inbox_is_not_read(
        self, stage, receiver, place
    ):
        old = stage.box.add(mail("Private"), place, at=SINCE - timedelta(minutes=1))
        new = stage.box.add(mail("Rescued"), place, at=SINCE + timedelta(minutes=1))
        cursor = Position(str(stage.box.history_id)).cursor
        stage.system.faults.bad_mails.add(old.id)
        for item in (old, new):
            stage.box.move(item, "inbox")
        found, cursor = read(receiver, cursor)
        assert subjects(found) == ["Rescued"]
        stage.system.faults.bad_mails.clear()
        assert read(receiver, cursor)[0] == []

    def test_headers_are_all_that_is_asked_for(self, stage, receiver):
        _, cursor = read(receiver)
        stage.put(mail("Private"))
        read(receiver, cursor)
        [got] = asked(stage, "messages.get")
        assert got.format == "metadata"
        assert "snippet" not in dict(got.query)["fields"]
        assert not stage.box.bodies_read

    def test_of_a_report_no_text_is_read(self, stage, receiver):
        returned = mail("Private", "Private words")
        stage.put(delivery_report(stage.address, "nobody@supplier.example", returned))
        [found], _ = read(receiver)
        assert id_of(returned).encode() in receiver.returned_headers(found.ref)
        assert not stage.box.bodies_read
        assert len(asked(stage, "messages.get")) == 2

    @pytest.mark.parametrize("named", [b"", b'Content-Disposition: attachment; filename="details.txt"\r\n'])
    def test_a_report_that_returns_headers_alone_is_understood(self, stage, receiver, named):
        raw = (CORPUS / "dsn-gmail.eml").read_bytes()
        kind = b"Content-Type: text/rfc822-headers\r\n"
        assert kind in raw
        stage.put(raw.replace(kind, kind + named))
        [found], _ = read(receiver)
        assert mime.reported_ids(receiver.returned_headers(found.ref)) == mime.reported_ids(
            mime.returned_headers(raw)
        )
        assert stage.box.bodies_read.total() == 1

    def test_a_mail_without_parts_is_no_report_and_not_read(self, stage, receiver):
        stage.put((CORPUS / "dsn-qmail.eml").read_bytes())
        [found], _ = read(receiver)
        with pytest.raises(NotFound):
            receiver.returned_headers(found.ref)
        assert not stage.box.bodies_read

    def test_a_cursor_of_another_kind_is_told(self, receiver):
        with pytest.raises(CursorExpired):
            read(receiver, "INBOX:7")

    def test_a_record_that_gmail_names_but_does_not_show_yet_is_not_passed_over(self, stage, receiver):
        _, cursor = read(receiver)
        position = Position.of(cursor)
        at = position.history
        position.caught_up(str(int(at) + 99), 1000)
        assert position.history == at
        position.caught_up(str(int(at) + 99), 1000 + positions.LATE + 1)
        assert position.history == str(int(at) + 99)


class TestLostHistory:
    """What happened meanwhile is found by the numbers of threads and mails."""

    @staticmethod
    def resumed(receiver, cursor, since=SINCE):
        with pytest.raises(CursorExpired) as caught:
            read(receiver, cursor, since)
        return caught.value.resume

    @pytest.mark.parametrize("place", ["junk", "trash"])
    def test_a_mail_of_long_ago_that_was_taken_out_of_spam_or_trash_meanwhile_is_read_once(
        self, stage, receiver, place
    ):
        since = datetime.now(UTC) - timedelta(days=30)
        answered, answer = mail("Old"), mail("Rescued")
        first = stage.box.add(answered, at=since + timedelta(days=1))
        item = stage.box.add(answer, place, at=since + timedelta(days=2), thread=first.thread)
        cursor = Position(str(stage.box.history_id)).cursor
        stage.box.move(item, "inbox")
        stage.put(mail("New"))
        stage.box.forget_history()
        found, cursor = read(receiver, self.resumed(receiver, cursor, since), since)
        assert subjects(found) == ["Rescued", "New"]
        assert read(receiver, cursor, since)[0] == []

    def test_numbers_are_compared_as_such(self, stage, receiver):
        stage.box.history_id = stage.box.oldest_history = 999_900
        item = stage.box.add(mail("Rescued"), "junk")
        stage.put(mail("Known"))
        cursor = Position(str(stage.box.history_id)).cursor
        while stage.box.history_id < 1_000_000:
            stage.box.add(mail("Draft"), "drafts")
        stage.box.move(item, "inbox")
        stage.box.forget_history()
        assert len(Position.of(cursor).history) < len(str(stage.box.history_id))
        assert subjects(read(receiver, self.resumed(receiver, cursor))[0]) == ["Rescued"]

    def test_what_stayed_as_it_was_costs_a_few_lists_and_no_header_is_read(
        self, stage, receiver, monkeypatch
    ):
        monkeypatch.setattr(listing, "MOST", 100)
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
        since = at - timedelta(days=1)
        item = stage.box.add(mail("Rescued"), "junk", at=at)
        for number in range(1_000):
            stage.box.add(mail(str(number)), at=at + timedelta(minutes=20 * number), thread="new")
        cursor = Position(str(stage.box.history_id)).cursor
        stage.box.move(item, "inbox")
        stage.box.forget_history()
        before = len(stage.system.requests)
        pages = list(receiver.pages(self.resumed(receiver, cursor, since), since))
        assert [one.subject for page in pages for one in page.envelopes] == ["Rescued"]
        assert max(len(page.cursor) for page in pages) < 1_000
        calls = Counter(one.method for one in stage.system.requests[before:] if one.user == stage.address)
        windows = calls["threads.list"]
        assert windows <= 2 * 1_000 // 100 + 5
        assert calls["messages.list"] <= 6 * windows
        assert calls["messages.get"] == 1
        assert {*calls} == {"history.list", "getProfile", "messages.list", "threads.list", "messages.get"}
        lists = asked(stage, "threads.list")
        assert {dict(one.query)["fields"] for one in lists} == {"nextPageToken,threads(id,historyId)"}

    def test_a_look_that_rests_in_the_middle_loses_and_doubles_nothing(self, stage, monkeypatch):
        monkeypatch.setattr(spending, "SHARE", 600)
        monkeypatch.setattr(listing, "MOST", 30)
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
        kept = [
            stage.box.add(mail(f"known {n}"), at=at + timedelta(hours=n), thread="new") for n in range(90)
        ]
        spam = [stage.box.add(mail(str(n)), "junk", at=at + timedelta(hours=n)) for n in range(90)]
        cursor = Position(str(stage.box.history_id)).cursor
        for item in spam:
            stage.box.move(item, "inbox")
        stage.box.label(kept[7], remove=["UNREAD"])
        stage.box.forget_history()
        receiver = stage.receiver()
        resume = self.resumed(receiver, cursor, at)
        receiver.close()
        found, cursor, looks = looked(stage, at, resume)
        assert sorted(found) == sorted([*map(str, range(90)), "known 7"])
        assert looks > 3
        assert Position.of(cursor).lost == ""

    def test_a_limit_of_gmails_in_the_middle_costs_nothing_but_time(self, stage, receiver, monkeypatch):
        monkeypatch.setattr(stage.system.gmail.quota, "per_minute", 1_200)
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
        spam = [stage.box.add(mail(str(n)), "junk", at=at + timedelta(hours=n)) for n in range(70)]
        cursor = Position(str(stage.box.history_id)).cursor
        for item in spam:
            stage.box.move(item, "inbox")
        stage.box.forget_history()
        got, cursor = [], self.resumed(receiver, cursor, at)
        with pytest.raises(RateLimited):
            got.extend(iter_pages(receiver.pages(cursor, at)))
        assert 0 < len(got) < 70
        stage.system.skip(61)
        monkeypatch.setattr(stage.system.gmail.quota, "per_minute", 6_000)
        rest, _ = read(receiver, got[-1][1], at)
        assert [one.subject for one, _ in got] + subjects(rest) == [str(n) for n in range(70)]

    def test_one_that_is_refused_keeps_none_of_the_others_and_comes_later(self, stage, receiver):
        items = [stage.box.add(mail(str(number)), "junk") for number in range(3)]
        cursor = Position(str(stage.box.history_id)).cursor
        for item in items:
            stage.box.move(item, "inbox")
        stage.box.forget_history()
        stage.system.faults.bad_mails.add(items[1].id)
        found, cursor = read(receiver, self.resumed(receiver, cursor))
        assert subjects(found) == ["0", "2"]
        stage.system.faults.bad_mails.clear()
        assert subjects(read(receiver, cursor)[0]) == ["1"]

    def test_one_that_is_lost_again_during_the_sweep_loses_and_doubles_nothing(
        self, stage, receiver, monkeypatch
    ):
        monkeypatch.setattr(listing, "MOST", 10)
        at = SINCE + timedelta(minutes=1)
        items = [stage.box.add(mail(str(n)), "junk", at=at + timedelta(minutes=n)) for n in range(30)]
        cursor = Position(str(stage.box.history_id)).cursor
        for item in items[1:]:
            stage.box.move(item, "inbox")
        stage.box.forget_history()
        first = [*islice(receiver.pages(self.resumed(receiver, cursor), SINCE), 4)]
        assert 5 < sum(len(page.envelopes) for page in first) < 25
        stage.box.move(items[0], "inbox")  # its place was passed
        stage.box.forget_history()
        *rest, cursor = self.until_lost(receiver, first[-1].cursor)
        found = [one.subject for page in (*first, *rest) for one in page.envelopes]
        assert found == [str(number) for number in range(1, 30)]
        assert subjects(read(receiver, cursor)[0]) == ["0"]

    @staticmethod
    def until_lost(receiver, cursor):
        """Yield the pages, and where to go on."""
        try:
            yield from receiver.pages(cursor, SINCE)
        except CursorExpired as expired:
            yield expired.resume

    def test_what_the_search_did_not_know_yet_at_the_first_sweep_is_read(self, stage, receiver):
        stage.put(mail("Late"))
        stage.system.faults.late_search = 1
        found, cursor = read(receiver)
        assert found == []
        stage.box.forget_history()
        assert subjects(read(receiver, self.resumed(receiver, cursor))[0]) == ["Late"]

    def test_a_first_sweep_that_was_not_ended_goes_on_where_it_was(self, stage, receiver):
        for number in range(30):
            stage.put(mail(str(number)))
        first = next(receiver.pages(None, SINCE))
        stage.box.forget_history()
        *rest, cursor = self.until_lost(receiver, first.cursor)
        found = [one.subject for page in (first, *rest) for one in page.envelopes]
        assert found == [str(number) for number in range(30)]
        assert cursor


class TestRefusedMails:
    @pytest.fixture(params=[500, 400, 403])
    def bad(self, stage, receiver, request):
        """A mail among three that Gmail does not give; the cursor stands before them."""
        cursor = read(receiver)[1]
        stage.put(mail("First"))
        item = stage.box.add(mail("Bad"))
        stage.put(mail("Last"))
        stage.system.faults.bad_status = request.param
        stage.system.faults.bad_mails.add(item.id)
        return item, cursor

    def test_one_stops_no_other_and_comes_once_it_can_be_had(self, stage, receiver, bad):
        _, cursor = bad
        pages = list(receiver.pages(cursor, SINCE))
        assert [one.subject for page in pages for one in page.envelopes] == ["First", "Last"]
        assert sum(page.refused for page in pages) == 1
        cursor = pages[-1].cursor
        stage.put(mail("New"))
        found, cursor = read(receiver, cursor)
        assert subjects(found) == ["New"]
        stage.system.faults.bad_mails.clear()
        found, cursor = read(receiver, cursor)
        assert subjects(found) == ["Bad"]
        assert read(receiver, cursor)[0] == []

    def test_it_is_asked_for_two_days_and_each_time_is_told(self, stage, receiver, bad):
        item, cursor = bad
        position = Position.of(read(receiver, cursor)[1])
        assert [*position.refused] == [item.id]
        assert sum(page.refused for page in receiver.pages(position.cursor, SINCE)) == 1
        position.refused[item.id] -= WAITED + 1
        position.tried[item.id] = ASKED
        [page, *_] = receiver.pages(position.cursor, SINCE)
        assert (page.refused, page.unreadable) == (0, 1)
        assert Position.of(page.cursor).refused == Position.of(page.cursor).tried == {}

    def test_it_is_not_given_up_because_the_mailbox_was_paused(self, stage, receiver, bad):
        item, cursor = bad
        position = Position.of(read(receiver, cursor)[1])
        position.refused[item.id] -= WAITED + 1
        [page, *_] = receiver.pages(position.cursor, SINCE)
        assert (page.refused, page.unreadable) == (1, 0)
        assert [*Position.of(page.cursor).refused] == [item.id]

    def test_a_sweep_and_a_lost_history_keep_it(self, stage, receiver, bad):
        item, _ = bad
        found, cursor = read(receiver)
        assert {"First", "Last"} <= set(subjects(found))
        stage.box.forget_history()
        with pytest.raises(CursorExpired) as caught:
            read(receiver, cursor)
        assert [*Position.of(caught.value.resume).refused] == [item.id]

    def test_late_evidence_and_search_go_on_without_it(self, stage, receiver, bad):
        first = stage.box.listed()[0]
        found = receiver.look([first.message_id, "<unknown@x>"])
        assert next(found).subject == "First"
        with pytest.raises(Withheld) as caught:
            next(found)
        assert (caught.value.message_ids, caught.value.mails) == ({first.message_id}, 1)
        assert subjects(given(receiver.look([first.message_id]))) == ["First"]
        searcher = stage.searcher()
        assert "Bad" not in subjects(searcher.search(Query(text="")).mails)
        searcher.close()

    def test_one_in_sent_ends_no_consent_and_hides_no_copy(self, stage, receiver, bad):
        copies = [mail("Copy", From=stage.address) for _ in range(2)]
        items = [stage.box.add(copy, "sent") for copy in copies]
        renamed = mail("Copy", From=stage.address, References="<planned@x>")
        item = stage.box.add(renamed, "sent")
        stage.system.faults.bad_mails.add(items[1].id)
        assert receiver.find_sent(id_of(copies[0])).ref == items[0].id
        assert receiver.find_sent("<planned@x>").ref == item.id
        for unknown in (id_of(copies[1]), "<other@x>"):
            with pytest.raises(Temporary, match="does not show"):
                receiver.find_sent(unknown)

    def test_an_outage_is_no_single_mails_fault(self, stage, receiver, bad):
        cursor = read(receiver, bad[1])[1]
        stage.system.faults.bad_mails.clear()
        stage.system.faults.storm = 3  # in a batch, alone, and the profile
        with pytest.raises(Temporary):
            read(receiver, cursor)
        assert stage.system.faults.storm == 0
        assert subjects(read(receiver, cursor)[0]) == ["Bad"]

    @pytest.mark.parametrize("status", [500, 403])
    def test_too_many_at_once_are_not_passed_over_and_end_no_consent(
        self, stage, receiver, monkeypatch, status
    ):
        monkeypatch.setattr(Position, "most_refused", 2)
        stage.system.faults.bad_status = status
        cursor = read(receiver)[1]
        stage.system.faults.bad_mails |= {stage.box.add(mail(str(number))).id for number in range(3)}
        with pytest.raises(Temporary):
            read(receiver, cursor)

    def test_what_is_refused_keeps_no_look_from_its_end_whatever_it_costs(
        self, stage, receiver, bad, monkeypatch
    ):
        monkeypatch.setattr(spending, "SHARE", 300)
        stage.system.faults.bad_mails |= {stage.box.add(mail(str(number))).id for number in range(8)}
        cursor = read(receiver, bad[1])[1]
        receiver = stage.receiver()
        *pages, last = receiver.pages(cursor, SINCE)
        receiver.close()
        assert receiver.spending.rest()
        assert sum(page.refused for page in pages) == 9
        assert {page.rest for page in (*pages, last)} == {0}
        assert last.cursor == pages[-1].cursor

    def test_of_many_a_look_asks_for_some_and_the_next_one_for_others(self, stage, receiver, monkeypatch):
        monkeypatch.setattr(reading, "AGAIN", 3)
        cursor = read(receiver)[1]
        items = [stage.box.add(mail(str(number))).id for number in range(8)]
        stage.system.faults.bad_mails |= {*items}
        cursor = read(receiver, cursor)[1]
        for _ in range(3):
            pages = list(receiver.pages(cursor, SINCE))
            assert sum(page.refused for page in pages) == 8
            cursor = pages[-1].cursor
        assert sorted(Position.of(cursor).tried.values()) == [2] * 7 + [3]
        stage.system.faults.bad_mails.clear()
        assert sorted(subjects(read(receiver, cursor)[0])) == [str(number) for number in range(8)]


class TestSweep:
    def test_what_the_search_did_not_know_yet_is_found_by_sweeping_again(self, stage, receiver, monkeypatch):
        stage.put(mail("Late"))
        stage.system.faults.late_search = 1
        found, cursor = read(receiver)
        assert found == []
        assert read(receiver, cursor)[0] == []
        monkeypatch.setattr(reading, "LATE", -1)  # two minutes are over
        found, cursor = read(receiver, cursor)
        assert subjects(found) == ["Late"]
        assert read(receiver, cursor)[0] == []

    def test_a_limit_in_the_middle_costs_nothing_but_time(self, stage, receiver, monkeypatch):
        monkeypatch.setattr(stage.system.gmail.quota, "per_minute", 1200)  # 6,000 in truth: 300 mails
        for number in range(70):
            stage.box.add(mail(str(number)), at=SINCE + timedelta(seconds=number))
        since = SINCE - timedelta(minutes=1)
        pages, got = receiver.pages(None, since), []
        with pytest.raises(RateLimited) as caught:
            got.extend(iter_pages(pages))
        assert caught.value.fix
        assert 0 < len(got) < 70
        stage.system.skip(61)
        monkeypatch.setattr(stage.system.gmail.quota, "per_minute", 6000)
        rest, _ = read(receiver, got[-1][1], since)
        assert [one[0].subject for one in got] + subjects(rest) == [str(number) for number in range(70)]

    def test_a_long_time_is_swept_in_windows_that_one_list_can_show(self, stage, receiver, monkeypatch):
        now = datetime.now(UTC).replace(microsecond=0)
        for number in range(12):
            stage.box.add(mail(str(number)), at=now - timedelta(hours=24 - number))
        monkeypatch.setattr(listing, "MOST", 5)
        assert subjects(read(receiver, None, now - timedelta(days=30))[0]) == [str(n) for n in range(12)]

    @pytest.fixture
    def _quick(self, monkeypatch):
        """Gmail takes many calls in one request."""
        monkeypatch.setattr(client, "BATCH", 100)
        monkeypatch.setattr(batch, "CONCURRENT", 100)

    @pytest.mark.usefixtures("_quick")
    @pytest.mark.parametrize("seconds", [60, 1])
    def test_many_mails_of_a_minute_and_of_a_second_are_all_read_in_a_few_looks(self, stage, seconds):
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
        for number in range(700):
            moment = at + timedelta(seconds=number * seconds / 700)
            stage.box.add(mail(str(number)), at=moment, thread="new")
        found, cursor, looks = looked(stage, at)
        assert found == [str(number) for number in range(700)]
        assert looks <= 700 // 175 + 2
        assert len(cursor) < 20_000

    @pytest.mark.usefixtures("_quick")
    def test_more_mails_of_a_second_than_a_cursor_remembers_are_all_read(self, stage, monkeypatch):
        monkeypatch.setattr(positions, "MOST_IN_WINDOW", 100)
        monkeypatch.setattr(positions, "MOST_SEEN", 30)
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
        for number in range(500):
            stage.box.add(mail(str(number)), at=at, thread="new")
        monkeypatch.setattr(listing, "MOST", 40)
        found, cursor, looks = looked(stage, at)
        assert set(found) == {str(number) for number in range(500)}
        assert looks <= 2 * 500 // 175 + 2
        assert Position.of(cursor).last == ""


def looked(stage, since, cursor=None):
    """Look until a look is not interrupted by a rest; returns the subjects, the cursor and how many looks."""
    found = []
    for looks in range(1, 40):
        receiver = stage.receiver()
        for page in receiver.pages(cursor, since):
            found += subjects(page.envelopes)
            cursor = page.cursor
            if page.rest:
                break
        receiver.close()
        stage.system.skip(61)
        if not page.rest:
            return found, cursor, looks
    raise AssertionError("it goes round in circles")


def test_a_look_that_was_slow_at_first_leaves_its_user_room_in_the_minute_of_the_next(stage, monkeypatch):
    monkeypatch.setattr(spending, "SHARE", 1_000)
    monkeypatch.setattr(stage.system.gmail.quota, "per_minute", 1_300)  # a share, and some mails
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    for number in range(150):
        stage.box.add(mail(str(number)), at=at + timedelta(seconds=number), thread="new")
    found, cursor = [], None
    for _ in range(3):
        receiver = stage.receiver()
        receiver.spending.now = stage.system.now
        for page in receiver.pages(cursor, at):
            cursor = page.cursor
            found += subjects(page.envelopes)
            if page.rest:
                break
            if page.envelopes and len(found) == 25:
                stage.system.skip(55)
        receiver.close()
        stage.system.skip(page.rest + 1)
    assert found == [str(number) for number in range(150)]


class TestLook:
    """What answers a mail that Gmail has in another thread."""

    def test_an_answer_right_after_a_mail_is_found_however_much_came_later(self, stage, receiver):
        at = datetime.now(UTC) - timedelta(days=2)
        asked_ = mail("Offer")
        stage.box.add(asked_, at=at)
        answer = mail("Other words", From="new@else.example", References=id_of(asked_))
        stage.box.add(answer, at=at + timedelta(minutes=5))
        for number in range(600):
            stage.box.add(mail(f"{number}"), at=at + timedelta(minutes=10 + number), thread="new")
        assert subjects(receiver.look([id_of(asked_)])) == ["Offer", "Other words"]

    @pytest.mark.parametrize("way", ["From", "To", "Cc"])
    def test_an_answer_of_its_people_is_found_after_any_number_of_other_mails(self, stage, receiver, way):
        at = datetime.now(UTC) - timedelta(days=2)
        asked_ = mail("Offer", To=stage.address, Cc="colleague@supplier.example")
        stage.box.add(asked_, at=at)
        for number in range(600):
            other = mail(f"{number}", From="other@else.example", To=stage.address)
            stage.box.add(other, at=at + timedelta(minutes=number), thread="new")
        people = {"From": stage.address, "To": "other@else.example", way: "colleague@supplier.example"}
        answer = mail("Other words", References=id_of(asked_), **people)
        stage.box.add(answer, at=at + timedelta(days=1))
        assert subjects(receiver.look([id_of(asked_)])) == ["Offer", "Other words"]

    @staticmethod
    def thread(stage, length=100):
        """Put in a mail with so long a thread, and other mails after it; returns the ids of the thread's."""
        at, first = datetime.now(UTC) - timedelta(days=2), mail("Offer")
        thread = stage.box.add(first, at=at).thread
        answers = [mail("Re: Offer", References=id_of(first)) for _ in range(length - 1)]
        for number, answer in enumerate(answers):
            stage.box.add(answer, at=at + timedelta(minutes=number), thread=thread)
            stage.box.add(mail("Other"), at=at + timedelta(minutes=number), thread="new")
        return [id_of(first), *map(id_of, answers)]

    def test_as_many_as_are_looked_for_at_once_fit_into_a_minutes_quota(self, stage, receiver):
        threads = [self.thread(stage) for _ in range(AT_ONCE)]
        found = receiver.look([thread[0] for thread in threads])
        assert {one.message_id for one in found} == {id_ for thread in threads for id_ in thread}

    @pytest.mark.parametrize("status", [500, 400, 403])
    def test_a_thread_that_gmail_does_not_give_is_told_and_hides_nothing_that_others_show(
        self, stage, receiver, status
    ):
        broken, whole = self.thread(stage, 40), self.thread(stage, 3)
        first = next(one for one in stage.box.listed() if one.message_id == broken[0])
        stage.system.faults.bad_threads.add(first.thread)
        stage.system.faults.bad_status = status
        found = []
        with pytest.raises(Withheld) as caught:
            found.extend(receiver.look([broken[0], broken[1], whole[0]]))
        assert (caught.value.message_ids, caught.value.mails) == ({broken[0], broken[1]}, 1)
        assert {*whole, *broken[:3]} <= {one.message_id for one in found}
        assert sum(one.status != 200 for one in asked(stage, "threads.get")) == 1
        stage.system.faults.bad_threads.clear()
        assert {*broken} <= {one.message_id for one in receiver.look([broken[0]])}

    def test_no_mail_is_asked_for_twice_in_a_look(self, stage, receiver):
        ids = self.thread(stage)
        bad = next(one for one in stage.box.listed() if one.message_id == ids[50])
        stage.system.faults.bad_mails.add(bad.id)
        found = []
        with pytest.raises(Withheld) as caught:
            found.extend(receiver.look(ids[:5]))
        assert (caught.value.message_ids, caught.value.mails) == ({*ids[:5]}, 1)
        read = [one for one in asked(stage, "messages.get") if one.status == 200]
        assert len(read) < 100 + 25 + 5

    def test_copies_that_others_made_of_an_id_cost_no_more_than_it_may_and_hide_no_answer(
        self, stage, receiver
    ):
        """Nine of them, each with a thread, and with mails after it: all together are more than a minute has."""
        at, wanted = datetime.now(UTC) - timedelta(days=12), mail("Offer")
        for copy in range(9):
            day = at + timedelta(days=copy)
            thread = stage.box.add(mail("Copy", Message_ID=id_of(wanted)), at=day, thread="new").thread
            for number in range(30):
                minutes = timedelta(minutes=number)
                stage.box.add(mail("Other"), at=day + minutes, thread=thread)
                stage.box.add(mail("Other"), at=day + timedelta(hours=1) + minutes, thread="new")
        thread = stage.box.add(wanted, at=at + timedelta(days=10), thread="new").thread
        answer = mail("Re: Offer", References=id_of(wanted))
        stage.box.add(answer, at=at + timedelta(days=11), thread=thread)
        before = len(stage.system.requests)
        found = subjects(receiver.look([id_of(wanted)]))
        assert found == [*["Copy"] * 9, "Offer", "Re: Offer"]
        spent = sum(one.units for one in stage.system.requests[before:] if one.user == stage.address)
        assert spent <= answers.EACH
        assert stage.system.gmail.quota.per_minute >= AT_ONCE * answers.EACH + spending.ANSWERS

    def test_no_thread_is_asked_for_twice_in_a_look(self, stage, receiver):
        ids = self.thread(stage, 20)
        list(receiver.look(ids[:3]))
        assert len(asked(stage, "threads.get")) == 1


class TestSending:
    def test_an_answer_joins_the_thread_of_what_it_answers(self, stage, sender):
        asked_ = mail("Offer", From=stage.recipient)
        item = stage.box.add(asked_)
        answer = mail("Re: Offer", From=stage.address, In_Reply_To=id_of(asked_), References=id_of(asked_))
        assert send(stage, sender, answer).thread == item.thread

    def test_a_list_that_begins_with_an_empty_page_is_read_on(self, stage, sender):
        asked_ = mail("Offer", From=stage.recipient)
        item = stage.box.add(asked_)
        mine = mail("Re: Offer", From=stage.address, In_Reply_To=id_of(asked_), References=id_of(asked_))
        stage.system.faults.hollow_pages = 1
        receipt = send(stage, sender, mine)
        assert receipt.thread == item.thread
        stage.system.faults.hollow_pages = 1
        sent = stage.sent_folder()
        assert sent.find_sent(id_of(mine)).ref == receipt.ref
        sent.close()

    def test_its_new_message_id_is_read_back_and_the_copy_is_found_by_the_old_one(self, stage, sender):
        stage.system.faults.rewrite_message_id = True
        planned = f"<planned.{stage.address}>"
        receipt = send(
            stage, sender, mail("Mine", From=stage.address, Message_ID=planned, References=planned)
        )
        assert receipt.message_id not in {None, planned}
        sent = stage.sent_folder()
        found = sent.find_sent(planned)
        sent.close()
        assert (found.ref, found.message_id) == (receipt.ref, receipt.message_id)

    def test_bcc_is_told_to_gmail_and_to_nobody_else(self, stage, sender):
        hidden = stage.server.account("hidden")
        raw = mail("Mine", From=stage.address, To=stage.recipient)
        sender.send(raw, stage.address, [stage.recipient, hidden.address], lambda: None)
        assert [len(hidden.read("INBOX")), len(stage.arrived())] == [1, 1]
        assert hidden.address.encode() not in stage.arrived()[0]

    def test_a_large_mail_is_announced_before_commit_and_leaves_with_its_last_octet(self, stage, sender):
        raw = mail("Large", "x" * 70 + "\n", From=stage.address)
        raw += b"y" * 70 + b"\r\n" + (b"z" * 76 + b"\r\n") * (SMALL // 78 + 1)
        commits = []
        receipt = send(stage, sender, raw, commits)
        assert (commits, bool(receipt.ref)) == ([1], True)
        assert stage.arrived()[0].endswith(raw.partition(b"\r\n\r\n")[2])

    def test_a_large_mail_whose_last_octets_were_lost_is_unknown(self, stage, sender):
        raw = mail("Large", From=stage.address) + (b"z" * 76 + b"\r\n") * (SMALL // 78 + 1)
        stage.system.faults.lost_before = 1
        commits = []
        with pytest.raises(OutcomeUnknown):
            send(stage, sender, raw, commits)
        assert commits == [1]
        assert stage.arrived() == []

    def test_more_than_gmail_takes_is_refused_with_what_to_do(self, stage, sender):
        with pytest.raises(Rejected) as caught:
            send(stage, sender, mail(From=stage.address) + b"x" * LARGEST)
        assert caught.value.fix


ERRORS = [
    (401, "authError", ConsentRequired),
    (401, "required", ConsentRequired),
    (401, "nobodyKnows", Temporary),
    (403, "nobodyKnows", Temporary),
    (400, "required", Rejected),
    (403, "insufficientPermissions", ConsentRequired),
    (403, "domainPolicy", ConsentRequired),
    (403, "forbidden", ConsentRequired),
    (400, "failedPrecondition", ConsentRequired),
    (403, "accessNotConfigured", Temporary),
    (403, "rateLimitExceeded", RateLimited),
    (403, "userRateLimitExceeded", RateLimited),
    (403, "dailyLimitExceeded", RateLimited),
    (429, "rateLimitExceeded", RateLimited),
    (500, "backendError", Temporary),
    (503, "backendError", Temporary),
    (404, "notFound", NotFound),
    (413, "uploadTooLarge", Rejected),
    (400, "invalidArgument", Rejected),
]


def answer(status, reason="", message="No.", headers=None):
    error = {"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}
    return Answer(status, headers or {}, json.dumps(error).encode())


class TestRefusals:
    @pytest.mark.parametrize(("status", "reason", "kind"), ERRORS)
    def test_each_is_one_of_ours_and_tells_what_a_human_can_do(self, status, reason, kind):
        error = refusal(answer(status, reason))
        assert type(error) is (NotSent if reason == "nobodyKnows" else kind)
        assert error.fix or kind in {Temporary, NotFound, Rejected}

    @pytest.mark.parametrize(
        ("reason", "told"), [("nobodyKnows", "(nobodyKnows)"), ("<b>" * 99, "(403)"), ("", "(403)")]
    )
    def test_a_reason_that_we_do_not_know_is_told_as_a_word_or_not_at_all(self, reason, told, caplog):
        assert refusal(answer(403, reason)).detail.endswith(f"{told}.")
        [line] = [json.loads(one.getMessage()) for one in caplog.records]
        assert (line["event"], line["code"]) == ("api.unclear", reason if reason == "nobodyKnows" else "")

    @pytest.mark.parametrize(
        ("status", "word", "key"),
        [(401, "UNAUTHENTICATED", "sign_in_again"), (403, "PERMISSION_DENIED", "google_no_access")],
    )
    def test_an_error_without_a_reason_has_its_status(self, status, word, key):
        body = json.dumps({"error": {"code": status, "message": "No.", "status": word}})
        error = refusal(Answer(status, {}, body.encode()))
        assert (type(error), error.reason) == (ConsentRequired, key)

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"x"}', b'{"error":{"errors":[]}}'])
    def test_an_answer_that_is_none_of_googles_is_read_by_its_status(self, body):
        assert type(refusal(Answer(503, {}, body))) is Temporary
        assert type(refusal(Answer(400, {}, body))) is Rejected

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"access_denied"}'])
    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_only_google_itself_ends_a_mailbox_or_says_that_a_mail_is_gone(self, status, body):
        assert isinstance(refusal(Answer(status, {}, body)), Temporary)

    def test_a_page_in_place_of_a_batchs_part_takes_no_mail_for_gone(self, stage, receiver):
        item = stage.box.add(mail("New"))
        faults = stage.system.faults
        faults.storm, faults.storm_status, faults.storm_page = 1, 404, True
        assert [found["id"] for found in receiver.available([item.id])[0]] == [item.id]

    def test_the_end_of_the_sending_limit_stands_in_the_words(self):
        until = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        error = refusal(answer(429, "rateLimitExceeded", f"User-rate limit exceeded. Retry after {until}"))
        assert 590 < error.retry_after <= 600
        assert refusal(answer(429, "", "Retry after soon", {"retry-after": "7"})).retry_after == 7

    def test_invalid_recipients_are_told_as_such(self):
        assert "addresses" in refusal(answer(400, "invalidArgument", "Invalid To header")).detail

    def test_a_storm_ends_in_a_clear_state(self, stage, receiver):
        for status, kind in ((429, RateLimited), (503, Temporary)):
            stage.system.faults.storm, stage.system.faults.storm_status = 1, status
            with pytest.raises(kind):
                receiver.check()
        receiver.check()

    def test_an_account_without_gmail_says_so(self, stage, receiver):
        stage.system.directory.users[stage.address].has_gmail = False
        with pytest.raises(ConsentRequired) as caught:
            receiver.check()
        assert "Gmail" in caught.value.detail

    def test_what_is_about_the_account_or_its_permission_is_no_single_mails_fault(self, stage, receiver):
        item = stage.box.add(mail())
        reads_only = Bearer("x", stage.system.bearer(stage.address, "gmail.readonly"))
        sender = stage.sender(lambda: reads_only)
        with pytest.raises(ConsentRequired) as caught:
            send(stage, sender, mail(From=stage.address))
        assert caught.value.reason == "google_boxes"
        sender.close()
        stage.system.directory.users[stage.address].has_gmail = False
        for ask in (receiver.fetch, receiver.returned_headers):
            with pytest.raises(ConsentRequired) as caught:
                ask(item.id)
            assert caught.value.reason == "google_no_mailbox"

    def test_another_accounts_sign_in_and_a_password_are_refused(self, stage):
        other = Google(stage.server)
        for credential in (Bearer("x", stage.system.bearer(other.address)), Password("x", "y")):
            receiver = stage.receiver(lambda credential=credential: credential)
            with pytest.raises(ConsentRequired):
                receiver.check()
            receiver.close()

    @pytest.mark.parametrize(
        ("error", "words", "subtype", "key"),
        [
            ("invalid_grant", "Token has been expired or revoked.", "", "sign_in_again"),
            ("invalid_grant", "Account has been deleted", "", "account_disabled"),
            ("invalid_grant", "reauth related error (invalid_rapt)", "invalid_rapt", "google_session"),
            ("admin_policy_enforced", "", "", "google_policy"),
            ("invalid_client", "", "", "google_misconfigured"),
            ("nobody_knows", "", "", "unexpected"),
        ],
    )
    def test_the_sign_in_services_words_have_a_meaning(self, error, words, subtype, key):
        assert googling.key_of(error, words, subtype) == key
        assert googling.error_of(key).reason == key


class TestSearch:
    def test_a_query_is_written_in_gmails_words(self):
        at = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
        query = Query('two "words', "a@b.example", "c@d.example", 'An "Offer"', at, at, has_attachment=True)
        assert _words(query) == (
            'from:"a@b.example" to:"c@d.example" subject:"An Offer" "two" "words" has:attachment '
            f"after:{int(at.timestamp()) - 1} before:{int(at.timestamp())} -in:drafts -in:chats"
        )

    def test_an_operator_that_was_typed_stays_a_word(self, stage):
        stage.put(mail("Private"))
        searcher = stage.searcher()
        assert not searcher.search(Query(text="in:anywhere OR Private")).mails
        assert subjects(searcher.search(Query(text="private")).mails) == ["Private"]
        searcher.close()

    def test_a_match_names_its_folder_as_the_list_of_folders_does(self, stage):
        stage.put(mail("Washer"), "Suppliers", at=SINCE)
        stage.put(mail("Washer"))
        stage.put(mail("Washer"), "archive")
        searcher = stage.searcher()
        places = [one.folder for one in searcher.search(Query(text="Washer")).mails]
        assert {*places} - {""} <= {folder.name for folder in searcher.folders()}
        searcher.close()
        assert sorted(places) == ["", "INBOX", "Suppliers"]

    def test_a_hit_that_is_kept_from_us_or_gone_ends_nothing(self, stage):
        items = [stage.box.add(mail(f"s{number}"), at=SINCE - timedelta(hours=number)) for number in range(4)]
        stage.system.faults.bad_mails.add(items[1].id)
        searcher = stage.searcher()
        pages = [searcher.search(Query(offset=offset, limit=2)) for offset in (0, 2)]
        searcher.close()
        assert [subjects(hits.mails) for hits in pages] == [["s0"], ["s2", "s3"]]
        assert [hits.more for hits in pages] == [True, False]

    def test_times_and_attachments_narrow_it(self, stage):
        stage.put(mail("Old"), at=SINCE)
        stage.put(mail("New"))
        searcher = stage.searcher()
        assert subjects(searcher.search(Query(after=SINCE + timedelta(minutes=5))).mails) == ["New"]
        assert subjects(searcher.search(Query(before=SINCE + timedelta(minutes=5))).mails) == ["Old"]
        assert not searcher.search(Query(has_attachment=True)).mails
        searcher.close()


def test_raw_comes_back_byte_by_byte_whatever_it_holds(stage, receiver):
    raw = mail("Odd") + bytes(range(256))
    item = stage.box.add(raw)
    assert receiver.fetch(item.id) == raw
    assert base64.urlsafe_b64encode(raw)


def test_half_a_character_in_a_header_stops_nothing():
    assert reports.block([{"name": "Subject", "value": "\ud83d!"}]) == b"Subject: ?!\r\n"


def test_only_the_header_that_names_nobody_is_left_out():
    raw = b"Subject: To: undisclosed-recipients:;\r\nTo: undisclosed-recipients:;\r\n\r\nTo: undisclosed-recipients:;\r\n"
    sent = _addressed(raw, ["a@x.example"])
    assert sent.count(b"undisclosed") == 2
    assert b"Subject: To: undisclosed-recipients:;\r\n" in sent
    assert b"Bcc: a@x.example\r\n" in sent
