"""Gmail's API through google-api-python-client: reading, searching, history, sending, drafts, threads, uploads."""

import io
import json
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import batched
from pathlib import Path

import pytest
import requests
from googleapiclient.errors import HttpError
from googleapiclient.http import BatchHttpRequest, MediaIoBaseUpload

from sandbox.google.batch import CONCURRENT
from sandbox.google.headers import unb64
from tests.sandbox.conftest import mail
from tests.sandbox.google import body, letter, person

NOON = datetime.now(UTC) - timedelta(hours=2)


@pytest.fixture
def ann(world):
    return person(world)


@pytest.fixture
def bob(world):
    return person(world, "bob")


def reason(error: pytest.ExceptionInfo[HttpError]) -> tuple[int, str]:
    found = json.loads(error.value.content)["error"]
    return found["code"], found["errors"][0]["reason"]


def kinds(changes):
    """(what happened, message, labels it was about) of every entry of history."""
    found = []
    for change in changes.get("history", []):
        for kind in ("messagesAdded", "messagesDeleted", "labelsAdded", "labelsRemoved"):
            found += [(kind, one["message"]["id"], one.get("labelIds", [])) for one in change.get(kind, [])]
    return found


def rich(sender: str) -> bytes:
    message = EmailMessage(policy=policy.SMTP)
    message["From"], message["To"], message["Subject"] = sender, "x@y.example", "Angebot für Müller"
    message["Message-ID"] = "<rich@here.example>"
    message.set_content("Grüße", charset="iso-8859-1")
    message.add_alternative("<p>Grüße</p>", subtype="html")
    message.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="Übersicht.pdf")
    return message.as_bytes()


# Reading


def test_formats_show_what_they_should_and_only_two_read_the_body(ann):
    item = ann.google.arrive(ann.address, rich("sup@x.example"))
    get = ann.users().messages().get
    minimal = get(userId="me", id=item.id, format="minimal").execute()
    assert "payload" not in minimal and minimal["labelIds"] == ["INBOX", "UNREAD"]
    assert minimal["internalDate"] == str(int(item.received_at.timestamp() * 1000))
    headers = ["subject", "Message-ID"]
    metadata = get(userId="me", id=item.id, format="metadata", metadataHeaders=headers).execute()["payload"]
    assert {one["name"]: one["value"] for one in metadata["headers"]} == {
        "Subject": "Angebot für Müller",
        "Message-ID": "<rich@here.example>",
    }
    assert "parts" not in metadata and "body" not in metadata
    assert ann.box.bodies_read == {}
    assert ann.raw(item.id) == item.raw
    full = get(userId="me", id=item.id).execute()["payload"]
    text, html = full["parts"][0]["parts"]
    assert (text["partId"], unb64(text["body"]["data"]).decode().strip()) == ("0.0", "Grüße")
    assert html["mimeType"] == "text/html"
    assert full["parts"][1]["filename"] == "Übersicht.pdf"
    assert ann.box.bodies_read == {item.id: 2}
    mine = [one for one in ann.google.requests if one.user == ann.address]
    assert [one.format for one in mine] == ["minimal", "metadata", "raw", "full"]
    assert [one.units for one in mine] == [20] * 4


def test_a_mask_hides_the_text_and_is_checked(ann):
    item = ann.google.arrive(ann.address, rich("sup@x.example"))
    get = ann.users().messages().get
    shown = get(userId="me", id=item.id, fields="payload(mimeType,parts(headers,parts/headers))").execute()
    assert set(shown["payload"]["parts"][0]) == {"headers", "parts"}
    assert ann.box.bodies_read == {}
    get(userId="me", id=item.id, fields="payload/parts/body/data").execute()
    assert ann.box.bodies_read == {}  # the text lies one level deeper
    get(userId="me", id=item.id, fields="payload/parts/parts/body/data").execute()
    assert ann.box.bodies_read == {item.id: 1}
    with pytest.raises(HttpError, match="Invalid field selection text"):
        get(userId="me", id=item.id, fields="payload/text").execute()
    ann.google.violations.clear()


