"""The IMAP provider on a real Dovecot, its lines counted on the wire."""

import base64
import json
import quopri
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared import mime
from shared.errors import ConsentRequired, CursorExpired, InvalidRequest, NotFound, Temporary
from shared.providers.base import Bearer, Cursor, Folder, Password, Query
from shared.providers.imap import CHUNK, ImapMailbox
from shared.providers.imap.searching import ImapSearcher
from shared.providers.network import Timeouts
from tests.providers.parts import SINCE, id_of, mail, read

NOW = datetime.now(UTC)
CORPUS = Path(__file__).parents[1] / "eml"
REPORT = b"""\
From: mailer-daemon@supplier.example\r
To: alice@imap.example\r
Subject: Undelivered\r
Message-ID: <bounce@supplier.example>\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=o\r
\r
--o\r
Content-Type: multipart/report; report-type=delivery-status; boundary=i\r
\r
--i\r
Content-Type: text/plain\r
\r
Dear SECRET, it did not arrive.\r
--i\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.supplier.example\r
\r
Final-Recipient: rfc822; nobody@supplier.example\r
Action: failed\r
Status: 5.1.1\r
\r
--i\r
Content-Type: message/rfc822\r
\r
Message-ID: <ours@imap.example>\r
Subject: Offer\r
\r
The SECRET body.\r
--i--\r
--o\r
Content-Type: text/plain\r
\r
A SECRET footer.\r
--o--\r
"""


@pytest.fixture
def box(alice, wire):
    box = ImapMailbox(alice.connection(wire.port))
    yield box
    box.close()


def subjects(envelopes):
    return [envelope.subject for envelope in envelopes]


def commands(wire):
    """What was said besides signing in and out."""
    return [
        line.partition(" ")[2] for line in wire.lines(r"^\S+ (?!CAPABILITY|AUTHENTICATE|ID |LOGOUT)[A-Z]+")
    ]


