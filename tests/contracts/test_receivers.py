"""What every Receiver, SentFolder and Searcher promises in `providers/base.py`, whatever it speaks."""

from datetime import UTC, datetime, timedelta

import pytest

from shared import mime
from shared.errors import ConsentRequired, InvalidRequest, NotFound, Unsupported
from shared.providers.base import Query
from shared.providers.registry import names, provider
from tests.contracts.stages import RECEIVING
from tests.providers.parts import SINCE, id_of, mail, read

REPORT = mail("Undelivered").partition(b"Content-Type")[0] + (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nSECRET\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nAction: failed\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <ours@imap.example>\r\n\r\nSECRET\r\n--b--\r\n"
)


def pytest_generate_tests(metafunc):
    """Run each test for every provider that has the powers it is marked to need."""
    if "stage" in metafunc.fixturenames:
        needed = [mark.args[0] for mark in metafunc.definition.iter_markers("needs")]
        names_ = [name for name in RECEIVING if all(_has(provider(name), power) for power in needed)]
        metafunc.parametrize("stage", names_, indirect=True)


def _has(one, power):
    """Folders can be chosen where not all mail is read anyway."""
    return not one.reads_whole if power == "chosen_folders" else getattr(one, power)


needs_folders = pytest.mark.needs("sent_folder")


@pytest.fixture
def stage(request, server):
    return RECEIVING[request.param](server)


@pytest.fixture
def receiver(stage):
    receiver = stage.receiver()
    yield receiver
    receiver.close()


def fill(stage, subjects):
    """Put mails that came in this order, a second apart."""
    for ago, subject in zip(range(len(subjects), 0, -1), subjects, strict=True):
        stage.put(mail(subject), at=datetime.now(UTC) - timedelta(seconds=ago))


def only(receiver):
    [envelope], _ = read(receiver)
    return envelope


def test_every_provider_that_receives_has_a_stage():
    assert {name for name in names() if provider(name).receiver} == set(RECEIVING)


class TestCheck:
    def test_a_good_sign_in_raises_nothing(self, receiver):
        receiver.check()

    def test_a_refused_sign_in_needs_consent_and_says_what_to_do(self, stage):
        receiver = stage.receiver(stage.wrong)
        with pytest.raises(ConsentRequired) as caught:
            receiver.check()
        receiver.close()
        assert caught.value.fix

    def test_a_missing_grant_is_passed_on_by_every_method(self, stage):
        def revoked():
            raise ConsentRequired("revoked")

        receiver = stage.receiver(revoked)
        for use in (
            receiver.check,
            lambda: list(receiver.pages(None, SINCE)),
            lambda: list(receiver.look(["<a@b>"])),
        ):
            with pytest.raises(ConsentRequired, match="revoked"):
                use()
        receiver.close()