def test_whatever_arrives_can_be_shown(ann):
    """Every mail of our corpus, the broken ones too."""
    items = [
        ann.box.add(path.read_bytes()) for path in sorted((Path(__file__).parents[1] / "eml").glob("*.eml"))
    ]
    messages = ann.users().messages()
    for how in ("metadata", "full"):
        answers = {}
        for chunk in batched(items, CONCURRENT, strict=False):
            batch = BatchHttpRequest(
                lambda id_, answer, error, answers=answers: answers.update({id_: answer or error}),
                f"{ann.google.url}/batch",
            )
            for item in chunk:
                batch.add(messages.get(userId="me", id=item.id, format=how), request_id=item.id)
            batch.execute()
        assert [answers[item.id]["payload"]["mimeType"] for item in items] == [
            item.message.get_content_type() for item in items
        ]


def test_an_attachment_is_fetched_by_an_id_that_is_new_each_time(ann):
    item = ann.google.arrive(ann.address, rich("sup@x.example"))
    messages = ann.users().messages()
    ids = [
        messages.get(userId="me", id=item.id).execute()["payload"]["parts"][1]["body"]["attachmentId"]
        for _ in range(2)
    ]
    assert ids[0] != ids[1]
    found = messages.attachments().get(userId="me", messageId=item.id, id=ids[0]).execute()
    assert unb64(found["data"]) == b"%PDF-1.7"
    with pytest.raises(HttpError) as error:
        messages.attachments().get(userId="me", messageId=item.id, id="ANGjdJxyz").execute()
    assert reason(error) == (400, "invalidArgument")


def test_lists_are_newest_first_paged_and_without_spam(ann):
    start = datetime.now(UTC) - timedelta(hours=1)
    items = [ann.box.add(mail("s@x.example"), at=start + timedelta(minutes=n)) for n in range(5)]
    ann.box.add(mail("s@x.example"), "junk")
    ann.google.faults.hollow_pages = 1
    messages = ann.users().messages()
    request, pages = messages.list(userId="me", maxResults=2), []
    while request is not None:
        answer = request.execute()
        pages.append([one["id"] for one in answer.get("messages", [])])
        if len(pages) == 2:  # what comes between two pages shifts nothing
            ann.box.add(mail("s@x.example"))
            ann.box.remove(items[2])
        request = messages.list_next(request, answer)
    assert pages == [[], [items[4].id, items[3].id], [items[1].id, items[0].id]]
    spam = messages.list(userId="me", labelIds=["SPAM"]).execute()
    assert spam["resultSizeEstimate"] == 1
    assert len(messages.list(userId="me", includeSpamTrash=True).execute()["messages"]) == 6
    assert messages.list(userId="me", q="from:nobody").execute() == {"resultSizeEstimate": 0}


@pytest.fixture(scope="module")
def library(world):
    """Five mails, a to e, and how to search them."""
    ann = person(world)
    early, late = NOON - timedelta(minutes=5), NOON + timedelta(minutes=5)
    names = {"To": "Ann <ann@g.example>", "Message-ID": "<a@x.example>"}
    raws = {
        "a": (mail("Sup <sup@x.example>", **names, Subject="Screws, an offer"), "inbox", early),
        "b": (rich("sup@x.example").replace(b"rich@here", b"b@x"), "inbox", late),
        "c": (mail("sup@x.example", Subject="Nuts"), "Big orders", late),
        "d": (mail(ann.address, Subject="Sent"), "sent", late),
        "e": (mail("evil@x.example", Subject="Spam"), "junk", late),
    }
    ids = {ann.box.add(raw, folder, at=at).id: key for key, (raw, folder, at) in raws.items()}
    return ann.users().messages().list, ids


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("from:sup@x.example", "abc"),
        ("from:sup", "abc"),
        ("from:su", ""),
        ("subject:(screws offer)", "a"),
        ('subject:"offer screws"', ""),
        ("angebot", "b"),
        ("rfc822msgid:<a@x.example>", "a"),
        ("rfc822msgid:b@x.example", "b"),
        ("has:attachment", "b"),
        ("filename:übersicht", "b"),
        ("in:sent", "d"),
        ("in:anywhere", "abcde"),
        ("in:spam", "e"),
        ("label:big-orders", "c"),
        ("is:unread -has:attachment", "ac"),
        ("{subject:screws subject:nuts}", "ac"),
        ("subject:screws OR subject:nuts", "ac"),
        ("after:{noon}", "bcd"),
        ("before:{noon}", "a"),
        ("newer_than:1d", "abcd"),
        ("larger:1K", ""),
        ("to:ann", "a"),
    ],
)
def test_search_operators(library, query, found):
    search, ids = library
    query = query.replace("{noon}", str(int(NOON.timestamp())))
    answer = search(userId="me", q=query).execute()
    assert "".join(sorted(ids[one["id"]] for one in answer.get("messages", []))) == found