class TestPolling:
    def test_an_idle_poll_is_one_status_a_folder(self, alice, box, wire):
        alice.put(mail())
        alice.put(mail(), "Projects")
        box = ImapMailbox(alice.connection(wire.port, folders=["Projects"]))
        _, cursor = read(box)
        box.close()
        wire.reset()
        found, _ = read(box, cursor)
        box.close()
        assert found == []
        assert commands(wire) == [
            f'STATUS "{name}" (UIDVALIDITY UIDNEXT HIGHESTMODSEQ)' for name in ("Sent", "INBOX", "Projects")
        ]
        assert wire.connections == 1

    def test_reading_leaves_no_trace_and_opens_no_body(self, alice, box, wire):
        alice.put(mail())
        [found], _ = read(box)
        box.fetch(found.ref)
        [(_, flags)] = alice.read("INBOX")
        assert b"\\Seen" not in flags
        assert not wire.lines("SELECT|STORE|COPY|MOVE|EXPUNGE|DELETE|CREATE|RENAME")
        assert all("PEEK" in line for line in wire.lines(r"BODY\["))

    def test_500_unrelated_mails_are_listed_by_headers_alone(self, alice, box, wire):
        with alice.program() as program:
            for number in range(500):
                program.append("INBOX", mail(f"Mail {number}", "SECRET"))
        found, _ = read(box)
        assert subjects(found) == [f"Mail {number}" for number in range(500)]
        assert len(wire.lines("UID FETCH")) == 3
        assert not wire.lines(r"BODY\.PEEK\[(?!HEADER\])")

    def test_new_mail_is_found_once_and_the_newest_is_not_found_again(self, alice, box):
        alice.put(mail("Old"))
        _, cursor = read(box)
        alice.put(mail("New"))
        found, cursor = read(box, cursor)
        assert subjects(found) == ["New"]
        assert read(box, cursor)[0] == []

    def test_sent_comes_before_the_inbox_and_the_chosen_folders_last(self, alice, wire):
        for folder in ("INBOX", "Sent", "Projects", "Elsewhere"):
            alice.put(mail(folder), folder)
        box = ImapMailbox(alice.connection(wire.port, folders=["Projects", "inbox"]))
        found, _ = read(box)
        box.close()
        assert [(e.folder, e.is_sent) for e in found] == [
            ("Sent", True),
            ("INBOX", False),
            ("Projects", False),
        ]

    def test_a_folder_is_read_whatever_letters_its_name_has(self, alice, wire):
        name = "Aufträge & 订单"
        with alice.program() as program:
            program.create_folder(name)
        alice.put(mail("There"), name)
        box = ImapMailbox(alice.connection(wire.port, folders=[name]))
        [found], _ = read(box)
        assert (found.folder, b"There" in box.fetch(found.ref)) == (name, True)
        assert name in {folder.name for folder in box.folders()}
        box.close()

    def test_an_envelope_says_what_the_server_knows(self, alice, box):
        raw = mail("Grüße", In_Reply_To="<ours@imap.example>")
        at = NOW.replace(microsecond=0) - timedelta(minutes=30)
        alice.put(raw, at=at)
        [found], _ = read(box)
        assert (found.message_id, found.subject, found.size) == (id_of(raw), "Grüße", len(raw))
        assert found.in_reply_to == "<ours@imap.example>"
        assert found.received_at == at
        assert found.received_at.tzinfo is UTC

    def test_without_a_cursor_what_came_before_the_connection_is_left_alone(self, alice, box):
        for minutes in (60 * 24 * 3, 61, 59):
            alice.put(mail(f"{minutes}"), at=NOW - timedelta(minutes=minutes))
        assert subjects(read(box)[0]) == ["59"]

    def test_old_mail_that_is_moved_in_later_is_left_alone_but_a_wrong_clock_is_forgiven(self, alice, box):
        _, cursor = read(box)
        alice.put(mail("years ago"), at=NOW - timedelta(days=900))
        alice.put(mail("slow clock"), at=SINCE - timedelta(hours=2))
        found, cursor = read(box, cursor)
        assert subjects(found) == ["slow clock"]
        assert read(box, cursor)[0] == []

    def test_every_cursor_is_true_after_its_page(self, alice, box):
        with alice.program() as program:
            for number in range(450):
                program.append("INBOX" if number % 3 else "Sent", mail(f"{number}"))
        pages = list(box.pages(None, SINCE))
        assert [len(page.envelopes) for page in pages] == [150, 200, 100, 0]
        everything = [envelope.ref for page in pages for envelope in page.envelopes]
        for index, page in enumerate(pages):
            rest = [envelope.ref for later in pages[index + 1 :] for envelope in later.envelopes]
            assert [envelope.ref for envelope in read(box, page.cursor)[0]] == rest
        assert len(set(everything)) == 450

    def test_mail_that_arrives_meanwhile_is_found_by_the_next_look(self, alice, box):
        alice.put(mail("Sent first"), "Sent")
        alice.put(mail("First"))
        pages = box.pages(None, SINCE)
        found = [*next(pages).envelopes]
        alice.put(mail("Meanwhile"))
        *rest, last = pages
        found += [envelope for page in rest for envelope in page.envelopes]
        assert subjects(found) == ["Sent first", "First"]
        assert subjects(read(box, last.cursor)[0]) == ["Meanwhile"]

    def test_a_folder_chosen_later_is_read_from_the_connection_on(self, alice, box, wire):
        alice.put(mail("before"), "Projects", NOW - timedelta(hours=2))
        alice.put(mail("after"), "Projects")
        _, cursor = read(box)
        more = ImapMailbox(alice.connection(wire.port, folders=["Projects"]))
        assert subjects(read(more, cursor)[0]) == ["after"]
        more.close()