class TestPages:
    def test_an_empty_mailbox_yields_nothing_and_a_cursor(self, receiver):
        found, cursor = read(receiver)
        assert found == []
        assert cursor

    def test_what_arrived_is_listed_with_its_headers(self, stage, receiver):
        raw = mail("Grüße", In_Reply_To="<a@imap.example>")
        stage.put(raw)
        found = only(receiver)
        assert (found.message_id, found.subject) == (id_of(raw), "Grüße")
        assert found.in_reply_to == "<a@imap.example>"
        assert found.sender.address == "supplier@supplier.example"
        assert found.received_at.tzinfo is UTC
        assert not found.is_sent

    @needs_folders
    def test_who_submitted_a_mail_that_somebody_else_wrote_is_told(self, stage, receiver):
        stage.put(mail(From="boss@imap.example", Sender="Me <me@imap.example>"), "sent")
        found = only(receiver)
        assert found.sender.address == "boss@imap.example"
        assert mime.is_from(found, "me@imap.example")
        assert not mime.is_from(found, "you@imap.example")

    def test_without_a_cursor_it_begins_at_since(self, stage, receiver):
        stage.put(mail("Before"), at=SINCE - timedelta(minutes=1))
        stage.put(mail("At"), at=SINCE.replace(microsecond=0))
        assert [e.subject for e in read(receiver)[0]] == ["At"]

    def test_with_a_cursor_only_what_came_after_it(self, stage, receiver):
        stage.put(mail("First"))
        _, cursor = read(receiver)
        assert read(receiver, cursor)[0] == []
        stage.put(mail("Second"))
        found, cursor = read(receiver, cursor)
        assert [e.subject for e in found] == ["Second"]
        assert read(receiver, cursor)[0] == []

    def test_a_cursor_outlives_its_session(self, stage, receiver):
        stage.put(mail("First"))
        _, cursor = read(receiver)
        receiver.close()
        stage.put(mail("Second"))
        other = stage.receiver()
        assert [e.subject for e in read(other, cursor)[0]] == ["Second"]
        other.close()

    def test_the_oldest_come_first(self, stage, receiver):
        fill(stage, ["1", "2", "3"])
        assert [e.subject for e in read(receiver)[0]] == ["1", "2", "3"]

    @needs_folders
    def test_oldest_first_within_a_folder_and_sent_before_what_answers_it(self, stage, receiver):
        for subject, folder in (("1", "sent"), ("2", "sent"), ("3", "inbox"), ("4", "inbox")):
            stage.put(mail(subject), folder)
        found, _ = read(receiver)
        assert [(e.subject, e.is_sent) for e in found] == [
            ("1", True),
            ("2", True),
            ("3", False),
            ("4", False),
        ]

    def test_of_more_than_a_page_every_cursor_is_true_after_its_page(self, stage, receiver):
        subjects = [str(number) for number in range(stage.page + 1)]
        fill(stage, subjects)
        pages = [page for page in receiver.pages(None, SINCE) if page.envelopes]
        first, rest = ([e.subject for e in page.envelopes] for page in pages)
        assert first + rest == subjects
        after, end = ([e.subject for e in read(receiver, page.cursor)[0]] for page in pages)
        # one of the server's steps may be several pages, which come again: nothing is passed over
        assert after in (rest, subjects)
        assert end == []

    @needs_folders
    def test_every_cursor_is_true_after_its_page_of_any_folder(self, stage, receiver):
        for number in range(5):
            stage.put(mail(str(number)), "inbox" if number % 2 else "sent")
        pages = list(receiver.pages(None, SINCE))
        for index, page in enumerate(pages):
            rest = [e.ref for later in pages[index + 1 :] for e in later.envelopes]
            assert [e.ref for e in read(receiver, page.cursor)[0]] == rest

    def test_what_its_owner_is_still_writing_is_neither_listed_nor_found(self, stage, receiver):
        _, cursor = read(receiver)
        raw = mail("Unfinished", In_Reply_To="<a@imap.example>")
        stage.put(raw, "drafts")
        for known in (None, cursor):
            assert read(receiver, known)[0] == []
        assert list(receiver.look([id_of(raw), "<a@imap.example>"])) == []

    @needs_folders
    def test_a_mail_moved_before_we_look_is_not_lost(self, stage, receiver):
        _, cursor = read(receiver)
        raw = mail("Moved")
        stage.put(raw)
        stage.move(raw, "Projects")
        found, _ = read(receiver, cursor)
        assert "Moved" in [e.subject for e in found]