def test_dates_in_a_search_are_pacific(ann):
    item = ann.box.add(
        mail("s@x.example"), at=datetime(2026, 3, 2, 7, 30, tzinfo=UTC)
    )  # 1 March, 23:30 there
    listed = ann.users().messages().list
    assert "messages" not in listed(userId="me", q="after:2026/03/02").execute()
    assert (
        listed(userId="me", q="after:2026/03/01 before:2026/03/02").execute()["messages"][0]["id"] == item.id
    )


def test_labels_are_system_ones_and_the_users_own(ann):
    labels = ann.users("gmail.modify").labels()
    made = labels.create(userId="me", body={"name": "Orders/2026"}).execute()
    ann.box.add(mail("s@x.example"), "Orders/2026")
    listed = {one["id"]: one for one in labels.list(userId="me").execute()["labels"]}
    assert listed[made["id"]]["type"] == "user" and listed["INBOX"]["type"] == "system"
    assert labels.get(userId="me", id=made["id"]).execute()["messagesTotal"] == 1
    with pytest.raises(HttpError) as error:
        labels.create(userId="me", body={"name": "orders/2026"}).execute()
    assert reason(error) == (409, "aborted")


# History


def test_history_tells_what_came_moved_and_went(ann):
    users = ann.users("gmail.modify")
    start = users.getProfile(userId="me").execute()["historyId"]
    assert users.history().list(userId="me", startHistoryId=start).execute() == {"historyId": start}
    kept = ann.google.arrive(ann.address, mail("s@x.example"), "SPAM")
    gone = ann.google.arrive(ann.address, mail("s@x.example"))
    users.messages().modify(
        userId="me", id=kept.id, body={"addLabelIds": ["INBOX"], "removeLabelIds": ["SPAM"]}
    ).execute()
    ann.box.remove(gone)
    everything = users.history().list(userId="me", startHistoryId=start).execute()
    assert kinds(everything) == [
        ("messagesAdded", kept.id, []),
        ("messagesAdded", gone.id, []),
        ("labelsAdded", kept.id, ["INBOX"]),
        ("labelsRemoved", kept.id, ["SPAM"]),
        ("messagesDeleted", gone.id, []),
    ]
    ids = [int(one["id"]) for one in everything["history"]]
    assert ids == sorted(ids) and ids[-1] == int(everything["historyId"])
    one_by_one, token = [], None
    while True:
        page = users.history().list(
            userId="me", startHistoryId=start, historyTypes=["messageAdded"], maxResults=1, pageToken=token
        ).execute()  # fmt: skip
        one_by_one += kinds(page)
        token = page.get("nextPageToken")
        if not token:
            break
    assert one_by_one == kinds(everything)[:2]
    assert [one[1] for one in kinds(users.history().list(userId="me", startHistoryId=start, labelId="SPAM").execute())] == [
        kept.id, kept.id, kept.id,
    ]  # fmt: skip