class TestMovedMail:
    def test_a_mail_moved_before_we_look_is_found_where_it_went(self, alice, box):
        _, cursor = read(box)
        uid = alice.put(mail("Moved"))
        with alice.program() as program:
            program.create_folder("Projects")
            program.select_folder("INBOX")
            program.move([uid], "Projects")
        found, cursor = read(box, cursor)
        assert [(envelope.subject, envelope.folder) for envelope in found] == [("Moved", "Projects")]
        assert read(box, cursor)[0] == []

    def test_the_other_folders_are_looked_through_once(self, alice, box, wire):
        _, cursor = read(box)
        uid = alice.put(mail("Gone"))
        with alice.program() as program:
            program.select_folder("INBOX")
            program.delete_messages([uid])
            program.expunge()
        _, cursor = read(box, cursor)
        assert wire.lines('EXAMINE "Archive"')
        assert not wire.lines('EXAMINE "(Trash|Junk|Drafts)"')
        wire.reset()
        read(box, cursor)
        assert not wire.lines("EXAMINE|LIST")

    def test_a_look_that_breaks_off_before_the_other_folders_is_made_up_for(self, alice, box, wire):
        _, cursor = read(box)
        uid = alice.put(mail("Moved"))
        alice.put(mail("Stayed"))
        with alice.program() as program:
            program.select_folder("INBOX")
            program.move([uid], "Archive")
        wire.cut("LIST", passed=False)
        pages = box.pages(cursor, SINCE)
        first = next(pages)
        with pytest.raises(Temporary):
            list(pages)
        assert subjects(first.envelopes) == ["Stayed"]
        assert subjects(read(box, first.cursor)[0]) == ["Moved"]

    def test_old_mail_in_the_other_folders_is_not_looked_at(self, alice, box):
        alice.put(mail("Old"), "Archive", NOW - timedelta(days=3))
        _, cursor = read(box)
        alice.put(mail("New"))
        uid = alice.put(mail("Gone"))
        with alice.program() as program:
            program.select_folder("INBOX")
            program.delete_messages([uid])
            program.expunge()
        assert subjects(read(box, cursor)[0]) == ["New"]


class TestFoldersThatChange:
    def test_a_folder_made_anew_expires_the_cursor_before_anything_is_yielded(self, alice, wire):
        alice.put(mail(), "Projects")
        box = ImapMailbox(alice.connection(wire.port, folders=["Projects"]))
        _, cursor = read(box)
        alice.put(mail("New"))
        position = json.loads(cursor)
        position["folders"]["Projects"]["validity"] -= 1
        with pytest.raises(CursorExpired):
            next(box.pages(Cursor(json.dumps(position)), SINCE))
        box.close()

    @pytest.mark.parametrize(("number", "more"), [("next", 1), ("modseq", 1000)])
    def test_numbers_that_go_back_expire_the_cursor(self, alice, box, number, more):
        alice.put(mail())
        _, cursor = read(box)
        position = json.loads(cursor)
        position["folders"]["INBOX"][number] += more
        with pytest.raises(CursorExpired):
            next(box.pages(Cursor(json.dumps(position)), SINCE))

    def test_what_was_moved_before_a_folder_was_made_anew_is_found_all_the_same(self, alice, box):
        _, cursor = read(box)
        uid = alice.put(mail("Moved"))
        with alice.program() as program:
            program.select_folder("INBOX")
            program.move([uid], "Archive")
        position = json.loads(cursor)
        position["folders"]["INBOX"]["validity"] -= 1
        with pytest.raises(CursorExpired) as caught:
            next(box.pages(Cursor(json.dumps(position)), SINCE))
        found, cursor = read(box, caught.value.resume)
        assert subjects(found) == ["Moved"]
        assert read(box, cursor)[0] == []

    @pytest.mark.parametrize("cursor", ["x", "{}", '{"at":"2026-01-01T00:00:00Z","v":2}', "[]", '{"at":1}'])
    def test_a_cursor_of_another_version_expires(self, box, cursor):
        with pytest.raises(CursorExpired):
            next(box.pages(Cursor(cursor), SINCE))

    def test_a_chosen_folder_that_is_gone_is_left_out(self, alice, wire):
        alice.put(mail(), "Projects")
        box = ImapMailbox(alice.connection(wire.port, folders=["Projects"]))
        _, cursor = read(box)
        box.close()
        with alice.program() as program:
            program.delete_folder("Projects")
        alice.put(mail("New"))
        found, cursor = read(box, cursor)
        assert subjects(found) == ["New"]
        assert "Projects" not in cursor
        box.close()

    def test_a_sent_folder_that_was_renamed_is_found_again(self, alice, wire):
        box = ImapMailbox(alice.connection(wire.port, sentFolder=""))
        alice.put(mail(), "Gesendete Objekte")
        _, cursor = read(box)
        position = json.loads(cursor)
        position["folders"]["Gone"] = position["folders"].pop("Sent")
        position["sent"] = "Gone"
        alice.put(mail("Mine"), "Sent")
        found, cursor = read(box, Cursor(json.dumps(position)))
        assert [(envelope.subject, envelope.is_sent) for envelope in found] == [("Mine", True)]
        assert json.loads(cursor)["sent"] == "Sent"
        box.close()

    def test_the_setting_names_the_sent_folder(self, alice, wire):
        alice.put(mail("Mine"), "Ausgang")
        alice.put(mail("Not read"), "Sent")
        box = ImapMailbox(alice.connection(wire.port, sentFolder="Ausgang"))
        box.check()
        found, _ = read(box)
        assert [(envelope.subject, envelope.is_sent) for envelope in found] == [("Mine", True)]
        roles = {folder.name: folder.role for folder in box.folders()}
        assert (roles["Ausgang"], roles["Sent"]) == ("sent", None)
        box.close()

    def test_a_sent_folder_that_the_settings_name_no_more_is_left_for_the_usual_one(self, alice, wire):
        alice.put(mail("Mine"), "Ausgang")
        named = ImapMailbox(alice.connection(wire.port, sentFolder="Ausgang"))
        _, cursor = read(named)
        named.close()
        alice.put(mail("From the program"), "Sent")
        usual = ImapMailbox(alice.connection(wire.port))
        found, cursor = read(usual, cursor)
        assert [(envelope.subject, envelope.is_sent) for envelope in found] == [("From the program", True)]
        assert json.loads(cursor)["sent"] == "Sent"
        usual.close()

    def test_a_sent_folder_that_was_named_is_told_while_it_is_gone(self, alice, wire):
        alice.put(mail(), "Ausgang")
        box = ImapMailbox(alice.connection(wire.port, sentFolder="Ausgang"))
        _, cursor = read(box)
        alice.put(mail("Mine"), "Ausgang")
        with alice.program() as program:
            program.rename_folder("Ausgang", "Elsewhere")
        pages = list(box.pages(cursor, SINCE))
        assert [page.missing for page in pages if page.missing] == [("Ausgang",)]
        assert [envelope.subject for page in pages for envelope in page.envelopes][-1:] == ["Mine"]
        with alice.program() as program:
            program.rename_folder("Elsewhere", "Ausgang")
        assert not any(page.missing for page in box.pages(pages[-1].cursor, SINCE))
        box.close()

    def test_check_names_the_setting_whose_folder_is_missing(self, alice, wire):
        for settings, field in (
            ({"folders": ["Nope"]}, "folders[0]"),
            ({"sentFolder": "Nope"}, "sentFolder"),
        ):
            box = ImapMailbox(alice.connection(wire.port, **settings))
            with pytest.raises(InvalidRequest, match="Nope") as caught:
                box.check()
            assert caught.value.field == field
            box.close()


