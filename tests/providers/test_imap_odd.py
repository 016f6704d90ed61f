"""The IMAP provider and servers that do what Dovecot does not: old ones, foreign ones, broken ones, hostile ones."""

import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import (
    ConsentRequired,
    CursorExpired,
    InvalidRequest,
    NotFound,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
    Withheld,
    ZalionError,
)
from shared.providers.base import Bearer, Password
from shared.providers.imap import CHUNK, ImapMailbox
from shared.providers.imap.folders import with_roles
from shared.providers.imap.headers import MANY, MOST_LOST
from shared.providers.imap.items import make_ref
from shared.providers.imap.names import decoded, listed, spelt
from shared.providers.imap.position import MOST_OWED, PATIENCE, WAITED, Full, Kept, Mark, Position
from shared.providers.imap.refusals import HungUp, Silent
from shared.providers.imap.reports import sections
from shared.providers.imap.searching import ImapSearcher
from shared.providers.network import Timeouts
from shared.providers.positions import LONGEST
from shared.providers.silence import SILENCES
from tests.providers.parts import connection, mail
from tests.providers.scripted import CLOSE, ENDLESS, HANG, ScriptedImap

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
QUICK = Timeouts(1, 0.3, 1)
BEARER = Bearer("alice@imap.example", "t0ken")


@pytest.fixture
def odd(tls):
    """Make a server with other answers, and a mailbox on it."""
    opened = []

    def make(
        replies=None,
        *,
        security="tls",
        credential=None,
        settings=None,
        use=ImapMailbox,
        timeouts=None,
        **options,
    ):
        server = ScriptedImap(tls if security == "tls" else None, replies, **options)
        box = use(
            connection(server.port, security, credential=credential, **(settings or {})), timeouts or QUICK
        )
        opened.extend([server, box])
        return server, box

    yield make
    for thing in reversed(opened):
        thing.close()


class TestPlainText:
    def test_nothing_is_said_to_a_server_that_offers_no_starttls(self, odd):
        server, box = odd(security="starttls")
        with pytest.raises(InvalidRequest) as caught:
            box.check()
        assert caught.value.field == "security"
        assert [line.split()[1] for line in server.said] == ["CAPABILITY"]

    @pytest.mark.parametrize("reply", ["%t NO not now", "%t BAD what", CLOSE])
    def test_nothing_is_said_to_a_server_that_refuses_starttls(self, odd, reply):
        server, box = odd(
            {"STARTTLS": reply}, security="starttls", capabilities="IMAP4rev1 STARTTLS AUTH=PLAIN"
        )
        with pytest.raises(Temporary):
            box.check()
        assert [line.split()[1] for line in server.said] == ["CAPABILITY", "STARTTLS"]

    def test_a_greeting_that_pretends_we_are_in_gets_no_secret_either(self, odd):
        server, box = odd(security="starttls", greeting="* PREAUTH hello", capabilities="IMAP4rev1 STARTTLS")
        with pytest.raises(Temporary):
            box.check()
        assert not any("AUTH" in line or "LOGIN" in line for line in server.said)


