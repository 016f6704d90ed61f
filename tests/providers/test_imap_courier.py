"""The IMAP provider and Courier-IMAP, which forgets the UIDs that it tells after EXAMINE."""

import re
from datetime import UTC, datetime
from itertools import count

import pytest

from shared.providers.imap import ImapMailbox
from shared.providers.imap.items import make_ref
from tests.providers.parts import connection, mail, read
from tests.providers.scripted import ScriptedImap


class Courier(ScriptedImap):
    """Answers about INBOX and Sent as Courier-IMAP 5.0.13 does; mails have a number, and no header but that.

    Attributes:
        files: the names that an MDA gave the mails in INBOX: the time when their delivery began.
        deleted: which of them have the flag \\Deleted.
        gone: folders that are no more.
    """

    CAPABILITIES = "IMAP4rev1 AUTH=PLAIN UIDPLUS ACL ACL2=UNION"
    NO_FOLDER = "%t NO Mailbox does not exist, or must be subscribed to."

    def __init__(self, tls):
        self.files, self.deleted, self.gone = [], set(), set()
        self._readable = set()
        self._written, self._validities, self._clock = {}, {}, count(100)
        self._open, self._readonly, self._shown = "", True, {}
        opening = {"SELECT": self._opened, "EXAMINE": self._opened, "CLOSE": self._closed}
        reading = {"STATUS": self._status, "UID SEARCH": self._found, "UID FETCH": self._fetched}
        lists = {"LIST": '* LIST () "." INBOX\n* LIST () "." INBOX.Sent\n%t OK done', "APPEND": self._append}
        super().__init__(tls, {**opening, **reading, **lists}, capabilities=self.CAPABILITIES)

    def share(self, folder):
        """Let us only read a folder, which its owner opened."""
        self._validities[folder] = next(self._clock)
        self._readable.add(folder)

    def _numbers(self, folder):
        """Number what is new by name; only what is written down keeps its number."""
        names = sorted({*self.files} - {*self._written}) if folder == "INBOX" else []
        return self._written | dict(
            zip(names, count(1 + max(self._written.values(), default=0)), strict=False)
        )

    def _opened(self, command):
        verb, folder = command.replace('"', "").split()
        if folder in self.gone:
            self._open = ""
            return self.NO_FOLDER
        self._open, self._readonly, self._shown = (
            folder,
            verb == "EXAMINE" or folder in self._readable,
            self._numbers(folder),
        )
        validity = self._validities.get(folder) or next(self._clock)
        if not self._readonly:
            self._validities[folder] = validity
            self._written = self._shown if folder == "INBOX" else self._written
        mode = "READ-ONLY" if self._readonly else "READ-WRITE"
        return f"* {len(self._shown)} EXISTS\n* OK [UIDVALIDITY {validity}] Ok\n%t OK [{mode}] Ok"

    def _closed(self, _):
        if not self._open:
            return "%t NO Nothing is open."
        if not self._readonly:
            self.files = [name for name in self.files if name not in self.deleted]
        self._open = ""
        return "%t OK mailbox closed."

    def _status(self, command):
        folder = command.replace('"', "").split()[1]
        if folder in self.gone:
            return self.NO_FOLDER
        validity = self._validities.get(folder) or next(self._clock)
        following = 1 + max(self._numbers(folder).values(), default=0) if folder == "INBOX" else 1
        return f'* STATUS "{folder}" (UIDNEXT {following} UIDVALIDITY {validity})\n%t OK done'

    def _found(self, command):
        first = re.search(r"UID (\d+):", command)
        uids = [
            uid
            for uid in self._shown.values()
            if self._open == "INBOX" and uid >= int(first[1] if first else 0)
        ]
        return f"* SEARCH {' '.join(map(str, uids))}\n%t OK done"

    def _fetched(self, command):
        asked = {int(uid) for uid in command.split()[2].split(",")}
        item = "BODY[HEADER]" if "HEADER" in command else "BODY[]<0>"
        lines = []
        for name, uid in self._shown.items():
            if uid in asked:
                text = f"Message-ID: <{name}@x.example>\nSubject: {name}\n\n"
                date = f'INTERNALDATE "{datetime.now(UTC):%d-%b-%Y %H:%M:%S +0000}"'
                octets = f"{{{len(text) + text.count(chr(10))}}}"
                lines.append(f"* {uid} FETCH (UID {uid} RFC822.SIZE 9 {date} {item} {octets}\n{text})")
        return "\n".join([*lines, "%t OK done"])

    def _append(self, _):
        if self._open and self._readonly:
            return "%t NO Current box is selected READ-ONLY."
        return "+ "


