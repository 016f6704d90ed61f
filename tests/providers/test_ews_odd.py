"""The EWS provider with servers that answer as no Exchange does: it comes to an end, and no answer is a bug."""

import threading
import time
from typing import ClassVar

import pytest

from sandbox.web import Reply, WebServer
from shared import deadline
from shared.errors import Rejected, Temporary
from shared.providers.base import Connection, Password
from shared.providers.ews.folders import places
from shared.providers.ews.reading import EwsMailbox
from shared.providers.ews.services import MOST_PAGES
from shared.providers.network import Timeouts
from tests.providers.parts import SINCE

NAMESPACES = (
    'xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" '
    'xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"'
)
PATIENT = Timeouts(connect=2, read=5, session=20)


class Odd(WebServer):
    """Answers each operation with what a test says; a mailbox with one mail and no folder of its own."""

    item = '<t:Message><t:ItemId Id="i1"/></t:Message>'
    received = "2999-01-01T00:00:00Z"
    endless = False
    headers: ClassVar = {}

    def answer(self, request):
        said = request.body.decode()
        operation = next(name for name in OPERATIONS if f"<m:{name}" in said)
        return self.reply(operation, OPERATIONS[operation](self, said))

    def reply(self, operation, messages):
        one = (
            f'<m:{operation}ResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>'
        )
        inner = "".join(f"{one}{inner}</m:{operation}ResponseMessage>" for inner in messages)
        body = (
            f"<m:{operation}Response><m:ResponseMessages>{inner}</m:ResponseMessages></m:{operation}Response>"
        )
        version = '<t:ServerVersionInfo MajorVersion="15" MinorVersion="1" MajorBuildNumber="1" MinorBuildNumber="1" Version="V2017_07_11"/>'
        text = f"<s:Envelope {NAMESPACES}><s:Header>{version}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
        return Reply(200, text.encode(), {"Content-Type": "text/xml; charset=utf-8", **self.headers})

    def find_folder(self, _):
        number = self.calls.total()
        place = f'IndexedPagingOffset="{number}" TotalItemsInView="9" IncludesLastItemInRange="{str(not self.endless).lower()}"'
        folder = f'<t:Folder><t:FolderId Id="f{number}"/><t:FolderClass>IPF.Note</t:FolderClass></t:Folder>'
        return [f"<m:RootFolder {place}><t:Folders>{folder * self.endless}</t:Folders></m:RootFolder>"]

    def find_item(self, said):
        last = str(not self.endless and "IsLessThan" in said).lower()
        place = f'IndexedPagingOffset="1" TotalItemsInView="9" IncludesLastItemInRange="{last}"'
        mail = f'<t:ItemId Id="i1"/><t:DateTimeReceived>{self.received}</t:DateTimeReceived>'
        page = f"<m:RootFolder {place}><t:Items><t:Message>{mail}</t:Message></t:Items></m:RootFolder>"
        return [page] * said.count("FolderId ")

    def get_folder(self, said):
        found = '<m:Folders><t:Folder><t:FolderId Id="f"/></t:Folder></m:Folders>'
        return [found] * said.count("DistinguishedFolderId ")

    def sync_folder_items(self, _):
        mail = f'<t:ItemId Id="i1"/><t:DateTimeReceived>{self.received}</t:DateTimeReceived>'
        state = "<m:SyncState>s</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>"
        return [f"{state}<m:Changes><t:Create><t:Message>{mail}</t:Message></t:Create></m:Changes>"]

    def get_item(self, _):
        return [f"<m:Items>{self.item}</m:Items>"]


OPERATIONS = {
    "FindFolder": Odd.find_folder,
    "FindItem": Odd.find_item,
    "GetFolder": Odd.get_folder,
    "SyncFolderItems": Odd.sync_folder_items,
    "GetItem": Odd.get_item,
}


@pytest.fixture
def odd(authority):
    server = Odd(tls=authority.server_context())
    yield server
    server.stop()


def opened(odd, timeouts=PATIENT):
    place = {"host": "localhost", "port": int(odd.url.rpartition(":")[2]), "auth": "basic"}
    credential = Password("a@x.example", "p")
    return EwsMailbox(
        Connection("a@x.example", place, lambda: credential, frozenset({"localhost"})), timeouts
    )


def read(odd):
    return [envelope for page in opened(odd).pages(None, SINCE) for envelope in page.envelopes]


class TestEnd:
    def test_a_list_without_an_end_is_left(self, odd):
        odd.endless = True
        with pytest.raises(Temporary, match="no end"):
            opened(odd).layout()
        assert odd.calls.total() == MOST_PAGES

    def test_a_search_without_an_end_is_left(self, odd):
        odd.endless, odd.received = True, "9999-12-31T23:59:59Z"
        mailbox = opened(odd)
        with pytest.raises(Temporary, match="no end"):
            mailbox.find([mailbox.known("inbox")])
        assert odd.calls.total() == MOST_PAGES

    def test_a_search_of_many_folders_with_two_pages_each_has_an_end(self, odd):
        found = opened(odd).find(places(map(str, range(MOST_PAGES + 1))))
        assert len(found) == 1  # the odd server knows no other mail
        assert odd.calls.total() == MOST_PAGES + 2

    @pytest.mark.parametrize("endless", [True, False])
    def test_a_job_ends_although_each_answer_comes_over_another_connection(self, odd, endless):
        odd.endless, odd.headers, odd.hang = endless, {"Connection": "close"}, 0.4
        began = time.monotonic()
        with deadline.within(1), pytest.raises(Temporary):
            read(odd)
        assert time.monotonic() - began < 2
        time.sleep(odd.hang)  # what was said last is counted now
        asked = odd.calls.total()
        with deadline.within(0), pytest.raises(Temporary):
            read(odd)
        assert odd.calls.total() == asked, "nothing is begun when it is over"

    def test_each_job_has_its_own_time(self, odd):
        ended = []

        def late():
            with deadline.within(0.2), pytest.raises(Temporary):
                read(odd)
            ended.append(1)

        odd.hang = 0.5
        thread = threading.Thread(target=late)
        thread.start()
        read(odd)
        thread.join()
        assert ended


class TestAnswers:
    @pytest.mark.parametrize("size", ["x", "", "-1", "²", "9" * 5000])
    def test_a_size_that_is_no_number_is_none(self, odd, size):
        odd.item = f'<t:Message><t:ItemId Id="i1"/><t:Size>{size}</t:Size></t:Message>'
        assert {envelope.size for envelope in read(odd)} == {0}

    @pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday"])
    def test_a_time_outside_the_calendar_is_none(self, odd, at):
        times = "".join(f"<t:{name}>{at}</t:{name}>" for name in ("DateTimeReceived", "DateTimeSent"))
        odd.item = f'<t:Message>{times}<t:ItemId Id="i1"/></t:Message>'
        assert [(envelope.received_at, envelope.sent_at) for envelope in read(odd)] == [(None, None)] * 2
        odd.received = at
        assert read(odd) == [], "as if it had come in before"

    @pytest.mark.parametrize("content", ["YQ", "!!!!", "é"])
    def test_a_mail_that_is_no_base64_is_refused(self, odd, content):
        odd.item = f'<t:Message><t:MimeContent>{content}</t:MimeContent><t:ItemId Id="i1"/></t:Message>'
        with pytest.raises(Rejected):
            opened(odd).fetch("i1")