class TestFetching:
    def test_a_mail_comes_back_byte_by_byte(self, alice, box):
        raw = mail("Hello", "\r\n.dot\r\nGrüße\r\n")
        alice.put(raw)
        [found], _ = read(box)
        assert box.fetch(found.ref) == raw

    @pytest.mark.parametrize("extra", [-1, 0, 1, CHUNK])
    def test_a_large_mail_is_fetched_in_parts(self, alice, box, wire, extra):
        head = b"Subject: Large\r\n\r\n"
        raw = head + b"x" * 1000 + b"\r\n"
        raw += b"y" * (CHUNK + extra - len(raw))
        alice.put(raw)
        [found], _ = read(box)
        assert box.fetch(found.ref) == raw
        assert len(wire.lines(r"BODY\.PEEK\[\]<")) == len(raw) // CHUNK + 1

    def test_a_mail_that_was_deleted_is_not_found(self, alice, box):
        uid = alice.put(mail())
        [found], _ = read(box)
        with alice.program() as program:
            program.select_folder("INBOX")
            program.delete_messages([uid])
            program.expunge()
        box.close()  # who has a folder open may still read what was deleted in it
        for method in (box.fetch, box.returned_headers):
            with pytest.raises(NotFound):
                method(found.ref)

    def test_a_ref_of_a_folder_that_was_made_anew_is_not_found(self, alice, box):
        alice.put(mail(), "Projects")
        [found] = box.look([id_of(alice.read("Projects")[0][0])])
        with alice.program() as program:
            program.delete_folder("Projects")
        with pytest.raises(NotFound):
            box.fetch(found.ref)
        alice.put(mail(), "Projects")
        box.close()
        with pytest.raises(NotFound):
            box.fetch(found.ref)

    @pytest.mark.parametrize(
        "ref", ["", "x", "é", "W10", "../../etc", "WyJJTkJPWCIsMSwwXQ", "WyJJTkJPWCIsMSwxXQ"]
    )
    def test_a_ref_we_did_not_make_is_not_found(self, box, ref):
        with pytest.raises(NotFound):
            box.fetch(ref)

    def test_a_folder_with_any_name_can_be_read(self, alice, wire):
        name = 'Lieferanten "A&B" Größe \\ 日本'
        raw = mail("Odd")
        alice.put(raw, name)
        box = ImapMailbox(alice.connection(wire.port, folders=[name]))
        [found], _ = read(box)
        assert box.fetch(found.ref) == raw
        assert found.ref.isascii()
        box.close()