@pytest.mark.needs("chosen_folders")
class TestChosenFolders:
    @pytest.fixture
    def receiver(self, stage):
        """Two folders are chosen, and were read."""
        for folder in ("Projects", "Suppliers"):
            stage.put(mail("Old"), folder)
        receiver = stage.receiver(folders=["Projects", "Suppliers"])
        yield receiver
        receiver.close()

    def test_one_that_is_gone_is_named_at_once_and_all_else_is_read_on(self, stage, receiver):
        _, cursor = read(receiver)
        stage.put(mail("Last"), "Projects")
        stage.rename("Projects", "Old projects")
        for folder in ("sent", "inbox", "Suppliers"):
            stage.put(mail(folder), folder)
        first, *rest = receiver.pages(cursor, SINCE)
        assert (first.missing, first.envelopes) == (("Projects",), ())
        assert not any(page.missing for page in rest)
        found = [e.subject for page in rest for e in page.envelopes if e.subject != "Old"]
        assert found == ["sent", "inbox", "Suppliers", "Last"]  # the last one where its folder is now
        assert read(receiver, rest[-1].cursor)[0] == []

    def test_one_that_is_back_is_read_with_all_that_came_meanwhile(self, stage, receiver):
        _, cursor = read(receiver)
        stage.rename("Projects", "Old projects")
        _, cursor = read(receiver, cursor)
        stage.put(mail("Meanwhile"), "Old projects")
        stage.rename("Old projects", "Projects")
        stage.put(mail("New"), "Suppliers")
        pages = list(receiver.pages(cursor, SINCE))
        assert not any(page.missing for page in pages)
        found = [e.subject for page in pages for e in page.envelopes]
        assert {"Meanwhile", "New"} <= {*found}
        assert found.count("New") == 1
        assert read(receiver, pages[-1].cursor)[0] == []

    def test_a_cursor_after_the_name_of_a_gone_one_is_true(self, stage, receiver):
        _, cursor = read(receiver)
        stage.rename("Projects", "Old projects")
        stage.put(mail("New"))
        first = next(receiver.pages(cursor, SINCE))
        assert [e.subject for e in read(receiver, first.cursor)[0] if e.subject != "Old"] == ["New"]

    def test_a_choice_that_is_not_there_is_refused_by_its_place(self, stage):
        stage.put(mail(), "Projects")
        receiver = stage.receiver(folders=["Projects", "Tpyo"])
        with pytest.raises(InvalidRequest, match="Tpyo") as caught:
            receiver.check()
        receiver.close()
        assert caught.value.field == "folders[1]"
        assert caught.value.fix


class TestHeadersFirst:
    def test_listing_and_looking_read_no_text_and_fetching_is_seen_to_read_one(self, stage, receiver):
        raw = mail("Hello", "Private words", In_Reply_To="<a@imap.example>")
        stage.put(raw)
        ref = only(receiver).ref
        assert [e.ref for e in receiver.look([id_of(raw), "<a@imap.example>"])] == [ref]
        assert stage.bodies_given() == 0
        receiver.fetch(ref)
        assert stage.bodies_given() > 0


class TestFetch:
    def test_the_whole_message_comes_back_byte_by_byte(self, stage, receiver):
        raw = mail("Hello", ".\n..\nGrüße")
        stage.put(raw)
        assert receiver.fetch(only(receiver).ref) == raw

    def test_a_deleted_mail_is_not_found(self, stage, receiver):
        raw = mail()
        stage.put(raw)
        ref = only(receiver).ref
        receiver.close()
        stage.remove(raw)
        with pytest.raises(NotFound):
            receiver.fetch(ref)
        with pytest.raises(NotFound):
            receiver.returned_headers(ref)

    @pytest.mark.parametrize("ref", ["", "nonsense", "ü", "../x"])
    def test_a_ref_of_nobodys_making_is_not_found(self, receiver, ref):
        with pytest.raises(NotFound):
            receiver.fetch(ref)

    def test_a_report_tells_what_it_is_about_and_no_text(self, stage, receiver):
        stage.put(REPORT)
        headers = receiver.returned_headers(only(receiver).ref)
        assert b"Action: failed" in headers
        assert b"<ours@imap.example>" in headers
        assert b"SECRET" not in headers

    def test_of_a_large_report_of_many_parts_no_more_than_the_beginnings_of_a_few_is_read(
        self, stage, receiver
    ):
        fields = (
            b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + (b"X: " + b"y" * 90 + b"\r\n") * 1000
        )
        stage.put(REPORT.removesuffix(b"--b--\r\n") + fields * 2 * mime.MOST_PARTS + b"--b--\r\n")
        headers = receiver.returned_headers(only(receiver).ref)
        assert b"Action: failed" in headers
        assert len(headers) <= (2 * mime.MOST_PARTS + 1) * mime.LONGEST_PART