class TestSigningIn:
    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            ("%t NO [AUTHENTICATIONFAILED] Too many wrong passwords", ConsentRequired),
            ("%t NO wrong", ConsentRequired),
            ("%t NO Error in username or password", ConsentRequired),
            ("%t NO login user unknown", ConsentRequired),
            ("%t NO Authentication failed. Please try again.", ConsentRequired),
            ("%t NO Too many invalid passwords", ConsentRequired),
            ("%t NO mailbox in use", Temporary),
            ("%t NO [EXPIRED] change it", ConsentRequired),
            ("%t BAD what", ConsentRequired),
            ("%t NO [UNAVAILABLE] directory down", Temporary),
            ("%t NO [INUSE] somebody else", Temporary),
            ("%t NO [LIMIT] enough", Temporary),
            ("%t NO Temporary authentication failure", Temporary),
            ("* BYE going down", Temporary),
            ("* BYE wrong password, this account is closed", Temporary),
            ("* BYE [AUTHENTICATIONFAILED] too many wrong passwords", ConsentRequired),
            ("* BYE [CONTACTADMIN] this account is closed, try again later", ConsentRequired),
            ("%t NO [CONTACTADMIN] the directory is busy for you", ConsentRequired),
            ("%t NO [PRIVACYREQUIRED] temporarily no passwords", ConsentRequired),
            (CLOSE, Temporary),
            (HANG, Temporary),
            ("%t NO [OVERQUOTA] enough", RateLimited),
            ("%t NO [ALERT] Too many simultaneous connections", RateLimited),
            ("%t NO [ALERT] Too many simultaneous connections. (Failure)", RateLimited),
            ("%t NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)", RateLimited),
            ("%t NO [ALERT] Account exceeded command or bandwidth limits. (Failure)", RateLimited),
            ("%t NO Login failed: too many connections", RateLimited),
            ("%t NO Too many invalid connections", ConsentRequired),
            ("%t NO [ALERT] Invalid credentials (Failure)", ConsentRequired),
            ("%t NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", ConsentRequired),
            ("%t NO [ALERT] Application-specific password required (Failure)", ConsentRequired),
        ],
    )
    def test_every_no_is_told_by_its_kind(self, odd, reply, error):
        for mechanism, capabilities in (("AUTHENTICATE", "IMAP4rev1 AUTH=PLAIN"), ("LOGIN", "IMAP4rev1")):
            _, box = odd({mechanism: reply}, capabilities=capabilities)
            with pytest.raises(error) as caught:
                box.check()
            assert type(caught.value) is error
            assert "b'" not in caught.value.detail

    @pytest.mark.parametrize("greeting", ["* BYE too busy", "* NO", "what?", CLOSE, HANG])
    def test_a_greeting_that_is_none_is_temporary(self, odd, greeting):
        _, box = odd(greeting=greeting)
        with pytest.raises(Temporary):
            box.check()

    @pytest.mark.parametrize(
        "code", ["AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "CONTACTADMIN"]
    )
    def test_a_goodbye_asks_for_a_new_sign_in_by_its_code(self, odd, code):
        for replies in ({"greeting": f"* BYE [{code}] no"}, {"replies": {"STATUS": f"* BYE [{code}] no"}}):
            _, box = odd(**replies)
            with pytest.raises(ConsentRequired):
                box.check()

    def test_login_is_used_only_where_plain_is_not_offered_and_quotes_what_it_says(self, odd):
        credential = Password('al"ice', 'pa\\ss "word"')
        server, box = odd(capabilities="IMAP4rev1", credential=lambda: credential)
        box.check()
        [said] = [line for line in server.said if "LOGIN" in line]
        assert said.partition(" ")[2] == 'LOGIN "al\\"ice" "pa\\\\ss \\"word\\""'

    @pytest.mark.parametrize(
        "said", ["%t NO cannot", "%t BAD cannot", "* BYE cannot", "%t NO [LIMIT] cannot"]
    )
    @pytest.mark.parametrize(
        ("capabilities", "credential"),
        [
            ("IMAP4rev1", Password("alice", 'pa\\ss "word"')),
            ("IMAP4rev1 AUTH=PLAIN", Password("alice", "correct horse")),
            ("IMAP4rev1 AUTH=XOAUTH2", BEARER),
        ],
    )
    def test_a_server_that_repeats_the_command_puts_no_secret_into_the_error(
        self, odd, said, capabilities, credential
    ):
        server, box = odd(capabilities=capabilities, credential=lambda: credential)
        usual, commands = server.answer, []

        def repeated(line):
            commands.append(line.split()[0])
            if " CAPABILITY" in line or " AUTHENTICATE" in line:
                return usual(line)
            tag = next(tag for tag in reversed(commands) if len(tag) == 5)
            return f"{said.replace('%t', tag)} {line.removeprefix(tag).strip()}"

        server.answer = repeated
        with pytest.raises(ZalionError) as caught:
            box.check()
        told = caught.value.detail.partition("cannot")[2].strip()
        assert told in {"…", 'LOGIN "alice" "…"'}

    @pytest.mark.parametrize("password", ["pässword", "pass\r\nA1 DELETE INBOX"])
    def test_a_password_that_login_cannot_say_is_not_said(self, odd, password):
        server, box = odd(capabilities="IMAP4rev1", credential=lambda: Password("alice", password))
        with pytest.raises(ConsentRequired):
            box.check()
        assert [line.split()[1] for line in server.said] == ["CAPABILITY"]

    @pytest.mark.parametrize(
        ("capabilities", "mechanism", "last"),
        [("AUTH=XOAUTH2 AUTH=OAUTHBEARER", "XOAUTH2", ""), ("AUTH=OAUTHBEARER", "OAUTHBEARER", "AQ==")],
    )
    def test_a_refused_token_is_acknowledged_so_that_the_server_can_say_no(
        self, odd, capabilities, mechanism, last
    ):
        answers = {"answer": ["+ eyJzdGF0dXMiOiI0MDAifQ==", "%t NO no such token"]}
        server, box = odd(answers, capabilities=f"IMAP4rev1 {capabilities}", credential=lambda: BEARER)
        with pytest.raises(ConsentRequired, match="no such token"):
            box.check()
        assert server.said[1].endswith(f"AUTHENTICATE {mechanism}")
        assert server.said[-1] == last

    def test_id_is_said_only_where_it_is_offered(self, odd):
        for capabilities, times in (("IMAP4rev1 AUTH=PLAIN", 0), ("IMAP4rev1 AUTH=PLAIN ID", 1)):
            server, box = odd({"ID": '* ID ("name" "odd")\n%t OK done'}, capabilities=capabilities)
            box.check()
            assert sum(" ID (" in line for line in server.said) == times


class TestNumbers:
    def test_modseq_is_asked_for_only_where_it_is_offered(self, odd):
        server, box = odd()
        list(box.pages(None, SINCE))
        assert [line.partition(" ")[2] for line in server.said if "STATUS" in line] == [
            'STATUS "INBOX" (UIDVALIDITY UIDNEXT)'
        ]

    def test_a_mailbox_without_a_sent_folder_is_read_all_the_same(self, odd):
        _, box = odd()
        assert [e.message_id for page in box.pages(None, SINCE) for e in page.envelopes] == [
            "<7@odd.example>"
        ]
        assert box.find_sent("<7@odd.example>") is None
        with pytest.raises(Unsupported) as caught:
            box.keep_sent(mail(), SINCE)
        assert "sentFolder" in caught.value.fix

    @pytest.mark.parametrize("told", ["UIDNEXT 8", "UIDVALIDITY 1", ""])
    def test_a_server_without_lasting_numbers_is_unsupported(self, odd, told):
        _, box = odd({"STATUS": f'* STATUS "INBOX" ({told})\n%t OK done'})
        with pytest.raises(Unsupported):
            box.check()

    def test_a_folder_made_anew_between_status_and_examine_expires_the_cursor(self, odd):
        _, box = odd({"EXAMINE": "* 1 EXISTS\n* OK [UIDVALIDITY 2] anew\n%t OK [READ-ONLY]"})
        with pytest.raises(CursorExpired):
            list(box.pages(None, SINCE))

    def test_an_inbox_that_does_not_open_is_temporary(self, odd):
        _, box = odd({"STATUS": "%t NO [NONEXISTENT] no such mailbox"})
        with pytest.raises(Temporary):
            list(box.pages(None, SINCE))


class TestBrokenMail:
    WELL = ScriptedImap.fetched(
        'RFC822.SIZE 50 INTERNALDATE "24-Nov-2026 01:00:00 +0000"', ScriptedImap.HEADER
    )

    @pytest.mark.parametrize(
        "kept_back",
        [
            "%t OK done",
            "%t NO cannot do that",
            "%t NO Server Unavailable. 15",
            "%t NO UID FETCH Server error while fetching messages",
            "%t NO Internal server error",
            "%t NO [SERVERBUG] Refer to the log",
        ],
    )
    def test_a_mail_that_is_kept_back_for_a_moment_is_given_out_by_the_next_look(self, odd, kept_back):
        _, box = odd({"UID FETCH": [kept_back] * (2 if "OK" in kept_back else 4) + [self.WELL]})
        pages = list(box.pages(None, SINCE))
        assert [envelope for page in pages for envelope in page.envelopes] == []
        assert [page.refused for page in pages] == [1, 0]
        pages = list(box.pages(pages[-1].cursor, SINCE))
        assert [e.message_id for page in pages for e in page.envelopes] == ["<7@odd.example>"]
        assert not any(page.refused for page in pages)
        assert [e for page in box.pages(pages[-1].cursor, SINCE) for e in page.envelopes] == []

    @pytest.mark.parametrize("reply", ["%t OK done", "%t NO Server Unavailable. 15", "%t NO cannot do that"])
    def test_a_mail_that_is_kept_back_for_ever_is_given_up_after_a_day_and_some_looks_which_is_told(
        self, odd, caplog, reply
    ):
        server, box = odd({"UID FETCH": reply})
        pages = looks(box, None, PATIENCE + 1)  # within a second
        assert not any(page.unreadable for page in pages)
        pages = looks(box, aged(pages[-1].cursor), 1)
        assert [page.unreadable for page in pages] == [1, 0]
        assert '"uid": 7' in caplog.text
        server.said.clear()
        assert not any(page.unreadable for page in looks(box, pages[-1].cursor, 1))
        assert not any("FETCH" in line for line in server.said)

    def test_a_day_alone_is_no_reason_to_give_a_mail_up(self, odd):
        _, box = odd({"UID FETCH": "%t OK done"})
        cursor = aged(looks(box, None, 1)[-1].cursor)
        assert not any(page.unreadable for page in looks(box, cursor, PATIENCE - 2))

    def test_a_mail_that_was_moved_while_it_was_looked_at_is_owed_by_nobody(self, odd):
        server, box = odd({"UID FETCH": "%t OK done", "UID SEARCH UID 7": "* SEARCH\n%t OK done"})
        *_, last = box.pages(None, SINCE)
        server.said.clear()
        list(box.pages(last.cursor, SINCE))
        assert not any("FETCH" in line or "EXAMINE" in line for line in server.said)

    def test_a_bad_moment_of_the_server_loses_no_mail_however_many_there_are(self, odd):
        """200 mails come, and after 50 of them the server is out of order."""
        _, box = odd(many(200, broken=lambda uids: max(uids) > 50))
        pages = looks(box, None, 1)
        assert [len(page.envelopes) for page in pages] == [50, 0]
        assert [(page.refused, page.unreadable) for page in pages] == [(150, 0), (0, 0)]
        assert len(pages[-1].cursor) < LONGEST
        _, well = odd(many(200))
        later = looks(well, pages[-1].cursor, 1)
        found = [envelope.ref for page in [*pages, *later] for envelope in page.envelopes]
        assert len({*found}) == len(found) == 200
        assert not any(page.refused or page.unreadable for page in later)

    def test_more_than_can_be_remembered_is_not_passed_over(self, odd):
        """400 mails come, of which the server gives every tenth."""
        _, box = odd(many(400, broken=lambda uids: any(uid % 10 for uid in uids)))
        pages = box.pages(None, SINCE)
        first = next(pages)
        assert (len(first.envelopes), first.refused, first.unreadable) == (20, 180, 0)
        with pytest.raises(Temporary):
            list(pages)
        _, well = odd(many(400))
        later = looks(well, first.cursor, 1)
        assert len({e.ref for page in [first, *later] for e in page.envelopes}) == 400

    def test_no_cursor_is_longer_than_what_keeps_it_takes(self):
        position = Position(at=SINCE)
        for number in range(MOST_OWED):
            position.owe(f"{number}{'x' * 155}", 1, [1], [1])
        assert len(position.page().cursor) < LONGEST
        position.owe("x" * LONGEST, 1, [], [])
        position.owed["x" * LONGEST].given_up = {1}
        with pytest.raises(Temporary):
            position.page()

    @pytest.mark.parametrize("mails", [MANY - 1, MANY])
    @pytest.mark.parametrize("reply", ["%t NO Server Unavailable. 15", "%t NO [SERVERBUG] Refer to the log"])
    def test_a_server_that_is_out_of_order_is_so_however_many_mails_it_holds(self, odd, mails, reply):
        _, box = odd({**many(mails), "UID FETCH": reply})
        if mails < MANY:
            assert [page.refused for page in box.pages(None, SINCE)] == [mails, 0]
        else:
            with pytest.raises(Temporary):
                list(box.pages(None, SINCE))

    def test_many_that_are_owed_are_asked_for_until_they_are_given_up(self, odd):
        """What is refused for ever keeps back no mail that comes later."""
        _, box = odd(many(50, broken=lambda uids: any(uid % 2 for uid in uids)))
        pages = looks(box, None, PATIENCE)
        pages = looks(box, aged(pages[-1].cursor), 1)
        assert sum(page.unreadable for page in pages) == 25
        assert not any(page.refused for page in looks(box, pages[-1].cursor, 1))

    @pytest.mark.parametrize(
        ("items", "alone"), [("RFC822.SIZE 50 (((", True), ("INTERNALDATE 24", True), (None, False)]
    )
    def test_one_mail_that_cannot_be_described_keeps_back_no_other(self, odd, caplog, items, alone):
        """UIDs 1 to 20, of which 7 is refused or described in nonsense as soon as it is asked for."""
        header = "Message-ID: <%s@odd.example>\nDate: Tue, 24 Nov 2026 01:00:00 +0000\n\n"

        def fetched(uid, items):
            text = header % uid
            return f"* {uid} FETCH (UID {uid} {items} BODY[HEADER] {{{len(text) + 3}}}\n{text})"

        def answer(line):
            uids = [uid for part in line.split()[2].split(",") for uid in spread(part)]
            whole = "RFC822.SIZE" in line
            if 7 in uids and items is None:
                return "%t NO cannot do that"
            said = {uid: items if uid == 7 and whole else "RFC822.SIZE 50" for uid in uids}
            return "\n".join([*(fetched(uid, said[uid]) for uid in uids), "%t OK done"])

        server, box = odd(
            {
                "STATUS": '* STATUS "INBOX" (UIDVALIDITY 1 UIDNEXT 21)\n%t OK done',
                "UID SEARCH": f"* SEARCH {' '.join(map(str, range(1, 21)))}\n%t OK done",
                "UID FETCH": answer,
            }
        )
        pages = list(box.pages(None, SINCE))
        seen = [envelope.message_id for page in pages for envelope in page.envelopes]
        assert seen == [f"<{uid}@odd.example>" for uid in range(1, 21) if alone or uid != 7]
        assert ('"uid": 7' in caplog.text) is not alone
        assert sum("FETCH" in line for line in server.said) < 20
        assert list(box.pages(pages[-1].cursor, SINCE))[-1].envelopes == ()

    def test_a_server_that_gives_out_no_headers_at_all_is_not_taken_for_an_empty_mailbox(self, odd):
        _, box = odd(
            {
                "STATUS": '* STATUS "INBOX" (UIDVALIDITY 1 UIDNEXT 21)\n%t OK done',
                "UID SEARCH": f"* SEARCH {' '.join(map(str, range(1, 21)))}\n%t OK done",
                "UID FETCH": "%t NO cannot do that",
            }
        )
        with pytest.raises(Rejected):
            list(box.pages(None, SINCE))

    def test_a_size_in_nonsense_counts_as_none(self, odd):
        header = "Message-ID: <8@odd.example>\nDate: Tue, 24 Nov 2026 01:00:00 +0000\n\n"
        _, box = odd({"UID FETCH": ScriptedImap.fetched("RFC822.SIZE many", header)})
        assert [e.size for page in box.pages(None, SINCE) for e in page.envelopes] == [0]

    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("date", ["", "Date: Fri, 24 Nov 2000 01:00:00 +0000\n"])
    @pytest.mark.parametrize(
        "told",
        [
            "",
            "INTERNALDATE NIL",
            'INTERNALDATE "nonsense"',
            'INTERNALDATE "31-Dec-9999 23:59:59 -1200"',
            'INTERNALDATE "24-Nov-2026 01:00:00 +9900"',
        ],
    )
    def test_a_time_of_arrival_that_is_missing_unreadable_or_impossible_hides_no_mail(
        self, odd, told, date, known
    ):
        header = f"Message-ID: <7@odd.example>\n{date}\n"
        replies = {
            "STATUS": [f'* STATUS "INBOX" (UIDVALIDITY 1 UIDNEXT {uid})\n%t OK done' for uid in (7, 8)],
            "UID FETCH": ScriptedImap.fetched(f"RFC822.SIZE 50 {told}", header),
        }
        _, box = odd(replies if known else {"UID FETCH": replies["UID FETCH"]})
        cursor = [*box.pages(None, SINCE)][-1].cursor if known else None
        assert [e.message_id for page in box.pages(cursor, SINCE) for e in page.envelopes] == [
            "<7@odd.example>"
        ]

    @pytest.mark.parametrize(
        ("flags", "seen"),
        [("(7 \\DRAFT)", False), ("(7 $Draft Draft)", True), ("()", True), ("NIL", True), ("7", True), ("((\\Draft))", True)],
    )  # fmt: skip
    def test_a_draft_is_told_by_its_flag_in_any_case_whatever_stands_beside_it(self, odd, flags, seen):
        told = f'RFC822.SIZE 50 INTERNALDATE "24-Nov-2026 01:00:00 +0000" FLAGS {flags}'
        _, box = odd({"UID FETCH": ScriptedImap.fetched(told, ScriptedImap.HEADER)})
        assert any(page.envelopes for page in box.pages(None, SINCE)) is seen

    def test_an_impossible_time_of_arrival_is_none_to_a_live_search(self, odd):
        from shared.providers.base import Query

        told = 'RFC822.SIZE 50 INTERNALDATE "31-Dec-9999 23:59:59 -1200"'
        _, box = odd({"UID FETCH": ScriptedImap.fetched(told, ScriptedImap.HEADER)}, use=ImapSearcher)
        assert [hit.message_id for hit in box.search(Query(text="Odd")).mails] == ["<7@odd.example>"]

    @pytest.mark.parametrize(
        "structure",
        [
            "NIL",
            '("MESSAGE" "DELIVERY-STATUS")',
            '("MESSAGE" NIL NIL NIL NIL NIL 1)',
            '(("A" "B" NIL NIL NIL "7BIT" 1) "REPORT")',
            "(" * 3000,
            ")",
            "12",
        ],
    )
    def test_a_structure_that_cannot_be_read_is_no_report(self, odd, structure):
        _, box = odd({"UID FETCH.*BODYSTRUCTURE": f"* 1 FETCH (UID 7 BODYSTRUCTURE {structure})\n%t OK done"})
        [ref] = [envelope.ref for page in box.pages(None, SINCE) for envelope in page.envelopes]
        with pytest.raises(NotFound):
            box.returned_headers(ref)

    def test_a_type_in_any_letters_is_no_report(self):
        assert [*sections((b"MESS\xe4GE", b"\xff", None, None, None, b"7BIT", 1))] == []

    def test_a_report_in_broken_base64_says_nothing(self, odd):
        status = '("MESSAGE" "DELIVERY-STATUS" NIL NIL NIL "BASE64" 5)'
        answers = {
            "UID FETCH.*BODYSTRUCTURE": f"* 1 FETCH (UID 7 BODYSTRUCTURE ({status} {status} REPORT))\n%t OK done",
            r"UID FETCH.*BODY\.PEEK\[1\]": '* 1 FETCH (UID 7 BODY[1]<0> "UmVwb" BODY[2]<0> "WDogeQ==")\n%t OK done',
        }
        _, box = odd(answers)
        [ref] = [envelope.ref for page in box.pages(None, SINCE) for envelope in page.envelopes]
        assert box.returned_headers(ref).strip() == b"X: y"

    def test_no_text_is_read_where_a_search_finds_words_and_not_strings(self, odd):
        """Gmail: https://developers.google.com/workspace/gmail/imap/imap-extensions"""
        text = '* 1 FETCH (UID 7 BODYSTRUCTURE ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 50 2))\n%t OK done'
        server, box = odd({"UID FETCH.*BODYSTRUCTURE": text}, capabilities="IMAP4rev1 AUTH=PLAIN X-GM-EXT-1")
        [ref] = [envelope.ref for page in box.pages(None, SINCE) for envelope in page.envelopes]
        with pytest.raises(NotFound):
            box.returned_headers(ref)
        assert not any("SEARCH UID 7 BODY" in line or "BODY.PEEK[1]" in line for line in server.said)

    def test_a_mail_that_is_there_but_empty_is_not_found(self, odd):
        _, box = odd({r"UID FETCH.*BODY\.PEEK\[\]": '* 1 FETCH (UID 7 BODY[]<0> "")\n%t OK done'})
        [ref] = [envelope.ref for page in box.pages(None, SINCE) for envelope in page.envelopes]
        with pytest.raises(NotFound):
            box.fetch(ref)

    def test_a_mail_deleted_between_two_parts_is_not_found_rather_than_cut(self, odd):
        part = f"* 1 FETCH (UID 7 BODY[]<0> {{{CHUNK}}}\n{'x' * CHUNK})\n%t OK done"
        _, box = odd({r"UID FETCH.*BODY\.PEEK\[\]<0": part, r"UID FETCH.*BODY\.PEEK\[\]": "%t OK done"})
        [ref] = [envelope.ref for page in box.pages(None, SINCE) for envelope in page.envelopes]
        with pytest.raises(NotFound):
            box.fetch(ref)

    @pytest.mark.parametrize(("said", "parts"), [(200_000_000, 1), (50, 3)])
    def test_a_mail_that_is_too_large_is_refused_whatever_the_server_says_of_it(self, odd, said, parts):
        def part(line):
            offset = line.partition("<")[2].partition(".")[0]
            text = f"* 1 FETCH (UID 7 RFC822.SIZE {said} BODY[]<{offset}> {{{CHUNK}}}\n"
            return f"{text}{'x' * CHUNK})\n%t OK done"

        server, box = odd({r"UID FETCH.*BODY\.PEEK\[\]": part})
        [ref] = [envelope.ref for page in box.pages(None, SINCE) for envelope in page.envelopes]
        box.largest = 3 * CHUNK
        with pytest.raises(Rejected):
            box.fetch(ref)
        assert sum("BODY.PEEK[]" in line for line in server.said) <= parts + 1


class TestGoingSilent:
    """A server that says nothing any more when it is asked for a certain mail."""

    def test_a_mail_without_an_answer_keeps_back_no_other_and_is_asked_for_by_the_next_looks(self, odd):
        server, box = odd(many(20, broken=lambda uids: 7 in uids, reply=HANG))
        pages = looks(box, None, 1)
        assert [(len(page.envelopes), page.refused) for page in pages] == [(19, 1), (0, 0)]
        assert sum("FETCH" in line and spread_of(line) == [7] for line in server.said) == 1
        assert sum("AUTHENTICATE" in line for line in server.said) == 3
        SILENCES.ask(("localhost", server.port, "tls"))
        server.said.clear()
        assert [page.refused for page in looks(box, pages[-1].cursor, 1)] == [1, 0]
        assert sum("FETCH" in line for line in server.said) == 1
        _, well = odd(many(20))
        later = looks(well, pages[-1].cursor, 1)
        assert [e.message_id for page in later for e in page.envelopes] == ["<7@odd.example>"]

    def test_it_is_given_up_in_the_end_and_on_record(self, odd):
        _, box = odd(many(3, broken=lambda uids: 2 in uids, reply=HANG))
        pages = looks(box, None, PATIENCE)
        assert sum(page.refused for page in pages) == PATIENCE
        pages = looks(box, aged(pages[-1].cursor), 1)
        assert [page.unreadable for page in pages] == [1, 0]

    @pytest.mark.parametrize("bad", [{1}, {1, 2, 3}, {*range(1, 21)}])
    def test_a_server_that_gives_no_other_ends_the_look_in_time_and_owes_nothing(self, odd, bad):
        server, box = odd(many(max(bad), broken=lambda uids: bad & {*uids}, reply=HANG))
        with pytest.raises(Temporary):
            looks(box, None, 1)
        assert sum("FETCH" in line and bool(bad & {*spread_of(line)}) for line in server.said) <= 5

    @pytest.mark.parametrize("bad", [{1, 2}, {2, 3, 11}])
    def test_several_such_mails_keep_back_no_other_for_long(self, odd, bad):
        server, box = odd(many(20, broken=lambda uids: bad & {*uids}, reply=HANG))
        first = looks(box, Position(at=SINCE, folders={"INBOX": Mark(1, 1)}).cursor, 1)
        assert sum("FETCH" in line and bool(bad & {*spread_of(line)}) for line in server.said) <= 3
        pages = first + looks(box, first[-1].cursor, 2)
        found = [e.ref for page in pages for e in page.envelopes]
        assert len({*found}) == len(found) == 20 - len(bad)
        assert {*json.loads(pages[-1].cursor)["owed"]["INBOX"][1]} == {*map(str, bad)}

    def test_what_was_never_asked_for_is_never_given_up(self, odd):
        """Owed are two silent mails and some that the server would give, of which many looks ask for none."""
        bad = {1, 2, 3, 4, 5, 6}
        owed = {"INBOX": Kept(1, {uid: (0, 0 if uid in bad else PATIENCE - 1) for uid in range(1, 10)})}
        cursor = Position(at=SINCE, folders={"INBOX": Mark(1, 10)}, owed=owed).cursor
        _, box = odd(many(9, broken=lambda uids: bad & {*uids}, reply=HANG))
        pages = looks(box, cursor, 2)
        assert not any(page.unreadable for page in pages)
        _, well = odd(many(9))
        later = looks(well, pages[-1].cursor, 1)
        assert len({e.ref for page in [*pages, *later] for e in page.envelopes}) == 9

    def test_batches_that_were_not_reached_are_not_counted(self, odd):
        owed = {"INBOX": Kept(1, dict.fromkeys(range(1, 30), (0, PATIENCE - 1)))}
        cursor = Position(at=SINCE, folders={"INBOX": Mark(1, 30)}, owed=owed).cursor
        _, box = odd(many(29, broken=lambda uids: {*uids} & {1, 2}, reply=HANG))
        pages = looks(box, cursor, 1)
        assert [(page.refused, page.unreadable) for page in pages] == [(27, 2), (0, 0)]

    def test_a_lone_new_one_is_owed_if_another_mail_is_given_and_new_folders_are_read(self, odd):
        server, box = odd(many(7, broken=lambda uids: 7 in uids, reply=HANG))
        cursor = Position(at=SINCE, folders={"INBOX": Mark(1, 7)}).cursor
        pages = looks(box, cursor, 1)
        assert [(len(page.envelopes), page.refused) for page in pages] == [(0, 1), (0, 0)]
        assert sum("FETCH" in line for line in server.said) == 2

    def test_what_is_owed_is_asked_for_in_time_however_many_of_it_are_silent(self, odd):
        owed = {"INBOX": Kept(1, {uid: (int(time.time()), 0) for uid in range(1, 101)})}
        cursor = Position(at=SINCE, folders={"INBOX": Mark(1, 101)}, owed=owed).cursor
        bad = {*range(1, 101, 9)}  # one in each batch
        server, box = odd(many(101, broken=lambda uids: bad & {*uids}, reply=HANG))
        pages = looks(box, cursor, 1)
        assert "<101@odd.example>" in {e.message_id for page in pages for e in page.envelopes}
        assert sum("FETCH" in line and bool(bad & {*spread_of(line)}) for line in server.said) <= 4


class TestAFolderThatGivesNothing:
    """Projects is chosen, and in it lie only mails that the server never gives."""

    @pytest.fixture(params=[(1, HANG), (3, HANG), (MANY, "%t NO Server Unavailable. 15"), (MANY, "%t NO no")])
    def bad(self, request):
        return request.param

    @pytest.fixture
    def holding(self, odd):
        """A mailbox with so many of them there, and as many mails in INBOX as are asked for.

        What is said to who asks for them; None: they are given.
        """

        def opens(inbox, last, said, settings):
            def examine(line):
                opened[:] = [last if "Projects" in line else inbox]
                return ScriptedImap.OPENED

            opened, well = [inbox], many(max(inbox, last))
            replies = {
                "STATUS.*Projects": f'* STATUS "Projects" (UIDVALIDITY 1 UIDNEXT {last + 1})\n%t OK done',
                "STATUS": many(inbox)["STATUS"],
                "EXAMINE": examine,
                "UID SEARCH": lambda _: f"* SEARCH {' '.join(map(str, range(1, opened[0] + 1)))}\n%t OK done",
                "UID FETCH": lambda line: said if said and opened != [inbox] else well["UID FETCH"](line),
            }
            return odd(replies, settings=settings)[1]

        return opens

    @pytest.fixture
    def projects(self, holding, bad):
        return lambda inbox: holding(inbox, *bad, {"folders": ["Projects"]})

    def test_it_keeps_back_no_other_is_asked_for_by_the_next_looks_and_given_up_in_the_end(
        self, projects, bad
    ):
        box = projects(2)
        pages = looks(box, None, 1)
        assert sum(len(page.envelopes) for page in pages) == 2
        assert sum(page.refused for page in pages) == bad[0]
        given_up = 0
        while any(page.refused for page in pages):
            pages = looks(box, aged(pages[-1].cursor), 1)
            given_up += sum(page.unreadable for page in pages)
        assert given_up == bad[0]

    def test_where_the_server_gives_no_mail_at_all_nothing_is_owed(self, projects):
        with pytest.raises((Temporary, Rejected)):
            looks(projects(0), None, 1)

    @pytest.mark.parametrize("settings", [{"sentFolder": "Projects"}, {"folders": ["Projects"]}])
    def test_more_of_it_than_can_be_remembered_keeps_back_no_other_folder_and_is_not_lost(
        self, holding, settings
    ):
        last = MOST_OWED + 1
        box = holding(2, last, "%t NO Server Unavailable. 15", settings)
        pages = []
        for _ in range(2):
            with pytest.raises(Temporary):
                pages.extend(box.pages(pages[-1].cursor if pages else None, SINCE))
        found = [(e.folder, e.message_id) for page in pages for e in page.envelopes]
        assert found == [("INBOX", f"<{uid}@odd.example>") for uid in (1, 2)]
        pages = looks(holding(2, last, None, settings), pages[-1].cursor, 1)
        assert {e.folder for page in pages for e in page.envelopes} == {"Projects"}
        assert sum(len(page.envelopes) for page in pages) == last


class TestHangingUp:
    """A server that ends the session when it is asked for a certain mail, most likely because it crashes."""

    def test_a_mail_that_ends_the_session_keeps_back_no_other_and_is_asked_for_by_the_next_looks(self, odd):
        server, box = odd(many(200, broken=lambda uids: 77 in uids, reply=CLOSE))
        pages = looks(box, None, 1)
        assert [(len(page.envelopes), page.refused, page.unreadable) for page in pages] == [
            (199, 1, 0),
            (0, 0, 0),
        ]
        assert sum("AUTHENTICATE" in line for line in server.said) < MANY + 2
        server.said.clear()
        assert [page.refused for page in looks(box, pages[-1].cursor, 1)] == [1, 0]
        assert sum("AUTHENTICATE" in line for line in server.said) < 4
        _, well = odd(many(200))
        later = looks(well, pages[-1].cursor, 1)
        assert [e.message_id for page in later for e in page.envelopes] == ["<77@odd.example>"]

    @pytest.mark.parametrize("reply", [CLOSE, "* BYE Connection is closed. 13", "gibberish"])
    def test_it_is_given_up_in_the_end_and_on_record(self, odd, reply):
        _, box = odd(many(3, broken=lambda uids: 2 in uids, reply=reply))
        pages = looks(box, None, PATIENCE)
        assert sum(page.refused for page in pages) == PATIENCE
        pages = looks(box, aged(pages[-1].cursor), 1)
        assert [page.unreadable for page in pages] == [1, 0]
        assert not any(page.refused for page in looks(box, pages[-1].cursor, 1))

    def test_a_session_that_ends_by_chance_costs_no_mail_and_not_its_date(self, odd):
        """The mail's own date is from before the connection, so that it is known by its arrival only."""
        header = ScriptedImap.HEADER.replace("Subject", "Date: Tue, 24 Nov 2020 01:00:00 +0000\nSubject")
        well = ScriptedImap.fetched('RFC822.SIZE 50 INTERNALDATE "24-Nov-2026 01:00:00 +0000"', header)
        _, box = odd({"UID FETCH": [CLOSE, well]})
        pages = looks(box, None, 1)
        assert [(len(page.envelopes), page.refused) for page in pages] == [(1, 0), (0, 0)]

    @pytest.mark.parametrize(
        ("command", "before"),
        [
            ("AUTHENTICATE", ["+ "]),
            ("EXAMINE", ["* 1 EXISTS\n* OK [UIDVALIDITY 1] valid\n%t OK [READ-ONLY] done"]),
            ("UID SEARCH UID 7$", []),
        ],
    )
    @pytest.mark.parametrize("down", [CLOSE, "* BYE going down", HANG])
    def test_a_server_that_is_down_after_that_ends_the_look(self, odd, command, before, down):
        _, box = odd({"UID FETCH": CLOSE, command: [*before, down]})
        with pytest.raises(Temporary):
            looks(box, None, 1)

    @pytest.mark.parametrize("mails", [MANY, 200])
    def test_a_server_that_crashes_at_every_mail_owes_nothing_and_is_left_in_peace_soon(self, odd, mails):
        server, box = odd(many(mails, broken=lambda _: True, reply=CLOSE))
        with pytest.raises(Temporary):
            looks(box, None, 1)
        assert sum("AUTHENTICATE" in line for line in server.said) <= MOST_LOST + 6

    @pytest.mark.parametrize("bad", [{*range(25, 200, 25)}, {*range(1, 15)}], ids=["spread", "in a row"])
    def test_many_such_mails_are_got_over_too(self, odd, bad):
        _, box = odd(many(200, broken=lambda uids: bad & {*uids}, reply=CLOSE))
        pages = looks(box, None, 2)
        found = [e.ref for page in pages for e in page.envelopes]
        assert len({*found}) == len(found) == 200 - len(bad)
        assert not any(page.unreadable for page in pages)
        assert {*json.loads(pages[-1].cursor)["owed"]["INBOX"][1]} == {*map(str, bad)}

    @pytest.mark.parametrize("size", [2, MANY - 1])
    def test_each_of_a_few_is_asked_for_alone_whatever_the_others_do(self, odd, size):
        """Or one that the server would give is given up in the end because its neighbours end the session."""
        _, box = odd(many(size, broken=lambda uids: {*uids} != {size}, reply=CLOSE))
        pages = looks(box, None, 1)
        assert [e.message_id for page in pages for e in page.envelopes] == [f"<{size}@odd.example>"]

    def test_a_folder_that_is_numbered_anew_meanwhile_is_looked_at_again(self, odd):
        anew = "* 1 EXISTS\n* OK [UIDVALIDITY 2] valid\n%t OK [READ-ONLY] done"
        old = anew.replace("VALIDITY 2", "VALIDITY 1")
        _, box = odd({"UID FETCH": CLOSE, "EXAMINE": [old, anew]})
        with pytest.raises(Temporary):
            looks(box, None, 1)


class TestLock:
    """A server that dies of a mail, and lets nobody in until the look is over."""

    NOT_NOW = ("%t NO [INUSE] mailbox locked", "* BYE [INUSE] mailbox locked", CLOSE)

    @pytest.fixture
    def dying(self, odd):
        """A mailbox on a server that dies of the `bad` mails in INBOX, and a function that looks into it."""

        def start(last, bad, answers=self.NOT_NOW[0]):
            def fetch(line):
                said = usual[-1]["UID FETCH"](line)
                locked.extend([line] if said == CLOSE else [])
                return said

            def look(cursor, last=last, bad=bad):
                """One look, before which the lock is gone: pages, cursor, and what ended it."""
                locked.clear()
                usual.append(many(last, broken=lambda uids: {*bad} & {*uids}, reply=CLOSE))
                pages, end = [], None
                try:
                    pages.extend(box.pages(cursor, SINCE))
                except Temporary as error:
                    end = error
                return pages, pages[-1].cursor if pages else cursor, end

            usual, locked = [many(last)], []
            commands = [one for one in usual[0] if one != "UID FETCH"]
            now = {one: lambda line, one=one: answer(usual[-1][one], line) for one in commands}
            _, box = odd(
                {**now, "UID FETCH": fetch, "AUTHENTICATE": lambda _: answers if locked else "+ "},
            )
            return look

        def answer(reply, line):
            return reply(line) if callable(reply) else reply

        return start

    @staticmethod
    def found(pages):
        return sorted(
            int(e.message_id.strip("<>").partition("@")[0]) for page in pages for e in page.envelopes
        )

    @pytest.mark.parametrize("answers", NOT_NOW)
    @pytest.mark.parametrize("bad", [{2}, {1}, {2, 9}])
    def test_mails_it_dies_of_stop_no_other_and_are_given_up_in_the_end(self, dying, bad, answers):
        look, cursor, found, given_up = dying(12, bad, answers), None, [], 0
        for number in range(4):
            pages, cursor, _ = look(cursor, last=12 + number)  # new mail comes, too
            found += self.found(pages)
        assert sorted(found) == [uid for uid in range(1, 16) if uid not in bad]
        for _ in range(PATIENCE * len(bad)):
            pages, cursor, _ = look(aged(cursor), last=15)
            given_up += sum(page.unreadable for page in pages)
        assert given_up == len(bad)
        assert json.loads(cursor)["shut"] is False

    def test_new_mail_comes_before_it_and_a_page_at_a_time(self, dying):
        look = dying(2, {2})
        _, cursor, _ = look(None)
        pages, *_ = look(cursor, last=2 + MANY)
        assert [len(page.envelopes) for page in pages][:2] == [MANY - 1, 1]

    def test_a_lone_one_comes_once_the_server_is_well(self, dying):
        look = dying(1, {1})
        _, cursor, end = look(None)
        assert isinstance(end, Temporary)
        pages, *_ = look(cursor, bad=())
        assert self.found(pages) == [1]

    @pytest.mark.parametrize("known", [0, 4])
    def test_a_server_that_is_down_for_days_loses_no_mail(self, dying, known):
        look = dying(known + 3, range(1, known + 4))
        cursor, given_up = Position(at=SINCE, folders={"INBOX": Mark(1, known + 1)}).cursor, 0
        for _ in range(4 * PATIENCE):
            pages, cursor, end = look(aged(cursor))
            assert isinstance(end, Temporary)
            given_up += sum(page.unreadable for page in pages)
        assert given_up == 0
        pages, *_ = look(cursor, bad=())
        assert self.found(pages) == [*range(known + 1, known + 4)]

    @pytest.mark.parametrize("second", [201, 350])
    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_two_in_different_batches_cost_no_mail_but_themselves(self, dying, second, elsewhere):
        """All 200 of the first batch are owed then, which is as many as can be."""
        bad = {50, second}
        look, found, given_up = dying(600, bad), [], 0
        pages, cursor, _ = look(None)
        cursor = moved(cursor) if elsewhere else cursor
        for _ in range(2 * PATIENCE + 6):
            found += self.found(pages)
            given_up += sum(page.unreadable for page in pages)
            pages, cursor, end = look(aged(cursor))
        assert end is None
        assert sorted(found) == [uid for uid in range(1, 601) if uid not in bad]
        assert given_up == len(bad)

    def test_where_no_room_is_left_for_its_batch_the_look_ends_and_passes_nothing_over(self, odd):
        """1 to 3 are refused and owed; 150 ends the session, and with it 4 to 203 would be."""

        def fetch(line):
            if 150 in spread_of(f"tag {line}"):
                locked.append(line)
                return CLOSE
            return refusing["UID FETCH"](line)

        locked, refusing = [], many(210, broken=lambda uids: {1, 2, 3} & {*uids})
        lock = {"AUTHENTICATE": lambda _: self.NOT_NOW[0] if locked else "+ "}
        server, box = odd({**refusing, "UID FETCH": fetch, **lock})
        owed, pages = {"INBOX": Kept(1, dict.fromkeys((1, 2, 3), (int(time.time()), 1)))}, []
        cursor = Position(at=SINCE, folders={"INBOX": Mark(1, 4)}, owed=owed, elsewhere=True).cursor
        with pytest.raises(Full):
            pages.extend(box.pages(cursor, SINCE))
        assert sum("AUTHENTICATE" in line for line in server.said) == 2
        _, well = odd(many(210))
        assert self.found(looks(well, pages[-1].cursor, 1)) == [*range(1, 211)]

    @pytest.mark.parametrize("times", [1, PATIENCE])
    def test_it_keeps_back_nothing_that_is_owed_in_another_folder(self, dying, times):
        asked = int(time.time()), times
        owed = {"INBOX": Kept(1, {2: asked}), "Projects": Kept(1, dict.fromkeys((3, 4, 5), asked))}
        cursor = Position(at=SINCE, folders={"INBOX": Mark(1, 13)}, owed=owed, shut=True).cursor
        look, found = dying(12, {2}), []
        for _ in range(2):
            pages, cursor, _ = look(cursor)
            found += self.found(pages)
        assert found == [3, 4, 5]

    def test_a_server_that_only_ends_the_session_instead_of_opening_the_folder_loses_no_mail(self, odd):
        owed = {"INBOX": Kept(1, dict.fromkeys(range(1, 10), (0, PATIENCE)))}
        cursor = Position(at=SINCE, folders={"INBOX": Mark(1, 21)}, owed=owed).cursor
        _, box = odd({**many(20), "EXAMINE": CLOSE})
        pages = looks(box, cursor, PATIENCE + 1)
        assert not any(page.unreadable for page in pages)
        _, well = odd(many(20))
        assert self.found(looks(well, pages[-1].cursor, 1)) == [*range(1, 10)]

    def test_for_how_long_it_wants_to_be_left_alone_is_heard(self, dying):
        *_, end = dying(2, {2}, "%t NO [LIMIT] too many connections")(None)
        assert isinstance(end, RateLimited)
        assert end.retry_after == 300


class TestOwedElsewhere:
    """A mail in Projects, a folder that is looked through only after something was moved."""

    LIST = '* LIST () "/" INBOX\n* LIST () "/" Projects\n%t OK done'
    NOTHING = "* SEARCH\n%t OK done"

    @staticmethod
    def cursor(**more):
        return Position(at=SINCE, **{"folders": {"INBOX": Mark(1, 8)}, "elsewhere": True, **more}).cursor

    def test_patience_ends_although_it_is_found_again_and_again(self, odd):
        server, box = odd({"LIST": self.LIST, "UID FETCH": "%t OK done"})
        cursor = self.cursor()
        for _ in range(PATIENCE):
            cursor = moved(looks(box, cursor, 1)[-1].cursor)
        pages = looks(box, aged(cursor), 1)
        assert [page.unreadable for page in pages] == [1, 0]
        server.said.clear()
        pages = looks(box, moved(pages[-1].cursor), 1)
        assert [(page.refused, page.unreadable) for page in pages] == [(0, 0)]
        assert any("EXAMINE Projects" in line.replace('"', "") for line in server.said)
        assert not any("FETCH" in line for line in server.said)

    @pytest.mark.parametrize("change", [{"UID SEARCH": NOTHING}, {"LIST": '* LIST () "/" INBOX\n%t OK done'}])
    def test_what_was_given_up_is_forgotten_where_no_search_finds_it(self, odd, change):
        _, box = odd({"LIST": self.LIST, **change})
        cursor = self.cursor(owed={"Projects": Kept(1, given_up={7})})
        assert "Projects" not in looks(box, cursor, 1)[-1].cursor

    def test_it_is_not_forgotten_where_its_folder_does_not_open(self, odd):
        closed = "%t NO it is being repaired"
        _, box = odd({"LIST": self.LIST, 'EXAMINE "?Projects': closed, "UID SEARCH": self.NOTHING})
        pages = looks(box, self.cursor(owed={"Projects": Kept(1, {7: (0, 1)})}, elsewhere=False), 1)
        assert [page.refused for page in pages] == [1, 0]
        _, well = odd({"LIST": self.LIST, "UID SEARCH": self.NOTHING})
        assert [e.ref for page in looks(well, pages[-1].cursor, 1) for e in page.envelopes]

    def test_a_folder_that_stays_closed_is_given_up_in_the_end(self, odd):
        _, box = odd({"LIST": self.LIST, 'EXAMINE "?Projects': "%t NO it is being repaired"})
        cursor = self.cursor(owed={"Projects": Kept(1, {7: (0, PATIENCE - 1)})}, elsewhere=False)
        assert [page.unreadable for page in looks(box, cursor, 1)] == [1, 0]

    @pytest.mark.parametrize(
        ("trouble", "was_asked_for"),
        [
            ({'EXAMINE "?Projects': "%t NO it is being repaired"}, True),
            ({'EXAMINE "?Projects': "%t NO [UNAVAILABLE] it is being repaired"}, False),
            ({'EXAMINE "?Projects': "%t NO [OVERQUOTA] too much"}, False),
            ({'EXAMINE "?Projects': "* BYE it broke"}, False),
            ({'EXAMINE "?Projects': CLOSE}, False),
            ({"UID FETCH 5": "%t NO [UNAVAILABLE] not now"}, True),
        ],
    )
    def test_one_that_fails_each_time_keeps_back_no_new_mail_and_is_given_up_only_if_it_was_asked_for(
        self, odd, trouble, was_asked_for
    ):
        _, box = odd({"LIST": self.LIST, **trouble, **many(7)})
        owed = {"Projects": Kept(1, {5: (0, PATIENCE - 2)})}
        first = looks(box, self.cursor(owed=owed, elsewhere=False, folders={"INBOX": Mark(1, 7)}), 1)
        assert [(e.folder, e.message_id) for page in first for e in page.envelopes] == [
            ("INBOX", "<7@odd.example>")
        ]
        assert [(page.refused, page.unreadable) for page in first] == [(1, 0), (0, 0), (0, 0)]
        _, well = odd({"LIST": self.LIST, **many(7)})
        pages = looks(well, first[-1].cursor, 1)
        assert [(e.folder, e.message_id) for page in pages for e in page.envelopes] == [
            ("Projects", "<5@odd.example>")
        ]
        pages = looks(box, first[-1].cursor, 1)
        assert [(page.refused, page.unreadable) for page in pages] == [
            (0, 1) if was_asked_for else (1, 0),
            (0, 0),
        ]

    def test_more_of_it_than_can_be_remembered_keeps_back_nothing_that_is_owed_in_another_folder(self, odd):
        """Projects holds 250 mails that the server refuses; one of INBOX once ended a session."""

        def of_folder(command):
            def answer(line):
                reply = projects[command] if "Projects" in opened[-1] else inbox[command]
                return reply(line) if callable(reply) else reply

            return answer

        def examine(line):
            opened.append(line)
            return ScriptedImap.OPENED

        opened, inbox, projects = ["INBOX"], many(7), many(250, broken=lambda _: True)
        told = {one: of_folder(one) for one in inbox if one != "STATUS"}
        _, box = odd({"LIST": self.LIST, "STATUS": inbox["STATUS"], "EXAMINE": examine, **told})
        owed, pages = {"INBOX": Kept(1, {2: (int(time.time()), 1)})}, []
        with pytest.raises(Temporary, match="too many"):
            pages.extend(box.pages(self.cursor(owed=owed, shut=True), SINCE))
        assert [e.message_id for page in pages for e in page.envelopes] == ["<2@odd.example>"]
        assert json.loads(pages[-1].cursor)["elsewhere"] is True

    def test_mail_of_a_folder_that_was_renamed_is_looked_for_elsewhere(self, odd):
        listed = self.LIST.replace("Projects", "Renamed")
        _, box = odd({"LIST": listed, 'EXAMINE "?Projects': "%t NO no such folder"})
        cursor = self.cursor(owed={"Projects": Kept(1, {7: (0, 1)})}, elsewhere=False)
        assert [e.folder for page in looks(box, cursor, 1) for e in page.envelopes] == ["Renamed"]

    def test_mail_of_a_folder_that_was_numbered_anew_is_looked_for_elsewhere(self, odd):
        _, box = odd({"LIST": self.LIST})
        cursor = self.cursor(owed={"Projects": Kept(0, {7: (0, 1)})}, elsewhere=False)
        assert [e.folder for page in looks(box, cursor, 1) for e in page.envelopes] == ["Projects"]

    def test_it_is_asked_for_also_after_another_folder_was_numbered_anew(self, odd):
        _, box = odd({"LIST": self.LIST, "UID SEARCH": self.NOTHING})
        cursor = self.cursor(owed={"Projects": Kept(1, {7: (0, 1)})}, folders={"INBOX": Mark(1, 9)})
        with pytest.raises(CursorExpired) as caught:
            looks(box, cursor, 1)
        pages = looks(box, caught.value.resume, 1)
        assert [e.folder for page in pages for e in page.envelopes] == ["Projects"]


class TestLooking:
    LIST = '* LIST () "/" INBOX\n* LIST () "/" Projects\n%t OK done'

    def test_what_the_server_keeps_back_is_told_after_all_that_it_gives(self, odd):
        refused = ["%t NO cannot do that"] * 4
        _, box = odd({"LIST": self.LIST, "UID FETCH": [*refused, TestBrokenMail.WELL]})
        ids = ["<7@odd.example>", *(f"<{n}@x.example>" for n in range(9))]
        looked = box.look(ids)
        assert next(looked).folder == "Projects"
        with pytest.raises(Withheld) as caught:
            next(looked)
        assert (caught.value.mails, caught.value.message_ids) == (1, frozenset(ids[:5]))

    def test_nothing_is_told_of_what_is_gone(self, odd):
        _, box = odd({"UID FETCH": "%t OK done", "UID SEARCH UID 7": "* SEARCH\n%t OK done"})
        assert list(box.look(["<7@odd.example>"])) == []

    def test_a_live_search_shows_what_the_server_gives(self, odd):
        from shared.providers.base import Hits, Query

        line = '* {0} FETCH (UID {0} INTERNALDATE "24-Nov-2026 01:00:00 +0000")\n'
        dates = line.format(7) + line.format(8) + "%t OK done"
        replies = {r"UID FETCH \S+ \(INTERNALDATE\)": dates, "UID FETCH": "%t NO cannot do that"}
        _, box = odd(replies | {"UID SEARCH": "* SEARCH 7 8\n%t OK done"}, use=ImapSearcher)
        assert box.search(Query(text="Odd")) == Hits()
        assert box.search(Query(text="Odd", limit=1)) == Hits(more=True)


class TestRefusals:
    def test_or_that_is_not_understood_is_asked_piece_by_piece(self, odd):
        server, box = odd({"UID SEARCH OR": "%t BAD Command Argument Error. 12"})
        assert [envelope.message_id for envelope in box.look(["<7@odd.example>"])] == ["<7@odd.example>"]
        assert [line.split()[4] for line in server.said if "SEARCH HEADER" in line] == [
            "Message-ID",
            "In-Reply-To",
            "References",
        ]

    def test_a_charset_that_is_not_known_is_said_so(self, odd):
        from shared.providers.base import Query

        _, box = odd(
            {"UID SEARCH CHARSET": "%t NO [BADCHARSET (US-ASCII)] no"},
            capabilities="IMAP4rev1 AUTH=PLAIN LITERAL+",
            use=ImapSearcher,
        )
        with pytest.raises(Rejected, match="BADCHARSET"):
            box.search(Query(text="Größe"))

    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            ("%t NO [UNAVAILABLE] later", Temporary),
            ("%t NO [LIMIT] later", Temporary),
            ("%t NO Server busy", Temporary),
            ("%t NO [OVERQUOTA] full", RateLimited),
            ("%t NO [NOPERM] not yours", Rejected),
            ("%t NO [NOPERM] Permission denied: Offers [expired]", Rejected),
            ("%t NO [NONEXISTENT] Mailbox doesn't exist: Tenders [expired]", Rejected),
            ("%t NO Mailbox doesn't exist: Busy [unavailable]", Rejected),
            ("%t NO [AUTHORIZATIONFAILED] not yours", ConsentRequired),
            ("* BYE shutting down", HungUp),
            ("* BYE rate limit exceeded", RateLimited),
            ("gibberish", HungUp),
            (CLOSE, HungUp),
            (HANG, Silent),
            ("%t NO no", Rejected),
            ("%t BAD no", Rejected),
            ("* SEARCH seven\n%t OK done", Rejected),
        ],
    )
    def test_every_failure_of_a_command_is_told_by_its_kind(self, odd, reply, error):
        _, box = odd({"UID SEARCH": reply})
        with pytest.raises(error) as caught:
            list(box.pages(None, SINCE))
        assert type(caught.value) is error

    def test_a_folder_whose_name_sounds_like_trouble_is_still_just_gone(self, odd):
        replies = {'STATUS "Rate': "%t NO Mailbox doesn't exist: Rate limit exceeded, busy"}
        _, box = odd(replies, settings={"folders": ["Rate limit exceeded, busy"]})
        assert [e.message_id for page in box.pages(None, SINCE) for e in page.envelopes] == [
            "<7@odd.example>"
        ]

    @pytest.mark.parametrize("reply", ["%t NO locked", "%t NO [NOPERM] Permission denied"])
    def test_a_folder_that_cannot_be_opened_is_not_looked_through(self, odd, reply):
        lines = '* LIST () "/" INBOX\n* LIST (\\Noselect) "/" Root\n* LIST () "/" Locked\n%t OK done'
        server, box = odd({"LIST": lines, 'EXAMINE "?Locked': reply})
        assert [envelope.folder for envelope in box.look(["<7@odd.example>"])] == ["INBOX"]
        assert not any("Root" in line for line in server.said)