def test_history_that_is_too_old_is_404_and_late_history_shows_nothing(ann):
    users = ann.users()
    old = users.getProfile(userId="me").execute()["historyId"]
    ann.google.arrive(ann.address, mail("s@x.example"))
    ann.google.faults.late_history = 1
    listed = users.history().list
    named = str(ann.box.history_id)
    assert listed(userId="me", startHistoryId=old).execute() == {"historyId": named}
    assert len(kinds(listed(userId="me", startHistoryId=old).execute())) == 1
    ann.google.faults.expired_histories[ann.address] = 1
    for _ in range(2):
        with pytest.raises(HttpError) as error:
            listed(userId="me", startHistoryId=old).execute()
        assert reason(error) == (404, "notFound")
        ann.box.forget_history()
    with pytest.raises(HttpError):
        listed(userId="me", startHistoryId=str(10**12)).execute()
    fresh = users.getProfile(userId="me").execute()["historyId"]
    assert listed(userId="me", startHistoryId=fresh).execute() == {"historyId": fresh}


def test_a_threads_number_is_its_last_change_by_a_label_that_was_lost_or_a_mail_that_was_deleted(ann):
    users = ann.users()
    first = ann.google.arrive(ann.address, mail("s@x.example"), "SPAM")
    newest = ann.box.add(mail("s@x.example"), thread=first.thread)

    def numbers():
        [one] = users.threads().list(userId="me").execute()["threads"]
        thread = users.threads().get(userId="me", id=first.thread, format="minimal").execute()
        assert one["historyId"] == thread["historyId"]
        return one["historyId"], [each["historyId"] for each in thread["messages"]]

    before = str(newest.history_id)
    assert numbers()[0] == before
    ann.box.label(first, remove=["SPAM"])
    rescued = str(ann.box.history_id)
    assert numbers() == (rescued, [rescued, before])
    ann.box.remove(newest)
    assert numbers() == (str(ann.box.history_id), [rescued])


# Sending


def test_a_sent_mail_arrives_and_lies_in_sent(ann, bob):
    raw = letter(ann, f"{bob.address}, other@g.example", Bcc="hidden@nowhere.example")
    start = ann.box.history_id
    sent = ann.users().messages().send(userId="me", body=body(raw)).execute()
    assert sent["labelIds"] == ["SENT"]
    copy = message_from_bytes(ann.raw(sent["id"]))
    (arrived,) = bob.box.listed("INBOX")
    seen = message_from_bytes(arrived.raw)
    assert seen["Message-ID"] == copy["Message-ID"] == message_from_bytes(raw)["Message-ID"]
    assert copy["Bcc"] and not seen["Bcc"] and seen["Date"]
    assert (
        seen["Authentication-Results"].startswith("mx.google.com;")
        and "dmarc=pass" in seen["Authentication-Results"]
    )
    history = ann.users().history().list(userId="me", startHistoryId=start).execute()
    bounces = [item for item in ann.box.listed("INBOX") if b"delivery-status" in item.raw]
    assert len(bounces) == 2  # other@ and hidden@ do not exist
    assert kinds(history)[0] == ("messagesAdded", sent["id"], [])


def test_a_mail_to_oneself_is_one_message(ann):
    sent = ann.users().messages().send(userId="me", body=body(letter(ann, ann.address))).execute()
    (item,) = ann.box.listed()
    assert (item.id, item.labels) == (sent["id"], {"SENT", "INBOX", "UNREAD"})


def test_gmail_replaces_a_foreign_sender_and_on_a_switch_the_message_id(ann, bob):
    ann.user.aliases.add("sales@g.example")
    messages = ann.users().messages()
    ann.google.faults.rewrite_message_id = True
    for sender in ("boss@g.example", "Sales <sales@g.example>"):
        messages.send(userId="me", body=body(mail(sender, To=bob.address))).execute()
    first, second = (message_from_bytes(item.raw) for item in bob.box.listed())
    assert (first["From"], second["From"]) == (ann.address, "Sales <sales@g.example>")
    assert first["Message-ID"].endswith("@mail.gmail.com>")
    assert [message_from_bytes(item.raw)["Message-ID"] for item in ann.box.listed("SENT")] == [
        first["Message-ID"],
        second["Message-ID"],
    ]