class TestReports:
    def test_only_the_machine_readable_part_and_the_returned_header_are_read(self, alice, box, wire):
        alice.put(REPORT)
        [found], _ = read(box)
        headers = box.returned_headers(found.ref)
        assert b"Final-Recipient: rfc822; nobody@supplier.example" in headers
        assert b"Message-ID: <ours@imap.example>" in headers
        assert b"SECRET" not in headers
        assert wire.lines(r"\(BODY\.PEEK\[1\.2\]<0\.65536> BODY\.PEEK\[1\.3\.HEADER\]<0\.65536>\)")

    def test_of_a_large_one_the_beginnings_of_a_few_parts_are_read(self, alice, box, wire):
        part = b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + b"X: y\r\n\r\n" * 25_000
        head = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        alice.put(b"MIME-Version: 1.0\r\n" + head + part * 20 + b"--b--\r\n")
        [found], _ = read(box)
        assert len(box.returned_headers(found.ref)) < 9 * 65_536
        [asked] = wire.lines(r"BODY\.PEEK\[1\]")
        assert asked.count("PEEK") == mime.MOST_PARTS

    def test_encoded_parts_are_decoded(self, alice, box):
        encoded = b"TWVzc2FnZS1JRDogPG91cnNAaW1hcC5leGFtcGxlPg=="
        raw = b"MIME-Version: 1.0\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        alice.put(raw + encoded)
        [found], _ = read(box)
        assert box.returned_headers(found.ref) == b"Message-ID: <ours@imap.example>"

    @pytest.mark.parametrize("encoding", ["8bit", "base64", "quoted-printable"])
    def test_of_a_returned_mail_with_international_headers_these_are_read_and_no_text(
        self, alice, box, encoding
    ):
        """RFC 6532: Dovecot and Cyrus tell no structure of it, and give it no HEADER."""
        encode = {"base64": base64.encodebytes, "quoted-printable": quopri.encodestring}.get(encoding, bytes)
        returned = "Message-ID: <ours@imap.example>\nSubject: Größe\n\nSECRET\n".encode()
        head, _, rest = REPORT.partition(b"Content-Type: message/rfc822\r\n")
        kind = f"Content-Type: message/global\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        end = rest[rest.index(b"--i--") :]
        alice.put(head + kind + encode(returned).replace(b"\n", b"\r\n") + end)
        [found], _ = read(box)
        headers = box.returned_headers(found.ref)
        assert mime.reported_ids(headers) == ("<ours@imap.example>",)
        assert "Subject: Größe".encode() in headers
        assert b"SECRET" not in headers

    @pytest.mark.parametrize("name", ["qmail", "exim"])
    @pytest.mark.parametrize("fold", [" ", "\r\n "])
    def test_a_bounce_in_words_tells_the_id_that_it_quotes_if_that_is_ours(self, alice, box, name, fold):
        raw = (CORPUS / f"dsn-{name}.eml").read_bytes()
        alice.put(raw.replace(b"Message-ID: <z.", f"Message-ID:{fold}<z.".encode()))
        [found], _ = read(box)
        assert box.returned_headers(found.ref) == (
            b"Message-ID: <z.0123456789abcdef.1763943000123-0123456789ab.0123456789abcdef@imap.example>"
        )

    def test_of_a_bounce_in_words_about_other_mail_nothing_is_read(self, alice, box, wire):
        raw = (CORPUS / "dsn-qmail.eml").read_bytes().replace(b"<z.", b"<private.")
        alice.put(raw)
        [found], _ = read(box)
        with pytest.raises(NotFound):
            box.returned_headers(found.ref)
        assert not wire.lines(r"BODY\.PEEK\[(\d|\]|TEXT)")

    def test_of_a_bounce_in_words_that_quotes_ours_in_another_mail_nothing_is_kept(self, alice, box):
        raw = (CORPUS / "dsn-qmail.eml").read_bytes()
        alice.put(raw.replace(b"Message-ID: <z.", b"Message-ID: <own@x.example>\nReferences: <z."))
        [found], _ = read(box)
        with pytest.raises(NotFound):
            box.returned_headers(found.ref)

    def test_a_mail_without_a_report_is_not_read(self, alice, box, wire):
        alice.put(mail("Undeliverable"))
        [found], _ = read(box)
        with pytest.raises(NotFound):
            box.returned_headers(found.ref)
        assert not wire.lines(r"BODY\.PEEK\[\d")