class TestLook:
    def test_of_the_inbox_a_mail_and_its_answers_are_found_and_no_others(self, stage, receiver):
        wanted = "<wanted@imap.example>"
        stage.put(mail("itself", Message_ID=wanted))
        stage.put(mail("answer", In_Reply_To=wanted))
        stage.put(mail("later", References=f"{wanted} <b@x.example>"))
        stage.put(mail("other", In_Reply_To="<c@x.example>"))
        assert sorted(e.subject for e in receiver.look([wanted])) == ["answer", "itself", "later"]

    @needs_folders
    def test_a_mail_and_its_answers_are_found_in_any_folder_but_drafts_junk_and_trash(self, stage, receiver):
        wanted = "<wanted@imap.example>"
        stage.put(mail("itself", Message_ID=wanted), "sent")
        stage.put(mail("answer", In_Reply_To=wanted), "Projects")
        stage.put(mail("later", References=f"{wanted} <b@x.example>"))
        stage.put(mail("junk", In_Reply_To=wanted), "junk")
        stage.put(mail("trash", In_Reply_To=wanted), "trash")
        stage.put(mail("draft", In_Reply_To=wanted), "drafts")
        stage.put(mail("other"))
        assert sorted(e.subject for e in receiver.look([wanted])) == ["answer", "itself", "later"]

    def test_nothing_asked_nothing_found(self, receiver):
        assert list(receiver.look([])) == []


class TestClose:
    def test_it_never_raises_and_the_next_use_signs_in_again(self, stage):
        receiver = stage.receiver()
        receiver.close()
        receiver.check()
        receiver.close()
        receiver.close()
        receiver.check()
        receiver.close()


@needs_folders
class TestSentFolder:
    def test_a_copy_is_kept_once_found_and_listed_as_sent(self, stage, receiver):
        sent, raw = stage.sent_folder(), mail("Mine")
        assert sent.find_sent(id_of(raw)) is None
        if stage.keeps_copies:
            assert sent.keep_sent(raw, datetime.now(UTC)) == sent.find_sent(id_of(raw)).ref
        else:
            with pytest.raises(Unsupported):  # what another server sent
                sent.keep_sent(raw, datetime.now(UTC))
            stage.put(raw, "sent")
        ref = sent.find_sent(id_of(raw)).ref
        sent.close()
        found = only(receiver)
        assert (found.ref, found.is_sent) == (ref, True)
        assert receiver.fetch(ref) == raw


@pytest.mark.needs("searcher")
class TestSearcher:
    def test_matches_come_newest_first_and_in_pages(self, stage):
        for number in range(3):
            stage.put(mail(f"Offer {number}"), at=datetime.now(UTC) - timedelta(hours=number))
        searcher = stage.searcher()
        found = [searcher.search(Query(subject="Offer", offset=offset, limit=2)) for offset in (0, 1, 2, 4)]
        searcher.close()
        assert [[mail.subject for mail in hits.mails] for hits in found] == [
            ["Offer 0", "Offer 1"],
            ["Offer 1", "Offer 2"],
            ["Offer 2"],
            [],
        ]
        assert [hits.more for hits in found] == [True, False, False, False]

    def test_folders_have_an_inbox_and_the_users_own(self, stage):
        stage.put(mail(), "Projects")
        searcher = stage.searcher()
        folders = searcher.folders()
        searcher.close()
        assert "inbox" in [folder.role for folder in folders]
        assert [folder.role for folder in folders if folder.name.endswith("Projects")] == [None]
