"""Reading at Graph: lists and their rules, ids, single messages, attachments, folders."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from tests import graph_contract
from tests.sandbox.outlook import mail

MESSAGES = "/me/messages"
FILE = {
    "@odata.type": "#microsoft.graph.fileAttachment",
    "name": "a.pdf",
    "contentType": "application/pdf",
}


class TestLists:
    def test_ten_a_page_newest_first_and_a_link_that_goes_on(self, outlook):
        for number in range(12):
            outlook.take(f"{number}", at=datetime.now(UTC) + timedelta(minutes=number))
        page = outlook.get(MESSAGES, select="subject")
        assert [one["subject"] for one in page["value"]] == [str(n) for n in range(11, 1, -1)]
        rest = outlook.get(page["@odata.nextLink"])
        assert [one["subject"] for one in rest["value"]] == ["1", "0"]
        assert "@odata.nextLink" not in rest

    def test_a_page_holds_1_to_1000(self, outlook):
        assert outlook.refused("GET", MESSAGES, 400, top="1001") == "ErrorInvalidUrlQuery"
        assert outlook.refused("GET", MESSAGES, 400, top="0") == "ErrorInvalidUrlQuery"
        assert outlook.get(MESSAGES, top="1000")["value"] == []

    def test_orderby_has_to_be_first_in_the_filter(self, outlook):
        outlook.take("a")
        wanted = "receivedDateTime ge 2020-01-01T00:00:00Z and subject eq 'a'"
        assert outlook.subjects(filter=wanted, orderby="receivedDateTime") == ["a"]
        assert outlook.refused("GET", MESSAGES, 400, filter=wanted, orderby="subject") == "InefficientFilter"

    def test_a_message_id_with_odd_characters_is_found(self, outlook):
        odd = "<a+b'c%41@x.example>"
        outlook.world.graph.arrive(
            outlook.address, mail("x@y.example", To=outlook.address, Subject="odd", Message_ID=odd)
        )
        assert outlook.subjects(filter=f"internetMessageId eq '{odd.replace(chr(39), chr(39) * 2)}'") == [
            "odd"
        ]

    def test_functions_brackets_and_negation_in_a_filter(self, outlook):
        outlook.take("Screws")
        outlook.take("Nails")
        wanted = "not (startswith(subject,'Sc') or contains(subject,'zzz')) and isRead eq false"
        assert outlook.subjects(filter=wanted) == ["Nails"]
        assert outlook.refused("GET", MESSAGES, 400, filter="subject eq") == "ErrorInvalidUrlQueryFilter"

    def test_headers_and_bodies_cannot_be_filtered(self, outlook):
        wanted = "internetMessageHeaders/any(h: h/name eq 'X-A')"
        assert outlook.refused("GET", MESSAGES, 400, filter=wanted) == "ErrorInvalidProperty"

    def test_search_takes_quoted_words_and_neither_filter_nor_order(self, outlook):
        outlook.take("Screws for the hall")
        outlook.take("Nails")
        assert outlook.subjects(search='"subject:screws AND from:someone"') == ["Screws for the hall"]
        assert outlook.refused("GET", MESSAGES, 400, search="screws") == "BadRequest"
        for besides in ({"filter": "isRead eq false"}, {"orderby": "subject"}):
            assert outlook.refused("GET", MESSAGES, 400, search='"a"', **besides) == "SearchWithFilter"

    def test_search_gives_a_thousand_by_the_time_of_sending(self, outlook):
        for day in (2, 3, 1):
            raw = mail(
                "a@b.example",
                To=outlook.address,
                Subject=f"word {day}",
                Date=f"0{day} Nov 2026 10:00:00 +0000",
            )
            outlook.world.graph.arrive(outlook.address, raw)
        assert outlook.subjects(search='"word"') == ["word 3", "word 2", "word 1"]

    def test_what_graph_does_not_know_is_refused(self, outlook):
        with graph_contract.broken(outlook.world.graph):
            assert outlook.refused("GET", MESSAGES, 400, select="subjekt") == "RequestBroker--ParseUri"
            assert outlook.refused("GET", MESSAGES, 400, filters="x") == "BadRequest"
            assert outlook.refused("GET", "/me/mail", 400) == "BadRequest"

    def test_a_count_of_all_and_beside_a_page(self, outlook):
        for number in range(3):
            outlook.take(str(number))
        assert outlook.call("GET", f"{MESSAGES}/$count").text == "3"
        assert outlook.get(MESSAGES, count="true", top="1")["@odata.count"] == 3


class TestIds:
    def test_immutable_ids_outlive_a_move_and_others_do_not(self, outlook):
        outlook.take("moved")
        immutable = outlook.get(MESSAGES)["value"][0]["id"]
        mutable = outlook.get(MESSAGES, headers={"Prefer": ""})["value"][0]["id"]
        assert immutable != mutable
        outlook.post(f"/me/messages/{immutable}/move", {"destinationId": "archive"})
        assert outlook.get(f"/me/messages/{immutable}")["subject"] == "moved"
        assert outlook.refused("GET", f"/me/messages/{mutable}", 404) == "ErrorItemNotFound"

    def test_ids_are_case_sensitive(self, outlook):
        id_ = outlook.take("x").id
        assert outlook.refused("GET", f"/me/messages/{id_.swapcase()}", 404) == "ErrorItemNotFound"

    def test_an_immutable_id_is_the_same_for_draft_and_sent_mail(self, outlook):
        draft = outlook.post(
            MESSAGES, {"subject": "d", "toRecipients": [{"emailAddress": {"address": outlook.address}}]}
        )
        outlook.call("POST", f"/me/messages/{draft['id']}/send", 202)
        sent = outlook.get(f"/me/messages/{draft['id']}")
        assert (sent["subject"], sent["isDraft"]) == ("d", False)


class TestMessages:
    def test_its_mime_is_the_mail_byte_by_byte(self, outlook):
        item = outlook.take("bytes")
        assert outlook.call("GET", f"/me/messages/{item.id}/$value").content == item.raw

    def test_headers_are_shown_on_request_for_received_mail_only(self, outlook):
        got = outlook.take("received")
        sent = outlook.take("sent", "sentitems", sent=True)
        assert "internetMessageHeaders" not in outlook.get(f"/me/messages/{got.id}")
        fields = {"select": "internetMessageHeaders"}
        names = [h["name"] for h in outlook.get(f"/me/messages/{got.id}", **fields)["internetMessageHeaders"]]
        assert {"From", "Subject", "Message-ID"} <= {*names}
        assert "internetMessageHeaders" not in outlook.get(f"/me/messages/{sent.id}", **fields)

    def test_threading_is_kept_as_mapi_properties(self, outlook):
        raw = mail("a@b.example", To=outlook.address, In_Reply_To="<p@x>", References="<o@x> <p@x>")
        id_ = outlook.world.graph.arrive(outlook.address, raw, "sentitems", sent=True).id
        expand = "singleValueExtendedProperties($filter=id eq 'String 0x1042' or id eq 'String 0x1039')"
        found = outlook.get(f"/me/messages/{id_}", expand=expand)["singleValueExtendedProperties"]
        assert {one["value"] for one in found} == {"<p@x>", "<o@x> <p@x>"}
        wanted = "singleValueExtendedProperties/Any(ep: ep/id eq 'String 0x1042' and ep/value eq '<P@X>')"
        assert len(outlook.get(MESSAGES, filter=wanted)["value"]) == 1

    def test_answers_share_their_threads_id_and_so_do_strangers_whose_headers_tell_only_the_same_topic(
        self, outlook
    ):
        first = mail("a@b.example", To=outlook.address, Subject="Offer", Message_ID="<1@x>")
        second = mail(
            "a@b.example", To=outlook.address, Subject="Other", In_Reply_To="<1@x>", References="<1@x>"
        )
        index = base64.b64encode(b"\x01" + bytes(range(21))).decode()
        told = ({"Subject": "Offer"}, {"Subject": "Another"}, {"Subject": "Offer", "Thread_Index": index})
        others = [
            mail("c@d.example", To=outlook.address, Message_ID=f"<other-{place}@x>", **headers)
            for place, headers in enumerate(told)
        ]
        for raw in (first, second, *others):
            outlook.world.graph.arrive(outlook.address, raw)
        threads = {one["internetMessageId"]: one["conversationId"] for one in outlook.get(MESSAGES)["value"]}
        assert threads["<1@x>"] == threads["<other-0@x>"]
        assert len({*threads.values()}) == 3
        assert len(base64.b64decode(outlook.get(MESSAGES)["value"][-1]["conversationIndex"])) == 22

    def test_html_is_turned_into_text_where_that_is_preferred(self, outlook):
        raw = mail(
            "a@b.example", "<p>Good &amp; <b>cheap</b></p>", To=outlook.address, Content_Type="text/html"
        )
        id_ = outlook.world.graph.arrive(outlook.address, raw).id
        prefer = {"Prefer": 'IdType="ImmutableId", outlook.body-content-type="text"'}
        assert outlook.get(f"/me/messages/{id_}")["body"]["contentType"] == "html"
        body = outlook.get(f"/me/messages/{id_}", headers=prefer)["body"]
        assert (body["contentType"], body["content"].strip()) == ("text", "Good & cheap")

    def test_marks_change_in_any_mail_and_words_in_drafts_only(self, outlook):
        item, draft = outlook.take("x"), outlook.post(MESSAGES, {"subject": "old"})
        assert outlook.call("PATCH", f"/me/messages/{item.id}", json={"isRead": True}).json()["isRead"]
        assert outlook.get("/me/mailFolders/inbox")["unreadItemCount"] == 0
        changed = {"subject": "new", "body": {"contentType": "html", "content": "<i>x</i>"}}
        assert (
            outlook.refused("PATCH", f"/me/messages/{item.id}", 400, json=changed)
            == "ErrorInvalidPropertySet"
        )
        shown = outlook.call("PATCH", f"/me/messages/{draft['id']}", json=changed).json()
        assert (shown["subject"], shown["body"]["content"].strip()) == ("new", "<i>x</i>")

    def test_what_is_deleted_is_gone(self, outlook):
        item = outlook.take("x")
        outlook.call("DELETE", f"/me/messages/{item.id}", 204)
        assert outlook.refused("GET", f"/me/messages/{item.id}", 404) == "ErrorItemNotFound"

    def test_whose_content_was_given_out_is_counted(self, outlook):
        item = outlook.take("private")
        outlook.get(MESSAGES, select="subject,internetMessageHeaders")
        assert not outlook.box.bodies_read
        outlook.call("GET", f"/me/messages/{item.id}/$value")
        outlook.get(f"/me/messages/{item.id}", select="bodyPreview")
        assert outlook.box.bodies_read[item.id] == 2


class TestAttachments:
    def test_they_are_listed_without_content_and_read_one_by_one(self, outlook):
        draft = outlook.post(MESSAGES, {"subject": "x"})
        path = f"/me/messages/{draft['id']}/attachments"
        content = base64.b64encode(b"%PDF").decode()
        added = outlook.post(path, {**FILE, "contentBytes": content})
        listed = outlook.get(path, select="id,name,contentType,size,isInline")["value"]
        assert [(one["name"], one["contentType"], one["size"]) for one in listed] == [
            ("a.pdf", "application/pdf", 4)
        ]
        assert "contentBytes" not in listed[0]
        assert outlook.call("GET", f"{path}/{added['id']}/$value").content == b"%PDF"
        assert outlook.get(f"{path}/{added['id']}")["contentBytes"] == content
        assert outlook.refused("GET", f"{path}/none", 404) == "ErrorItemNotFound"

    def test_only_drafts_take_them(self, outlook):
        path = f"/me/messages/{outlook.take('x').id}/attachments"
        assert (
            outlook.refused("POST", path, 400, json={**FILE, "contentBytes": ""}) == "ErrorInvalidOperation"
        )

    def test_inline_pictures_alone_do_not_count(self, outlook):
        picture = {**FILE, "isInline": True, "contentId": "pic", "contentBytes": ""}
        draft = outlook.post(MESSAGES, {"subject": "x", "attachments": [picture]})
        shown = outlook.get(f"/me/messages/{draft['id']}", expand="attachments")
        assert not shown["hasAttachments"]
        assert [(one["isInline"], one["contentId"]) for one in shown["attachments"]] == [(True, "pic")]

    def test_a_large_one_comes_in_pieces_in_order_and_without_a_token(self, outlook):
        draft = outlook.post(MESSAGES, {"subject": "large"})
        path, content = f"/me/messages/{draft['id']}/attachments", bytes(range(256)) * 13_000
        item = {"attachmentType": "file", "name": "big.bin", "size": len(content)}
        url = outlook.post(f"{path}/createUploadSession", {"AttachmentItem": item})["uploadUrl"]
        half, whole = 2_000_000, len(content)

        def put(start, end, **headers):
            place = {"Content-Range": f"bytes {start}-{end - 1}/{whole}", **headers}
            return outlook.session.put(url, content[start:end], headers=place)

        assert put(0, half, Authorization="Bearer x").status_code == 401
        assert put(half, whole).status_code == 416
        assert put(0, half).json()["nextExpectedRanges"] == [f"{half}-"]
        assert outlook.session.get(url).json()["nextExpectedRanges"] == [f"{half}-"]
        assert put(half, whole).status_code == 201
        listed = outlook.get(path, select="id,size")["value"]
        assert [one["size"] for one in listed] == [whole]
        assert put(0, half).status_code == 404

    def test_an_upload_is_for_3_to_150_mb_and_can_be_given_up(self, outlook):
        draft = outlook.post(MESSAGES, {"subject": "x"})
        path = f"/me/messages/{draft['id']}/attachments/createUploadSession"
        item = {"attachmentType": "file", "name": "x", "size": 1000}
        code = outlook.refused("POST", path, 400, json={"AttachmentItem": item})
        assert code == "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"
        item["size"] = 151 * 1024 * 1024
        outlook.refused("POST", path, 400, json={"AttachmentItem": item})
        item["size"] = 4_000_000
        url = outlook.post(path, {"AttachmentItem": item})["uploadUrl"]
        assert outlook.session.delete(url).status_code == 204
        assert outlook.session.get(url).status_code == 404


class TestFolders:
    def test_well_known_names_and_a_tree(self, outlook):
        made = outlook.post("/me/mailFolders/inbox/childFolders", {"displayName": "Deals"})
        inbox = outlook.get("/me/mailFolders/inbox")
        assert made["parentFolderId"] == inbox["id"]
        assert [
            one["displayName"] for one in outlook.get(f"/me/mailFolders/{inbox['id']}/childFolders")["value"]
        ] == ["Deals"]
        names = [one["displayName"] for one in outlook.get("/me/mailFolders", top="50")["value"]]
        assert {"Inbox", "Sent Items", "Drafts"} <= {*names}
        assert "Deals" not in names
        assert outlook.get("/me/mailFolders/msgfolderroot")["id"] == inbox["parentFolderId"]
        assert outlook.refused(
            "POST", "/me/mailFolders/inbox/childFolders", 409, json={"displayName": "Deals"}
        )

    def test_messages_lie_in_their_folder(self, outlook):
        item = outlook.take("deal", "archive")
        assert outlook.subjects("/me/mailFolders/archive/messages") == ["deal"]
        assert outlook.get(f"/me/mailFolders/archive/messages/{item.id}")["subject"] == "deal"
        assert outlook.subjects("/me/mailFolders('archive')/messages") == ["deal"]
        assert outlook.subjects("/me/mailFolders/inbox/messages") == []

    def test_who_it_is_needs_its_own_scope(self, office, outlook):
        me = outlook.get("/me")
        assert (me["mail"], me["id"]) == (
            outlook.address,
            office.world.entra.directory.users[outlook.address].oid,
        )
        assert office.outlook("Mail.Read").refused("GET", "/me", 403)


@pytest.mark.parametrize("folder", ["nowhere", "AAMkFnone"])
def test_an_unknown_folder_is_not_found(outlook, folder):
    assert outlook.refused("GET", f"/me/mailFolders/{folder}/messages", 404) == "ErrorItemNotFound"