class TestLooking:
    def test_a_mail_and_its_answers_are_found_but_in_drafts_junk_and_trash(self, alice, box):
        wanted = "<wanted@imap.example>"
        alice.put(mail("Itself", Message_ID=wanted), "Sent")
        alice.put(mail("Answer", In_Reply_To=wanted), "Projects")
        alice.put(mail("Late", References=f"<a@x.example> {wanted} <b@x.example>"))
        alice.put(mail("Unwanted", In_Reply_To=wanted), "Junk")
        alice.put(mail("Deleted", In_Reply_To=wanted), "Trash")
        alice.put(mail("Begun", In_Reply_To=wanted), "Drafts")
        alice.put(mail("Alike", In_Reply_To="<not-" + wanted[1:]))
        alice.put(mail("Other"))
        assert sorted(subjects(box.look([wanted]))) == ["Answer", "Itself", "Late"]

    def test_what_is_flagged_as_a_draft_is_found_and_listed_in_no_folder_but_sent(self, alice, wire):
        """Programs do not agree on a folder for it, and Gmail's All Mail shows it again."""
        box = ImapMailbox(alice.connection(wire.port, folders=["Projects"]))
        alice.put(mail("Whole"), "Projects")
        _, cursor = read(box)
        with alice.program() as program:
            for folder in ("Sent", "INBOX", "Projects", "Archive"):
                program.append(folder, mail(folder, In_Reply_To="<a@x.example>"), (rb"\Draft", rb"\Seen"))
        assert subjects(box.look(["<a@x.example>"])) == ["Sent"]
        found, cursor = read(box, cursor)
        assert subjects(found) == ["Sent"]
        assert read(box, cursor)[0] == []
        assert json.loads(cursor).get("owed", {}) == {}
        box.close()

    def test_many_ids_are_looked_for_together(self, alice, box, wire):
        ids = [f"<{number}@imap.example>" for number in range(12)]
        for id_ in ids:
            alice.put(mail(Message_ID=id_))
        assert {envelope.message_id for envelope in box.look(ids)} == set(ids)
        assert len(wire.lines("UID SEARCH")) == 3 * len(wire.lines("EXAMINE"))

    @pytest.mark.parametrize(
        "id_", ["<a\r\nA1 DELETE INBOX@x>", "<ü@x>", "<\x00@x>", "<\ud800@x>", '<"a b"@x>', "{3}"]
    )
    def test_odd_ids_do_no_harm(self, alice, box, wire, id_):
        alice.put(mail())
        assert list(box.look([id_])) == []
        assert not wire.lines("DELETE")

    def test_nothing_asked_is_nothing_said(self, box, wire):
        assert list(box.look([])) == []
        assert wire.connections == 0


class TestSent:
    def test_a_copy_is_kept_as_read_at_its_time_and_found_again(self, alice, box):
        raw = mail("Mine")
        at = NOW - timedelta(minutes=10)
        ref = box.keep_sent(raw, at)
        assert alice.read("Sent")[0][0] == raw
        assert b"\\Seen" in alice.read("Sent")[0][1]
        receipt = box.find_sent(id_of(raw))
        assert (receipt.ref, receipt.message_id) == (ref, id_of(raw))
        [found], _ = read(box)
        assert found.ref == ref
        assert found.received_at == at.replace(microsecond=0)

    def test_a_mail_whose_id_is_only_alike_is_no_copy(self, box):
        box.keep_sent(mail(Message_ID="<longer-1@imap.example>"), NOW)
        assert box.find_sent("1@imap.example>") is None
        assert box.find_sent("<longer-1@imap.example>") is not None

    @pytest.mark.parametrize("id_", ["", "<ü@x.example>", "<nothing@x.example>"])
    def test_what_is_not_there_is_none(self, box, id_):
        assert box.find_sent(id_) is None