def test_a_thread_takes_a_mail_only_with_references_and_its_subject(ann, bob):
    first = ann.google.arrive(ann.address, mail(bob.address, To=ann.address, Subject="Screws"))
    refers = {"In_Reply_To": first.message_id, "References": first.message_id}
    send = ann.users().messages().send

    def thread(subject="Re: Screws", **headers):
        raw = letter(ann, bob.address, Subject=subject, **headers)
        return send(userId="me", body=body(raw, threadId=first.thread)).execute()["threadId"]

    assert thread(**refers) == first.thread
    assert thread(subject="Nuts", **refers) != first.thread
    assert thread() != first.thread
    without = send(userId="me", body=body(letter(ann, bob.address, Subject="Re: Screws", **refers))).execute()
    assert without["threadId"] != first.thread
    found = ann.users().threads().get(userId="me", id=first.thread, format="metadata").execute()
    assert len(found["messages"]) == 2
    answer = ann.google.arrive(ann.address, mail(bob.address, Subject="AW: Screws", **refers))
    assert answer.thread == first.thread
    for wrong, expected in (("nonsense", (400, "invalidArgument")), ("19abc", (404, "notFound"))):
        with pytest.raises(HttpError) as error:
            send(userId="me", body=body(letter(ann, bob.address), threadId=wrong)).execute()
        assert reason(error) == expected
    threads = ann.users().threads().list(userId="me").execute()["threads"]
    assert first.thread in {one["id"] for one in threads}


def test_what_cannot_be_sent_is_refused(ann):
    send = ann.users().messages().send
    for content in (body(mail(ann.address)), {"raw": ""}, body(letter(ann, "nobody"))):
        with pytest.raises(HttpError) as error:
            send(userId="me", body=content).execute()
        assert reason(error) == (400, "invalidArgument")
    assert ann.box.listed() == []


def test_a_draft_keeps_its_id_and_is_sent_as_a_new_message(ann, bob):
    users = ann.users("gmail.compose")
    first = ann.google.arrive(ann.address, mail(bob.address, Subject="Screws"))
    refers = {"In_Reply_To": first.message_id, "References": first.message_id, "Subject": "Re: Screws"}
    raw = letter(ann, bob.address, "one", **refers)
    draft = users.drafts().create(userId="me", body={"message": body(raw, threadId=first.thread)}).execute()
    changed = letter(ann, bob.address, "two", **refers)
    again = users.drafts().update(userId="me", id=draft["id"], body={"message": body(changed)}).execute()
    assert again["id"] == draft["id"] and again["message"]["id"] != draft["message"]["id"]
    shown = users.drafts().get(userId="me", id=draft["id"], format="raw").execute()["message"]
    assert unb64(shown["raw"]) == changed and shown["labelIds"] == ["DRAFT"]
    assert [one["id"] for one in users.drafts().list(userId="me").execute()["drafts"]] == [draft["id"]]
    sent = users.drafts().send(userId="me", body={"id": draft["id"]}).execute()
    assert sent["threadId"] == first.thread and sent["id"] != again["message"]["id"]
    assert ann.box.listed("DRAFT") == [] and b"two" in bob.box.listed()[0].raw
    for gone in (
        users.drafts().send(userId="me", body={"id": draft["id"]}),
        users.drafts().delete(userId="me", id=draft["id"]),
    ):
        with pytest.raises(HttpError) as error:
            gone.execute()
        assert reason(error) == (404, "notFound")


@pytest.mark.parametrize(("subject", "joins"), [("Re: Screws", True), ("Nails", False)])
def test_a_draft_that_is_sent_with_a_new_text_keeps_its_thread_only_by_its_subject(ann, bob, subject, joins):
    users = ann.users("gmail.compose")
    first = ann.google.arrive(ann.address, mail(bob.address, Subject="Screws"))
    refers = {"In_Reply_To": first.message_id, "References": first.message_id}
    raw = letter(ann, bob.address, "one", Subject="Re: Screws", **refers)
    draft = users.drafts().create(userId="me", body={"message": body(raw, threadId=first.thread)}).execute()
    changed = body(letter(ann, bob.address, "two", Subject=subject, **refers), threadId=first.thread)
    sent = users.drafts().send(userId="me", body={"id": draft["id"], "message": changed}).execute()
    assert (sent["threadId"] == first.thread) == joins