class TestLargeAnswers:
    """The rest of one that is given up is never taken for the next one's answer."""

    PATIENT = Timeouts(5, 5, 20)

    @pytest.mark.parametrize(
        ("command", "line"),
        [
            ("CAPABILITY", "* X"),
            ("STATUS", "* 1 FETCH (FLAGS (x))"),
            ("STATUS", "* STATUS {1}\r\nx"),
            ("UID FETCH", "* 1 FETCH (FLAGS (" + "x" * 2000 + "))"),
        ],
    )
    def test_one_without_an_end_is_read_for_a_while_only(self, odd, command, line):
        _, box = odd({command: ENDLESS + line}, timeouts=self.PATIENT)
        with pytest.raises(Temporary, match="too large"):  # noqa: PT012 - whichever comes to it
            box.check()
            box.examine("INBOX")
            box.items([7], ["FLAGS"])

    @pytest.mark.parametrize("octets", [32_000_001, 10**13, 10**20])
    def test_a_literal_that_nobody_can_hold_is_not_asked_for(self, odd, octets):
        server, box = odd(
            {"STATUS": [f"* STATUS {{{octets}}}\nx", "* STATUS INBOX (UIDVALIDITY 1 UIDNEXT 8)\n%t OK done"]}
        )
        with pytest.raises(Temporary, match="too large"):
            box.check()
        box.check()
        assert sum("AUTHENTICATE" in line for line in server.said) == 2

    def test_what_a_search_finds_may_be_a_million_mails_in_one_line(self, odd):
        uids = range(1_000_000, 1_900_000)
        _, box = odd(
            {"UID SEARCH": f"* SEARCH {' '.join(map(str, uids))}\n%t OK done"}, timeouts=self.PATIENT
        )
        box.examine("INBOX")
        assert box.find("ALL") == [*uids]

    def test_more_in_one_line_than_is_read_ends_the_session(self, odd):
        server, box = odd(
            {"UID SEARCH": [f"* SEARCH {'1000000 ' * 1_100_000}\n%t OK done", "* SEARCH 7\n%t OK done"]},
            timeouts=self.PATIENT,
        )
        box.examine("INBOX")
        with pytest.raises(Temporary, match="too large"):
            box.find("ALL")
        box.examine("INBOX")
        assert box.find("ALL") == [7]
        assert sum("AUTHENTICATE" in line for line in server.said) == 2