class TestSearching:
    @pytest.fixture
    def box(self, alice, wire):
        box = ImapSearcher(alice.connection(wire.port))
        yield box
        box.close()

    @pytest.fixture
    def filled(self, alice, wire):
        for number, folder in enumerate(("INBOX", "Sent", "Projects", "Archive")):
            text = "Angebot über Schrauben" if number != 1 else "Rechnung (M8) {3}"
            alice.put(
                mail(f"Mail {number}", text, From=f"p{number}@x.example"),
                folder,
                NOW - timedelta(days=number),
            )
        box = ImapSearcher(alice.connection(wire.port, folders=["Projects"]))
        yield box
        box.close()

    def test_inbox_sent_and_chosen_folders_are_searched_newest_first(self, filled):
        assert subjects(filled.search(Query()).mails) == ["Mail 0", "Mail 1", "Mail 2"]

    @pytest.mark.parametrize(
        ("query", "numbers"),
        [
            (Query(text="Schrauben"), [0, 2]),
            (Query(text="über"), [0, 2]),
            (Query(text="über", after=NOW - timedelta(days=1.5)), [0]),
            (Query(text="(M8)"), [1]),
            (Query(text="{3}"), [1]),
            (Query(text='quo"ted\\'), []),
            (Query(sender="p1@x.example"), [1]),
            (Query(to="alice@imap.example", subject="Mail"), [0, 1, 2]),
            (Query(subject="Mail 2", sender="p1"), []),
            (Query(after=NOW - timedelta(days=1.5)), [0, 1]),
            (Query(before=NOW - timedelta(days=0.5)), [1, 2]),
            (Query(after=NOW - timedelta(days=1.5), before=NOW - timedelta(days=0.5)), [1]),
            (Query(limit=1), [0]),
            (Query(offset=1, limit=1), [1]),
            (Query(offset=3), []),
            (Query(has_attachment=True), []),
            (Query(has_attachment=False, limit=2), [0, 1]),
        ],
    )
    def test_all_that_is_asked_must_match(self, filled, query, numbers):
        assert subjects(filled.search(query).mails) == [f"Mail {number}" for number in numbers]

    def test_a_charset_is_named_only_where_it_is_needed(self, filled, wire):
        filled.search(Query(text="Schrauben"))
        assert not wire.lines("CHARSET")
        filled.search(Query(text="über"))
        assert wire.lines("CHARSET UTF-8")

    @pytest.mark.parametrize("field", ["text", "sender", "to", "subject"])
    @pytest.mark.parametrize("text", ["a\r\nA1 DELETE INBOX", "a\x00b", "\n", "a\ud800"])
    def test_control_characters_are_refused_and_the_field_named(self, box, wire, field, text):
        with pytest.raises(InvalidRequest) as caught:
            box.search(replace(Query(), **{field: text}))
        assert caught.value.field in {"q", "from", "to", "subject"}
        assert wire.connections == 0

    def test_attachments_are_told_by_the_type(self, alice, box):
        raw = mail("With").replace(b"text/plain", b"multipart/mixed; boundary=b")
        alice.put(raw)
        alice.put(mail("Without"))
        assert subjects(box.search(Query(has_attachment=True)).mails) == ["With"]
        assert subjects(box.search(Query(has_attachment=False)).mails) == ["Without"]

    def test_folders_say_what_they_are_for(self, alice, box):
        alice.put(mail(), "Projects/2026")
        assert Folder("INBOX", "inbox") in box.folders()
        roles = {folder.name: folder.role for folder in box.folders()}
        assert roles["Projects/2026"] is None
        named = {"INBOX": "inbox", "Sent": "sent", "Drafts": "drafts", "Trash": "trash", "Junk": "junk"}
        assert roles.items() >= named.items()