@pytest.mark.parametrize("resumable", [False, True])
def test_large_mails_are_uploaded(ann, bob, resumable):
    raw = letter(ann, bob.address, "0123456789\r\n" * 30_000)
    media = MediaIoBaseUpload(io.BytesIO(raw), "message/rfc822", chunksize=256 * 1024, resumable=resumable)
    first = ann.google.arrive(ann.address, mail(bob.address, Subject="Offer"))
    sent = (
        ann.users().messages().send(userId="me", body={"threadId": first.thread}, media_body=media).execute()
    )
    assert ann.raw(sent["id"]).endswith(raw[raw.index(b"\r\n\r\n") :])
    assert bob.box.listed()[0].raw.endswith(raw[-1000:])


def test_an_upload_above_the_limit_and_json_above_five_megabytes_are_refused(ann):
    url = f"{ann.google.url}/upload/gmail/v1/users/me/messages/send?uploadType=resumable"
    size = {"X-Upload-Content-Length": "36700161"}
    assert ann.plain().post(url, json={}, headers=size, timeout=5).status_code == 413
    with pytest.raises(HttpError) as error:
        ann.users().messages().send(
            userId="me", body=body(letter(ann, "x@y.example", "0" * 4_000_000))
        ).execute()
    assert error.value.status_code == 413


# Limits, rights and faults


def test_a_batch_carries_several_calls_each_with_its_own_answer(ann):
    items = [ann.box.add(mail("s@x.example")) for _ in range(3)]
    answers = {}
    batch = BatchHttpRequest(
        lambda id_, answer, error: answers.update({id_: answer or error}), f"{ann.google.url}/batch"
    )
    messages = ann.users().messages()
    for item in items:
        batch.add(
            messages.get(userId="me", id=item.id, format="metadata", metadataHeaders=["Subject", "From"]),
            request_id=item.id,
        )
    batch.add(messages.get(userId="me", id="19gone", format="minimal"), request_id="gone")
    batch.execute()
    assert [answers[item.id]["id"] for item in items] == [item.id for item in items]
    assert answers["gone"].status_code == 404
    assert sum(one.user == ann.address for one in ann.google.requests) == 4


def test_a_batch_of_too_many_is_partly_refused(ann):
    items = [ann.box.add(mail("s@x.example")) for _ in range(CONCURRENT + 2)]
    answers = {}
    batch = BatchHttpRequest(
        lambda id_, answer, error: answers.update({id_: error}), f"{ann.google.url}/batch"
    )
    for item in items:
        batch.add(ann.users().messages().get(userId="me", id=item.id, format="minimal"), request_id=item.id)
    batch.execute()
    assert [error.status_code for error in answers.values() if error] == [429, 429]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("burst", (429, "rateLimitExceeded")),
        ("minute", (403, "rateLimitExceeded")),
        ("user", (403, "userRateLimitExceeded")),
    ],
)
def test_a_throttled_user_waits_and_others_do_not(ann, bob, kind, expected):
    ann.google.faults.throttled[ann.address] = 1
    ann.google.faults.throttle, ann.google.faults.retry_after = kind, 7
    with pytest.raises(HttpError) as error:
        ann.users().getProfile(userId="me").execute()
    assert reason(error) == expected and error.value.resp["retry-after"] == "7"
    bob.users().getProfile(userId="me").execute()
    ann.users().getProfile(userId="me").execute()