class TestFolderNames:
    """What servers call their folders although RFC 3501 §5.1.3 does not let them."""

    @staticmethod
    def sharing(line, *there):
        """Answers of a server that has Inbox and one more folder, which opens by its own spelling only."""
        no, numbers = "%t NO no such mailbox", "(UIDVALIDITY 1 UIDNEXT 8)"
        return {
            "LIST": f'* LIST () "/" INBOX\n{line}\n%t OK done',
            **{f"STATUS {re.escape(name)} ": f"* STATUS {name} {numbers}\n%t OK done" for name in there},
            'STATUS "INBOX" ': f"* STATUS INBOX {numbers}\n%t OK done",
            "STATUS": no,
            **{f"EXAMINE {re.escape(name)}": ScriptedImap.OPENED for name in there},
            'EXAMINE "?INBOX': ScriptedImap.OPENED,
            "EXAMINE": no,
        }

    @pytest.mark.parametrize(
        ("line", "wire", "name"),
        [
            ('* LIST () "/" "R&D"', '"R&D"', "R&D"),
            ('* LIST () "/" "A & B"', '"A & B"', "A & B"),
            ('* LIST () "/" "AT&T-Ablage"', '"AT&T-Ablage"', "AT&T-Ablage"),
            ('* LIST () "/" "&2AA-"', '"&2AA-"', "&2AA-"),
            ('* LIST () "/" "R&-D"', '"R&-D"', "R&D"),
            ('* LIST () "/" "Entw&APw-rfe"', '"Entw&APw-rfe"', "Entwürfe"),
            ('* LIST () "/" "Aufträge"', '"Aufträge"', "Aufträge"),
            ('* LIST () "/" {9}\nAufträge', '"Aufträge"', "Aufträge"),
            ("* LIST () NIL NIL", '"NIL"', "NIL"),
            ('* LIST () "/" 007', '"007"', "007"),
            ('* LIST (\\Ähnlich) "/" Offene Posten', '"Offene Posten"', "Offene Posten"),
            ('* LIST () "\\\\" "a\\\\b \\"c\\""', '"a\\\\b \\"c\\""', 'a\\b "c"'),
        ],
    )
    def test_a_folder_is_opened_by_what_its_server_calls_it(self, odd, line, wire, name):
        _, box = odd(self.sharing(line, wire), settings={"folders": [name]})
        assert {name, "INBOX"} == {folder.name for folder in box.folders()}
        box.check()
        _, box = odd(self.sharing(line, wire), settings={"folders": [name]})  # one that has listed nothing
        found = [e for page in box.pages(None, SINCE) for e in page.envelopes]
        assert {envelope.folder for envelope in found} == {name, "INBOX"}
        box.close()
        assert box.enter(found[-1].ref) == (found[-1].folder, 7)

    def test_a_sent_folder_of_such_a_name_takes_the_copy(self, odd):
        _, box = odd(
            {**self.sharing('* LIST (\\Sent) "/" "R&D"', '"R&D"'), "APPEND": "%t NO no such mailbox"}
        )
        _, named = odd(
            {
                **self.sharing('* LIST () "/" "R&D"', '"R&D"'),
                'APPEND "R&D"': "+ go on\n%t OK [APPENDUID 1 8] kept",
                "APPEND": "%t NO [TRYCREATE] no such mailbox",
            },
            settings={"sentFolder": "R&D"},
        )
        assert named.keep_sent(b"Subject: x\r\n\r\n", SINCE) == make_ref("R&D", 1, 8)
        assert box.sent() == "R&D"

    def test_a_line_that_cannot_be_understood_hides_no_other_folder(self, odd, caplog):
        lines = '* LIST nonsense\n* LIST () "/" "half\n* LIST () "/" {3}\na\n\n* LIST () "/" Sent\n%t OK done'
        with caplog.at_level("WARNING"):
            _, box = odd({"LIST": lines})
            assert [folder.name for folder in box.folders()] == ["Sent"]
        assert [json.loads(r.message)["event"] for r in caplog.records] == ["folder.unread"] * 3
        assert "half" not in caplog.text

    def test_a_latin_1_name_is_readable_and_its_bytes_are_kept(self):
        lines = [*listed([b'() "/" "Auftr\xe4ge"', (b'() "/" {9}', b"Auftr\xe4ge"), b")", None])]
        assert [(decoded(wire), wire) for _, _, wire in lines] == [("Aufträge", b"Auftr\xe4ge")] * 2

    def test_of_two_names_that_look_alike_the_standard_one_counts(self, odd):
        assert spelt([b"R&D", b"R&-D"]) == spelt([b"R&-D", b"R&D"]) == {"R&D": b"R&-D"}