class TestSigningIn:
    def test_starttls_comes_before_anything_secret(self, server, alice):
        box = ImapMailbox(alice.connection(server.dovecot.ports["imap"], "starttls"))
        box.check()
        box.close()

    @pytest.mark.parametrize("port", ["imap", "imaps"])
    def test_a_token_is_taken_and_a_wrong_one_needs_consent(self, server, alice, port):
        security = "tls" if port == "imaps" else "starttls"
        token = server.issuer.access_token(alice.address)
        for word, good in (
            (token, True),
            ("wrong", False),
            (server.issuer.access_token("bob@x.example"), False),
        ):
            credential = Bearer(alice.address, word)
            box = ImapMailbox(
                alice.connection(server.dovecot.ports[port], security, credential=lambda: credential)
            )
            if good:
                box.check()
            else:
                with pytest.raises(ConsentRequired) as caught:
                    box.check()
                assert caught.value.fix
                assert word not in caught.value.detail
            box.close()

    def test_a_wrong_password_needs_consent_and_stays_secret(self, alice, wire, caplog):
        caplog.set_level("DEBUG")
        box = ImapMailbox(alice.connection(wire.port, credential=lambda: Password(alice.address, "wr0ng")))
        with pytest.raises(ConsentRequired, match="refused the sign-in") as caught:
            box.check()
        box.close()
        assert "wr0ng" not in f"{caught.value.detail}{caught.value.fix}{caplog.text}"

    def test_a_credential_that_is_gone_is_passed_on(self, alice, wire):
        def gone():
            raise ConsentRequired("revoked")

        box = ImapMailbox(alice.connection(wire.port, credential=gone))
        with pytest.raises(ConsentRequired, match="revoked"):
            box.check()
        box.close()
        assert wire.connections == 0

    def test_nothing_that_is_searched_for_is_logged(self, alice, wire, caplog):
        caplog.set_level("DEBUG")
        alice.put(mail("Topsecret"))
        box = ImapSearcher(alice.connection(wire.port))
        box.search(Query(text="Topsecret"))
        box.close()
        assert "Topsecret" not in caplog.text


class TestLostConnections:
    @pytest.mark.parametrize("command", ["AUTHENTICATE", "STATUS", "EXAMINE", "UID SEARCH"])
    @pytest.mark.parametrize("passed", [False, True])
    def test_a_lost_connection_never_looks_like_an_empty_mailbox(self, alice, box, wire, command, passed):
        alice.put(mail("New"))
        wire.cut(rf"^\S+ {command}", passed=passed)
        with pytest.raises(Temporary):
            list(box.pages(None, SINCE))
        assert subjects(read(box)[0]) == ["New"]
        assert wire.connections == 2

    @pytest.mark.parametrize("passed", [False, True])
    def test_one_that_is_lost_with_a_fetch_is_opened_again_within_the_look(self, alice, box, wire, passed):
        for number in range(3):
            alice.put(mail(str(number)))
        wire.cut(r"^\S+ UID FETCH", passed=passed)
        found, cursor = read(box)
        assert subjects(found) == ["0", "1", "2"]
        assert wire.connections == 2
        assert read(box, cursor)[0] == []

    def test_a_mail_at_which_each_is_lost_keeps_back_no_other_and_is_read_once_it_can_be(
        self, alice, box, wire
    ):
        uids = [alice.put(mail(str(number))) for number in range(20)]
        wire.cut(rf"^\S+ UID FETCH \S*\b{uids[7]}\b", times=1000, passed=False)
        pages = list(box.pages(None, SINCE))
        assert [e.subject for page in pages for e in page.envelopes] == [str(n) for n in range(20) if n != 7]
        assert [page.refused for page in pages] == [1, 0]
        alice.put(mail("Later"))
        pages = list(box.pages(pages[-1].cursor, SINCE))
        assert [e.subject for page in pages for e in page.envelopes] == ["Later"]
        assert [page.refused for page in pages] == [1, 0, 0]
        wire.heal()
        assert subjects(read(box, pages[-1].cursor)[0]) == ["7"]

    def test_the_next_command_after_a_loss_signs_in_again(self, alice, box, wire):
        raw = mail()
        alice.put(raw)
        [found], _ = read(box)
        wire.drop()
        with pytest.raises(Temporary):
            box.fetch(found.ref)
        assert box.fetch(found.ref) == raw

    def test_close_never_raises(self, alice, box, wire):
        box.close()
        box.check()
        wire.drop()
        box.close()
        box.close()

    def test_a_server_that_says_nothing_any_more_is_temporary(self, alice, wire):
        box = ImapMailbox(alice.connection(wire.port), Timeouts(2, 0.3, 1))
        read(box)
        wire.faults.hanging = True
        with pytest.raises(Temporary):
            read(box)
        wire.heal()
        read(box)
        box.close()

    def test_a_server_that_is_down_is_temporary(self, alice):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        with pytest.raises(Temporary):
            ImapMailbox(alice.connection(port)).check()