@pytest.fixture
def courier(tls):
    with Courier(tls) as server:
        yield server


@pytest.fixture
def box(courier):
    box = ImapMailbox(connection(courier.port))
    yield box
    box.close()


def subjects(found):
    return [envelope.subject for envelope in found]


class TestCourier:
    def test_a_mail_that_lands_late_under_an_earlier_name_is_read_and_takes_no_others_place(
        self, courier, box
    ):
        _, cursor = read(box)
        courier.files.append("20-small")
        [small], cursor = read(box, cursor)
        courier.files.append("10-large")
        late, cursor = read(box, cursor)
        assert subjects(late) == ["10-large"]
        assert b"20-small" in box.fetch(small.ref)
        assert read(box, cursor)[0] == []

    def test_a_folder_that_nobody_opened_before_has_its_lasting_numbers_from_the_first_look_on(
        self, courier, box
    ):
        _, cursor = read(box)
        opened = [line for line in courier.said if "SELECT" in line]
        for _ in range(3):
            nothing, cursor = read(box, cursor)
            assert nothing == []
        assert [line for line in courier.said if "SELECT" in line] == opened

    def test_what_its_owner_marked_as_deleted_stays(self, courier, box):
        courier.files += ["10-stays", "20-marked"]
        courier.deleted.add("20-marked")
        _, cursor = read(box)
        read(box, cursor)
        assert courier.files == ["10-stays", "20-marked"]

    def test_a_copy_can_be_filed_in_sent_after_it_was_looked_for_there(self, courier, box):
        assert box.find_sent("<mine@imap.example>") is None
        box.keep_sent(mail("Mine"), datetime.now(UTC))
        assert any("APPEND INBOX.Sent" in line.replace('"', "") for line in courier.said)

    def test_a_folder_that_is_gone_meanwhile_ends_no_look(self, courier, box):
        _, cursor = read(box)
        box.examine("INBOX.Sent")
        courier.gone.add("INBOX.Sent")
        courier.files.append("10-new")
        assert subjects(read(box, cursor)[0]) == ["10-new"]

    def test_a_folder_that_we_may_only_read_is_read(self, courier, box):
        courier.files.append("10-shared")
        courier.share("INBOX")
        [found], _ = read(box)
        assert b"10-shared" in box.fetch(found.ref)


REPORT = """\
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

SECRET
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; x

Action: failed
--b
Content-Type: message/rfc822

Message-ID: <ours@imap.example>

SECRET
--b--
"""


def test_a_report_without_mime_version_that_courier_takes_for_text_tells_what_it_is_about(tls):
    replies = {
        "UID FETCH.*BODYSTRUCTURE": '* 1 FETCH (UID 7 BODYSTRUCTURE ("text" "plain" NIL NIL NIL "8bit" 9 9))\n%t OK done',
        "UID SEARCH.*BODY": "* SEARCH\n%t OK done",
        r"UID FETCH.*BODY\.PEEK\[\]<0\.16384>": ScriptedImap.fetched("", REPORT).replace("[HEADER]", "[]<0>"),
    }
    with ScriptedImap(
        tls, {"SELECT": ScriptedImap.OPENED, **replies}, capabilities=Courier.CAPABILITIES
    ) as server:
        box = ImapMailbox(connection(server.port))
        headers = box.returned_headers(make_ref("INBOX", 1, 7))
        box.close()
    assert b"Action: failed" in headers
    assert b"Message-ID: <ours@imap.example>" in headers
    assert b"SECRET" not in headers
    assert any("SEARCH UID 7 HEADER Content-Type multipart/report" in line for line in server.said)


def test_every_other_server_is_only_examined(tls):
    with ScriptedImap(tls) as server:
        box = ImapMailbox(connection(server.port))
        read(box)
        box.close()
    assert not any("SELECT" in line for line in server.said)