class TestSentFolder:
    def test_of_two_the_one_in_use_is_taken(self, odd):
        lines = '* LIST (\\Sent) "/" A\n* LIST (\\Sent) "/" B\n* LIST () "/" INBOX\n%t OK done'
        counts = {
            f'STATUS "{n}" .MESSAGES': f'* STATUS "{n}" (MESSAGES {m})\n%t OK done'
            for n, m in (("A", 3), ("B", 9))
        }
        server, box = odd({"LIST": lines, **counts})
        box.check()
        assert any('STATUS "B" (UIDVALIDITY' in line for line in server.said)
        assert not any('STATUS "A" (UIDVALIDITY' in line for line in server.said)

    @pytest.mark.parametrize("refused", [False, True])
    @pytest.mark.parametrize(
        ("told", "own", "bosses"),
        [
            ('(("INBOX." ".")) (("user." ".")) (("shared." "."))', "INBOX.Sent", "user.boss.Sent"),
            ('(("" ".")) NIL (("#shared." "."))', "Sent", "#shared.team.Sent"),
            ('(("INBOX." ".")) (("user." ".")) (("" "."))', "INBOX.Sent", "team.Sent"),
            ("NIL NIL NIL", "INBOX.Sent", ""),
            ("nonsense", "INBOX.Sent", ""),
        ],
    )
    def test_another_persons_is_never_taken_for_the_own_one_nor_looked_into(
        self, odd, told, own, bosses, refused
    ):
        names = [own, "INBOX", *([bosses] if bosses else [])]
        lines = "".join(f'* LIST () "." "{name}"\n' for name in names)
        count = "%t NO Permission denied" if refused else f'* STATUS "{bosses}" (MESSAGES 900)\n%t OK done'
        server, box = odd(
            {
                "LIST": f"{lines}%t OK done",
                "NAMESPACE": f"* NAMESPACE {told}\n%t OK done",
                f'STATUS "{re.escape(bosses)}" .MESSAGES': count,
                f'STATUS "{re.escape(own)}" .MESSAGES': f'* STATUS "{own}" (MESSAGES 3)\n%t OK done',
                "APPEND": "+ go on",
            },
            capabilities="IMAP4rev1 AUTH=PLAIN NAMESPACE",
        )
        box.keep_sent(b"x", SINCE)
        assert [*box.look(["<7@odd.example>"])]
        asked = [line for line in server.said if re.search(r"APPEND|EXAMINE", line)]
        assert f'APPEND "{own}"' in asked[0]
        assert not bosses or not any(bosses in line for line in asked)
        assert sum("NAMESPACE" in line for line in server.said) == 1
        assert {name: "sent" if name == own else None for name in names if name != "INBOX"} == {
            one.name: one.role for one in box.folders() if one.name != "INBOX"
        }

    def test_another_persons_folder_that_was_chosen_is_looked_into(self, odd):
        lines = '* LIST () "." "user.boss.Orders"\n* LIST () "." INBOX\n%t OK done'
        told = '* NAMESPACE (("INBOX." ".")) (("user." ".")) NIL\n%t OK done'
        server, box = odd(
            {"LIST": lines, "NAMESPACE": told},
            capabilities="IMAP4rev1 AUTH=PLAIN NAMESPACE",
            settings={"folders": ["user.boss.Orders"]},
        )
        assert [*box.look(["<7@odd.example>"])]
        assert any('EXAMINE "user.boss.Orders"' in line for line in server.said)

    def test_of_two_the_one_that_may_be_listed_only_is_not_in_use(self, odd):
        lines = '* LIST () "." "INBOX.Sent"\n* LIST () "." "user.boss.Sent"\n* LIST () "." INBOX\n%t OK done'
        counts = {
            'STATUS "user.boss.Sent" .MESSAGES': "%t NO Permission denied",
            'STATUS "INBOX.Sent" .MESSAGES': '* STATUS "INBOX.Sent" (MESSAGES 3)\n%t OK done',
        }
        _, box = odd({"LIST": lines, **counts})
        box.check()
        assert box.sent() == "INBOX.Sent"

    def test_a_server_without_uidplus_keeps_a_copy_whose_ref_is_not_known(self, odd):
        lines = '* LIST (\\Sent) "/" Sent\n%t OK done'
        _, box = odd({"LIST": lines, "APPEND": "+ go on\n%t OK appended"})
        assert box.keep_sent(b"Subject: x\r\n\r\n", SINCE + timedelta(days=1)) is None

    SENT = '* LIST (\\Sent) "/" Sent\n%t OK done'

    @pytest.mark.parametrize(
        "refusal",
        [
            {"UID FETCH": "%t OK done"},
            {"UID FETCH": "%t NO cannot do that"},
            {"UID FETCH": "%t NO Server Unavailable. 15"},
            {"UID SEARCH HEADER": "%t NO cannot do that"},
            {"EXAMINE": "%t NO it is being repaired"},
        ],
    )
    def test_a_copy_that_the_server_does_not_show_is_not_taken_for_none(self, odd, refusal):
        _, box = odd({"LIST": self.SENT, **refusal})
        with pytest.raises(Temporary):
            box.find_sent("<7@odd.example>")

    @pytest.mark.parametrize(
        "there",
        [
            {"UID SEARCH HEADER": "* SEARCH\n%t OK done"},
            {"UID FETCH": "%t OK done", "UID SEARCH UID 7": "* SEARCH\n%t OK done"},  # deleted meanwhile
            {"LIST": '* LIST () "/" INBOX\n%t OK done', "EXAMINE": "%t NO [NONEXISTENT] no such folder"},
        ],
    )
    def test_what_is_known_not_to_be_there_is_none(self, odd, there):
        _, box = odd({"LIST": self.SENT, **there}, settings={"sentFolder": "Sent"})
        assert box.find_sent("<7@odd.example>") is None

    @pytest.mark.parametrize(
        "name", ["Sent", "sent items", "Gesendete Objekte", "Éléments envoyés", "已发送", "INBOX.Sent"]
    )
    def test_it_is_known_by_name_where_the_server_does_not_tell(self, name):
        listed = [((), b"." if name.startswith("INBOX.") else b"/", name), ((), b"/", "inbox")]
        assert [(folder.name, folder.role) for folder in with_roles(listed)] == [
            (name, "sent"),
            ("INBOX", "inbox"),
        ]

    def test_a_name_counts_for_nothing_where_the_server_tells(self):
        listed = [((), b"/", "Sent"), ((b"\\HasNoChildren", b"\\SENT"), b"/", "Ausgang"), ((), None, "Spam")]
        assert [folder.role for folder in with_roles(listed)] == [None, "sent", "junk"]


