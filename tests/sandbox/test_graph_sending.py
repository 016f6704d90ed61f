"""Sending at Graph: forms, limits, answers, other senders, and what may go wrong on the way."""

import base64
import email
import email.policy

import pytest
import requests

from tests import graph_contract
from tests.sandbox.outlook import mail

SEND = "/me/sendMail"
MIME = {"Content-Type": "text/plain"}


def to(*addresses):
    return [{"emailAddress": {"address": address}} for address in addresses]


def written(address, **more):
    return {
        "message": {
            "subject": "Offer",
            "body": {"contentType": "Text", "content": "Hi"},
            "toRecipients": to(address),
            **more,
        }
    }


def sent(outlook):
    return outlook.get("/me/mailFolders/sentitems/messages")["value"]


def parsed(raw):
    return email.message_from_bytes(raw, policy=email.policy.default)


@pytest.fixture
def ben_inbox(ben):
    """Somebody outside, whose mail program is none of ours."""
    return lambda: [parsed(raw) for raw in ben.inbox()]


class TestForms:
    def test_json_is_sent_and_its_copy_kept_without_an_answer(self, outlook, ben, ben_inbox):
        answer = outlook.call(
            "POST",
            SEND,
            202,
            json=written(ben.address, internetMessageHeaders=[{"name": "x-case", "value": "1"}]),
        )
        assert answer.content == b""
        (arrived,) = ben_inbox()
        assert (arrived["Subject"], arrived["From"], arrived["x-case"]) == ("Offer", outlook.address, "1")
        assert [one["internetMessageId"] for one in sent(outlook)] == [arrived["Message-ID"]]

    def test_mime_is_sent_as_it_is_but_bcc(self, outlook, ann, ben):
        raw = mail(outlook.address, To=ben.address, Bcc=ann.address, Subject="Raw", X_Case="2")
        outlook.call("POST", SEND, 202, data=base64.b64encode(raw), headers=MIME)
        assert len(ann.inbox()) == len(ben.inbox()) == 1
        assert ben.inbox()[0].endswith(raw.replace(f"Bcc: {ann.address}\r\n".encode(), b""))
        assert b"Bcc" not in ann.inbox()[0]
        assert [one["bccRecipients"] for one in sent(outlook)] == [
            [{"emailAddress": {"name": ann.address, "address": ann.address}}]
        ]

    def test_what_is_no_base64_is_refused(self, outlook):
        with graph_contract.broken(outlook.world.graph):
            code = outlook.refused("POST", SEND, 400, data=b"From: x", headers=MIME)
        assert code == "ErrorMimeContentInvalidBase64String"

    def test_a_copy_is_kept_unless_it_is_not_wanted(self, outlook, ben, ben_inbox):
        outlook.call("POST", SEND, 202, json={**written(ben.address), "saveToSentItems": False})
        assert len(ben_inbox()) == 1
        assert sent(outlook) == []

    def test_an_own_property_marks_the_copy_and_does_not_travel(self, outlook, ben, ben_inbox):
        id_ = "String {11111111-2222-3333-4444-555555555555} Name Mark"
        mark = [{"id": id_, "value": "m-1"}]
        outlook.call("POST", SEND, 202, json=written(ben.address, singleValueExtendedProperties=mark))
        wanted = f"singleValueExtendedProperties/Any(ep: ep/id eq '{id_}' and ep/value eq 'm-1')"
        assert len(outlook.get("/me/mailFolders/sentitems/messages", filter=wanted)["value"]) == 1
        assert "m-1" not in ben_inbox()[0].as_string()

    def test_an_address_that_is_refused_brings_a_report(self, outlook):
        outlook.call("POST", SEND, 202, json=written("nobody@parts.example"))
        (report,) = outlook.get("/me/mailFolders/inbox/messages")["value"]
        assert "nobody@parts.example" in outlook.call("GET", f"/me/messages/{report['id']}/$value").text