def test_units_of_a_minute_run_out_and_come_back(ann):
    messages = ann.users().messages()
    item = ann.box.add(mail("s@x.example"))
    ann.google.gmail.quota.per_minute = 50
    try:
        for _ in range(2):
            messages.get(userId="me", id=item.id, format="minimal").execute()
        with pytest.raises(HttpError) as error:
            messages.get(userId="me", id=item.id, format="minimal").execute()
        assert reason(error) == (403, "rateLimitExceeded")
        ann.google.skip(61)
        messages.get(userId="me", id=item.id, format="minimal").execute()
    finally:
        ann.google.gmail.quota.per_minute = 6_000


def test_a_storm_of_503_passes(ann):
    ann.google.faults.storm = 2
    get, url = ann.plain().get, f"{ann.google.url}/gmail/v1/users/me/profile"
    assert [get(url, timeout=5).status_code for _ in range(3)] == [503, 503, 200]


def test_scopes_are_checked_per_call(ann, bob):
    item = ann.box.add(mail("s@x.example"))
    refused = [
        ann.users("gmail.send").messages().list(userId="me"),
        ann.users("gmail.readonly").messages().send(userId="me", body=body(letter(ann, bob.address))),
        ann.users("gmail.compose").history().list(userId="me", startHistoryId="1"),
        ann.users("gmail.readonly").messages().trash(userId="me", id=item.id),
    ]
    for call in refused:
        with pytest.raises(HttpError) as error:
            call.execute()
        assert reason(error) == (403, "insufficientPermissions")
    both = ann.users("gmail.metadata", "gmail.readonly").messages()
    for call in (both.list(userId="me", q="x"), both.get(userId="me", id=item.id, format="raw")):
        with pytest.raises(HttpError) as error:
            call.execute()
        assert reason(error) == (403, "forbidden")
    both.get(userId="me", id=item.id, format="metadata").execute()
    with pytest.raises(HttpError) as error:
        ann.users().messages().list(userId=bob.address).execute()
    assert reason(error) == (403, "forbidden")


def test_answers_get_lost_after_the_mail_is_gone_or_before(ann, bob):
    url, session = f"{ann.google.url}/gmail/v1/users/me/messages/send", ann.plain()
    for fault in ("lost_answers", "lost_before"):
        setattr(ann.google.faults, fault, 1)
        with pytest.raises(requests.ConnectionError):
            session.post(url, json=body(letter(ann, bob.address)), timeout=5)
        assert len(bob.box.listed()) == 1


def test_googles_own_transport_sends_again_when_an_answer_is_lost(ann, bob):
    """httplib2 takes it for a stale connection: whoever uses it sends twice."""
    ann.google.faults.lost_answers = 1
    ann.users().messages().send(userId="me", body=body(letter(ann, bob.address))).execute(num_retries=0)
    assert len(bob.box.listed()) == 2


def test_search_may_lag_behind(ann):
    ann.google.arrive(ann.address, mail("s@x.example"))
    ann.google.faults.late_search = 1
    found = [
        ann.users().messages().list(userId="me", q="from:s").execute()["resultSizeEstimate"] for _ in range(2)
    ]
    assert found == [0, 1]


def test_what_the_discovery_document_does_not_know_is_refused_and_written_down(ann):
    session, base = ann.plain(), f"{ann.google.url}/gmail/v1/users/me"
    for path in (
        "/messages?foo=1",
        "/history?startHistoryId=1&historyTypes=messagesAdded",
        "/messages?maxResults=x",
    ):
        assert session.get(base + path, timeout=5).status_code == 400
    assert session.post(f"{base}/watch", json={"topic": "x"}, timeout=5).status_code == 400
    assert session.get(f"{base}/nothing", timeout=5).status_code == 404
    session.headers["Authorization"] = "Bearer wrong"
    assert session.get(f"{base}/messages", timeout=5).headers["WWW-Authenticate"].endswith('"invalid_token"')
    assert len(ann.google.violations) == 5
    ann.google.violations.clear()


def test_fields_choose_what_is_answered(ann):
    item = ann.box.add(mail("s@x.example"))
    get = ann.users().messages().get
    shown = get(userId="me", id=item.id, format="metadata", fields="id,payload/headers(name)").execute()
    assert set(shown) == {"id", "payload"} and set(shown["payload"]["headers"][0]) == {"name"}