def spread(part):
    """The numbers of one part of a sequence set."""
    first, _, last = part.partition(":")
    return range(int(first), int(last or first) + 1)


def spread_of(line):
    """The UIDs that a tagged UID FETCH asks for."""
    return [uid for part in line.split()[3].split(",") for uid in spread(part)]


def many(last, broken=lambda _uids: False, reply="%t NO Server Unavailable. 15"):
    """The answers of a server with mails 1 to `last` in INBOX, out of order when asked for some."""
    header = "Message-ID: <%s@odd.example>\nDate: Tue, 24 Nov 2026 01:00:00 +0000\n\n"

    def asked(line):
        return spread_of(f"tag {line}")

    def fetched(uid):
        text = header % uid
        return f"* {uid} FETCH (UID {uid} RFC822.SIZE 50 BODY[HEADER] {{{len(text) + 3}}}\n{text})"

    def fetch(line):
        if broken(asked(line)):
            return reply
        return "\n".join([*map(fetched, asked(line)), "%t OK done"])

    return {
        "STATUS": f'* STATUS "INBOX" (UIDVALIDITY 1 UIDNEXT {last + 1})\n%t OK done',
        r"UID SEARCH UID [\d,]+$": lambda line: f"* SEARCH {line.split()[3].replace(',', ' ')}\n%t OK done",
        "UID SEARCH": f"* SEARCH {' '.join(map(str, range(1, last + 1)))}\n%t OK done",
        "UID FETCH": fetch,
    }


def looks(box, cursor, times):
    """Look so often, one look after the other; return all pages."""
    pages = []
    for _ in range(times):
        pages += box.pages(pages[-1].cursor if pages else cursor, SINCE)
    return pages


def aged(cursor):
    """As if what is owed had been so for longer than anybody waits."""
    position = json.loads(cursor)
    for _, owed, _ in position["owed"].values():
        owed |= {uid: [since - WAITED - 1, times] for uid, (since, times) in owed.items()}
    return json.dumps(position)


def moved(cursor):
    """As if something had been moved since."""
    return json.dumps({**json.loads(cursor), "elsewhere": True})