class TestLimits:
    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ([{"name": f"x-{n}", "value": "1"} for n in range(6)], "InvalidInternetMessageHeaderCollection"),
            ([{"name": "In-Reply-To", "value": "<a@b>"}], "InvalidInternetMessageHeader"),
        ],
        ids=["six", "not beginning with x-"],
    )
    def test_own_headers_are_few_and_begin_with_x(self, outlook, ben, headers, code):
        body = written(ben.address, internetMessageHeaders=headers)
        assert outlook.refused("POST", SEND, 400, json=body) == code
        assert outlook.refused("POST", "/me/messages", 400, json=body["message"]) == code
        assert ben.inbox() == sent(outlook) == []

    def test_a_request_is_at_most_4_mb(self, outlook, ben):
        raw = mail(outlook.address, "x" * 3_200_000, To=ben.address)
        code = outlook.refused("POST", SEND, 413, data=base64.b64encode(raw), headers=MIME)
        assert code == "RequestEntityTooLarge"

    def test_a_mail_is_as_large_as_the_administrator_allows(self, outlook, ben):
        outlook.world.graph.faults.largest = 1000
        raw = mail(outlook.address, "x" * 1001, To=ben.address)
        assert (
            outlook.refused("POST", SEND, 400, data=base64.b64encode(raw), headers=MIME)
            == "ErrorMessageSizeExceeded"
        )
        assert sent(outlook) == []

    def test_somebody_has_to_get_it(self, outlook):
        body = {"message": {"subject": "x", "toRecipients": []}}
        assert outlook.refused("POST", SEND, 400, json=body) == "ErrorInvalidRecipients"


class TestAnswers:
    @pytest.fixture
    def item(self, outlook, ann, ben):
        raw = mail(
            ben.address,
            "Our offer",
            To=f"{outlook.address}, {ann.address}",
            Subject="Offer",
            References="<0@x>",
            Message_ID="<1@x>",
        )
        return outlook.world.graph.arrive(outlook.address, raw)

    def test_a_reply_is_threaded_and_quotes(self, outlook, ben, ben_inbox, item):
        outlook.call("POST", f"/me/messages/{item.id}/reply", 202, json={"comment": "Thanks"})
        (got,) = ben_inbox()
        assert (got["Subject"], got["In-Reply-To"], got["References"]) == (
            "RE: Offer",
            "<1@x>",
            "<0@x> <1@x>",
        )
        text = got.get_content()
        assert text.startswith("Thanks")
        assert "Our offer" in text
        (copy,) = sent(outlook)
        assert copy["conversationId"] == outlook.get(f"/me/messages/{item.id}")["conversationId"]
        assert (
            outlook.get(f"/me/messages/{copy['id']}", select="uniqueBody")["uniqueBody"]["content"].strip()
            == "Thanks"
        )

    def test_to_all_means_everybody_but_oneself(self, outlook, ann, ben, item):
        outlook.call("POST", f"/me/messages/{item.id}/replyAll", 202, json={"comment": "Hi all"})
        assert len(ann.inbox()) == len(ben.inbox()) == 1
        assert (
            parsed(ann.inbox()[0])["To"]
            == f'"{ben.address}" <{ben.address}>, "{ann.address}" <{ann.address}>'
        )
        assert outlook.subjects("/me/mailFolders/inbox/messages") == ["Offer"]

    def test_reply_to_is_honoured(self, outlook, ann, ben):
        raw = mail(ben.address, To=outlook.address, Subject="x", Reply_To=ann.address)
        item = outlook.world.graph.arrive(outlook.address, raw)
        outlook.call("POST", f"/me/messages/{item.id}/reply", 202, json={"comment": "Hi"})
        assert (len(ann.inbox()), len(ben.inbox())) == (1, 0)

    def test_comment_and_body_exclude_each_other(self, outlook, item):
        body = {"comment": "a", "message": {"body": {"contentType": "text", "content": "b"}}}
        assert (
            outlook.refused("POST", f"/me/messages/{item.id}/reply", 400, json=body) == "ErrorInvalidRequest"
        )

    def test_a_forward_goes_where_it_is_told(self, outlook, ann, item):
        body = {"comment": "FYI", "toRecipients": to(ann.address)}
        outlook.call("POST", f"/me/messages/{item.id}/forward", 202, json=body)
        assert parsed(ann.inbox()[0])["Subject"] == "FW: Offer"

    def test_a_reply_can_be_drafted_changed_and_sent_under_one_id(self, outlook, ben_inbox, item):
        draft = outlook.post(f"/me/messages/{item.id}/createReply")
        assert draft["isDraft"]
        body = {"body": {"contentType": "text", "content": "Better"}}
        outlook.call("PATCH", f"/me/messages/{draft['id']}", json=body)
        outlook.call("POST", f"/me/messages/{draft['id']}/send", 202)
        (got,) = ben_inbox()
        assert (got.get_content().strip(), got["In-Reply-To"]) == ("Better", "<1@x>")
        assert outlook.get(f"/me/messages/{draft['id']}")["internetMessageId"] == got["Message-ID"]
        assert outlook.refused("POST", f"/me/messages/{draft['id']}/send", 400) == "ErrorInvalidOperation"

    def test_a_reply_may_be_mime(self, outlook, ben, ben_inbox, item):
        raw = mail(outlook.address, "Raw reply", To=ben.address, Subject="RE: Offer", In_Reply_To="<1@x>")
        outlook.call("POST", f"/me/messages/{item.id}/reply", 202, data=base64.b64encode(raw), headers=MIME)
        assert ben_inbox()[0].get_content().strip() == "Raw reply"


class TestOtherSenders:
    @pytest.fixture
    def team(self, office, outlook):
        return office.outlook(name="team")

    def test_it_takes_a_right_in_exchange(self, outlook, team, ben):
        body = written(ben.address, **{"from": to(team.address)[0]})
        assert outlook.refused("POST", SEND, 403, json=body) == "ErrorSendAsDenied"
        team.box.grant_access(outlook.address, "send_on_behalf")
        outlook.call("POST", SEND, 202, json=body)
        assert parsed(ben.inbox()[0])["From"] == team.address
        assert (len(sent(outlook)), len(sent(team))) == (1, 0), "the copy lies with whoever sent it"

    def test_and_the_scope_for_it(self, office, outlook, team, ben):
        team.box.grant_access(outlook.address, "send_as")
        plain = office.outlook("Mail.Send")
        assert (
            plain.refused("POST", SEND, 403, json=written(ben.address, **{"from": to(team.address)[0]}))
            == "ErrorSendAsDenied"
        )

    def test_out_of_the_shared_mailbox_itself_it_takes_full_access_too(self, outlook, team, ben):
        team.box.grant_access(outlook.address, "send_as")
        path = f"/users/{team.address}/sendMail"
        body = written(ben.address)
        assert outlook.refused("POST", path, 403, json=body) == "ErrorAccessDenied"
        team.box.grant_access(outlook.address, "full_access")
        outlook.call("POST", path, 202, json=body)
        assert (len(sent(outlook)), len(sent(team))) == (0, 1)


class TestFaults:
    """What may go wrong, each on its switch."""

    def post(self, outlook, ben, **headers):
        raw = mail(outlook.address, To=ben.address, Subject="Offer", Message_ID="<own@case>", **headers)
        return outlook.call("POST", SEND, 202, data=base64.b64encode(raw), headers=MIME)

    def test_exchange_rewrites_the_message_id_of_mail_and_copy_alike(self, outlook, ben, ben_inbox):
        outlook.world.graph.faults.rewrite_message_id = True
        self.post(outlook, ben)
        (got,) = ben_inbox()
        assert got["Message-ID"] != "<own@case>"
        assert [one["internetMessageId"] for one in sent(outlook)] == [got["Message-ID"]]

    def test_exchange_rewrites_the_date(self, outlook, ben, ben_inbox):
        outlook.world.graph.faults.rewrite_date = True
        self.post(outlook, ben, Date="Mon, 01 Jan 2024 00:00:00 +0000")
        assert "2024" not in ben_inbox()[0]["Date"]

    def test_exchange_drops_headers_of_ones_own(self, outlook, ben, ben_inbox):
        outlook.world.graph.faults.drop_x_headers = True
        self.post(outlook, ben, X_Case="1", Subject_="kept")
        assert "X-Case" not in ben_inbox()[0]
        assert ben_inbox()[0]["Subject-"] == "kept"

    def test_the_copy_shows_up_late(self, outlook, ben):
        outlook.world.graph.faults.late_sent_copy = True
        self.post(outlook, ben)
        assert len(ben.inbox()) == 1
        assert sent(outlook) == []
        outlook.world.graph.release_sent_copies()
        assert len(sent(outlook)) == 1

    def test_the_connection_breaks_before_or_after_it_was_taken(self, outlook, ben):
        for fault, arrived in (("lost_before", 0), ("lost_answers", 1)):
            setattr(outlook.world.graph.faults, fault, 1)
            with pytest.raises(requests.ConnectionError):
                self.post(outlook, ben)
            assert len(ben.inbox()) == len(sent(outlook)) == arrived

    def test_it_times_out_after_it_was_taken(self, outlook, ben):
        outlook.world.graph.faults.late_answers = 1
        assert outlook.refused("POST", SEND, 504, json=written(ben.address)) == "GatewayTimeout"
        assert len(ben.inbox()) == len(sent(outlook)) == 1
