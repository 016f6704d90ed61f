"""The decider alone: envelopes and knowledge in, decisions out."""

import base64
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.graph.mailbox import Mailbox
from shared import identity, mime
from shared.conversations import SUBJECT_ONLY, as_proven, decide
from shared.identity import SignedId
from shared.model import Address, Alias, Conversation, Envelope
from tests.scenes import write

pytestmark = pytest.mark.fast

KEY = b"k" * 32
CONVERSATION = Conversation("c" * 16, "C-1", "offer 4711")
OTHER = Conversation("d" * 16, "C-2", "something else")
SENT = SignedId(CONVERSATION.id, "1763943000123-0123456789ab")
OURS = identity.mint(KEY, "org", SENT, "imap.example")
SUPPLIERS = "<reply-1@supplier.example>"
PLANTED = "<planted@imap.example>"
SUPPLIER = Address("supplier@supplier.example", "Supplier")
LOST = ("<lost@supplier.example>",)
STRANGER = Address("stranger@elsewhere.example")
ALICE = Address("alice@imap.example", "Alice")


@dataclass
class Known:
    """A lookup over plain dictionaries that remembers what it was asked."""

    org: str = "org"
    aliases: dict[str, Alias] = field(default_factory=dict)
    threads: dict[str, str] = field(default_factory=dict)
    people: set[str] = field(default_factory=lambda: {SUPPLIER.address, ALICE.address})
    asked: list[str] = field(default_factory=list)
    mine: bool = True
    elsewhere: set[str] = field(default_factory=set)
    line: bool = True  # all that it knows descends from whatever is named

    def signed(self, message_id):
        return identity.read(KEY, self.org, message_id)

    def alias(self, message_id):
        self.asked.append(message_id)
        return self.aliases.get(message_id)

    def descendants(self, message_id):
        self.asked.append(f"below {message_id}")
        others = {"<sibling@x.example>": Alias("<sibling@x.example>", OTHER.id, "3-x", "f")}
        return {**others, **(self.aliases if self.line else {})}

    def knows_any(self, conversation_id, addresses):
        return any(self.knows(conversation_id, address) for address in addresses)

    def conversation(self, conversation_id):
        return {c.id: c for c in (CONVERSATION, OTHER)}.get(conversation_id)

    def hinted(self, thread):
        return self.threads.get(thread)

    def knows(self, conversation_id, address):
        return conversation_id == CONVERSATION.id and address in self.people

    def own(self, alias):
        return alias if self.mine and alias.message_id not in self.elsewhere else None


def envelope(**changes) -> Envelope:
    basis = Envelope(
        ref="1",
        message_id="<new@supplier.example>",
        references=(),
        in_reply_to=None,
        sender=SUPPLIER,
        recipients=(ALICE,),
        subject="Re: Offer 4711",
        sent_at=datetime(2026, 11, 24, 8, tzinfo=UTC),
        received_at=None,
        headers={"from": ("Supplier <supplier@supplier.example>",)},
    )
    return replace(basis, **changes)


def our_message() -> Envelope:
    return envelope(
        message_id=OURS,
        references=(OURS,),
        sender=ALICE,
        recipients=(SUPPLIER,),
        subject="Offer 4711",
        sent_at=datetime.fromtimestamp(1763943000, UTC),
        headers={"from": ("Alice <alice@imap.example>",)},
    )


def known() -> Known:
    sent = Alias(OURS, CONVERSATION.id, SENT.email_id, mime.fingerprint(our_message()))
    theirs = Alias(SUPPLIERS, CONVERSATION.id, "1763943000999-0123456789ab", "f")
    return Known(aliases={OURS: sent, SUPPLIERS: theirs})


REPORT = {
    "content-type": ("multipart/report; report-type=delivery-status",),
    "from": ("mailer-daemon@x.example",),
}
DAEMON = Address("mailer-daemon@x.example")


def bounce(**changes) -> Envelope:
    return envelope(sender=DAEMON, headers=REPORT, subject="Undeliverable", **changes)


def test_who_answers_a_mail_that_this_mailbox_never_had_waits_unless_a_secret_of_ours_is_named():
    knowledge = replace(known(), mine=False)
    decision = decide(envelope(references=(SUPPLIERS,)), knowledge)
    assert decision.outcome == "review"
    assert "does not have" in decision.reason
    assert decide(envelope(references=(OURS, SUPPLIERS)), knowledge).outcome == "file"


def test_an_id_of_a_mail_that_the_mailbox_never_had_hides_none_of_ours_farther_back():
    mail = envelope(in_reply_to=PLANTED, references=(OURS, PLANTED))
    decision = decide(mail, with_planted(mine=False))
    assert (decision.outcome, decision.conversation) == ("file", CONVERSATION)


def with_planted(**changes) -> Known:
    """A lookup that also knows a mail of another case, which this mailbox never had."""
    knowledge = replace(known(), elsewhere={PLANTED}, **changes)
    knowledge.aliases[PLANTED] = Alias(PLANTED, OTHER.id, "1-x", "f")
    return knowledge


@pytest.mark.parametrize(("sender", "outcome"), [(SUPPLIER, "file"), (STRANGER, "review")])
def test_an_id_of_a_mail_that_the_mailbox_never_had_changes_nothing_about_one_that_it_had(sender, outcome):
    mail = envelope(sender=sender, in_reply_to=PLANTED, references=(SUPPLIERS, PLANTED))
    decision = decide(mail, with_planted())
    assert (decision.outcome, decision.conversation) == (outcome, CONVERSATION)
    assert decision.evidence == decide(mail, known()).evidence


def test_the_nearest_of_several_mails_that_the_mailbox_had_decides_behind_one_that_it_never_had():
    knowledge = with_planted()
    knowledge.aliases["<far@x.example>"] = Alias("<far@x.example>", OTHER.id, "2-x", "f")
    mail = envelope(in_reply_to=PLANTED, references=("<far@x.example>", SUPPLIERS, PLANTED))
    assert decide(mail, knowledge).conversation == CONVERSATION


def test_where_the_mailbox_had_none_of_the_mails_that_are_named_the_nearest_waits_for_its_owner():
    decision = decide(envelope(references=(SUPPLIERS, PLANTED)), with_planted(mine=False))
    assert (decision.outcome, decision.conversation) == ("review", OTHER)
    assert "does not have" in decision.reason


@pytest.mark.parametrize(("sender", "outcome"), [(SUPPLIER, "file"), (STRANGER, "review")])
def test_an_id_of_a_mail_that_the_mailbox_never_had_changes_nothing_about_a_thread(sender, outcome):
    knowledge = with_planted(threads={"T1": CONVERSATION.id})
    alone = decide(envelope(sender=sender, thread="T1", references=LOST), knowledge)
    beside = decide(
        envelope(sender=sender, thread="T1", in_reply_to=PLANTED, references=(PLANTED,)), knowledge
    )
    assert (beside.outcome, beside.conversation) == (outcome, CONVERSATION)
    assert beside == alone


def test_an_id_of_a_mail_that_the_mailbox_never_had_waits_for_its_owner_where_the_thread_tells_nothing():
    mail = envelope(sender=STRANGER, subject="Other", thread="T1", in_reply_to=PLANTED, references=(PLANTED,))
    decision = decide(mail, with_planted(threads={"T1": CONVERSATION.id}))
    assert (decision.outcome, decision.conversation) == ("review", OTHER)


def test_of_an_id_that_the_mailbox_never_had_a_secret_of_its_conversation_makes_one_that_counts():
    secret = identity.mint(KEY, "org", SignedId(OTHER.id, SENT.email_id), "imap.example")
    decision = decide(envelope(references=(secret, SUPPLIERS, PLANTED)), with_planted())
    assert (decision.outcome, decision.conversation, decision.evidence.matched) == ("file", OTHER, PLANTED)


def test_whether_the_mailbox_had_a_mail_is_not_asked_where_a_secret_leads_to_its_conversation():
    knowledge = known()
    knowledge.had = lambda _: pytest.fail("nobody needs to know")
    assert decide(envelope(references=(OURS, SUPPLIERS)), knowledge).outcome == "file"


def test_another_sender_in_sent_is_judged_as_one_who_writes_to_us():
    for sender, references, outcome in (
        (STRANGER, (SUPPLIERS,), "review"),
        (SUPPLIER, (SUPPLIERS,), "file"),
        (STRANGER, (OURS,), "file"),
        (ALICE, (SUPPLIERS,), "file"),
    ):
        mail = envelope(sender=sender, is_sent=True, references=references)
        knowledge = replace(known(), people={SUPPLIER.address})
        assert decide(mail, knowledge, own=ALICE.address).outcome == outcome, sender


def test_the_mail_that_is_answered_comes_before_every_other_reference():
    knowledge = known()
    knowledge.aliases["<other@x.example>"] = Alias("<other@x.example>", OTHER.id, "1-x", "f")
    mail = envelope(in_reply_to=SUPPLIERS, references=(SUPPLIERS, "<other@x.example>"))
    decision = decide(mail, knowledge)
    assert (decision.conversation, decision.evidence.rule) == (CONVERSATION, "in-reply-to")


def test_a_report_that_only_names_a_mail_waits_and_says_why():
    decision = decide(bounce(), known(), reported=(SUPPLIERS,))
    assert (decision.outcome, decision.kind) == ("review", "bounce")
    assert "report" in decision.reason


def test_a_report_that_returns_a_mail_with_our_signed_id_is_believed():
    decision = decide(bounce(), known(), reported=(SUPPLIERS,), returned=(OURS, "<else@x.example>"))
    assert (decision.outcome, decision.evidence.rule, decision.evidence.matched) == (
        "file",
        "report",
        SUPPLIERS,
    )


def test_our_signed_id_of_another_conversation_proves_nothing_about_this_one():
    elsewhere = identity.mint(KEY, "org", SignedId(OTHER.id, "1763943000123-0123456789ab"), "imap.example")
    assert decide(bounce(), known(), reported=(SUPPLIERS,), returned=(elsewhere,)).outcome == "review"
    foreign = identity.mint(b"x" * 32, "org", SENT, "imap.example")
    assert decide(bounce(), known(), reported=(SUPPLIERS,), returned=(foreign,)).outcome == "review"


def test_a_reply_to_our_message_is_filed_with_its_evidence():
    decision = decide(envelope(references=(OURS,), in_reply_to=OURS), known())
    assert decision.outcome == "file"
    assert decision.conversation == CONVERSATION
    assert (decision.evidence.rule, decision.evidence.matched) == ("in-reply-to", OURS)
    assert decision.evidence.confidence >= 0.95
    assert not decision.new_participant


def test_references_alone_are_enough():
    assert decide(envelope(references=(OURS,)), known()).outcome == "file"


def test_the_nearest_reference_decides():
    knowledge = known()
    knowledge.aliases["<far@x.example>"] = Alias("<far@x.example>", OTHER.id, "1", "f")
    decision = decide(envelope(references=("<far@x.example>", SUPPLIERS)), knowledge)
    assert decision.conversation == CONVERSATION


def test_a_reply_to_a_reply_we_never_saw_is_found_through_our_id_further_back():
    decision = decide(
        envelope(references=(OURS, "<unseen@x.example>"), in_reply_to="<unseen@x.example>"), known()
    )
    assert decision.outcome == "file"
    assert decision.evidence.matched == OURS


def test_our_id_counts_even_where_a_relay_changed_its_case():
    assert decide(envelope(references=(OURS.upper(),)), known()).outcome == "file"


def test_a_stranger_with_our_signed_id_is_filed_as_a_new_participant():
    decision = decide(envelope(sender=STRANGER, references=(OURS,)), known())
    assert decision.outcome == "file"
    assert decision.new_participant


def test_a_stranger_who_only_knows_a_message_id_waits_for_review():
    decision = decide(envelope(sender=STRANGER, references=(SUPPLIERS,)), known())
    assert decision.outcome == "review"
    assert "unknown" in decision.reason


def test_a_secret_further_back_opens_the_gate_for_a_nearer_match():
    decision = decide(envelope(sender=STRANGER, references=(OURS, SUPPLIERS)), known())
    assert decision.outcome == "file"
    assert decision.evidence.matched == SUPPLIERS


def test_a_secret_of_another_conversation_opens_nothing():
    foreign = identity.mint(KEY, "org", SignedId(OTHER.id, SENT.email_id), "imap.example")
    assert decide(envelope(sender=STRANGER, references=(foreign, SUPPLIERS)), known()).outcome == "review"


def test_a_forged_sender_waits_for_review_whatever_he_knows():
    headers = {
        "from": ("Supplier <supplier@supplier.example>",),
        "authentication-results": ("mx.imap.example; dmarc=fail header.from=supplier.example",),
    }
    decision = decide(envelope(references=(OURS,), headers=headers), known(), authserv_id="mx.imap.example")
    assert decision.outcome == "review"
    assert "forged" in decision.reason


def test_another_organisations_token_means_nothing():
    knowledge = known()
    knowledge.org, knowledge.aliases = "stranger", {}
    assert decide(envelope(references=(OURS,)), knowledge).outcome == "ignore"


def test_a_tampered_token_means_nothing():
    tampered = OURS.replace("z.c", "z.d", 1)
    assert decide(envelope(references=(tampered,)), known()).outcome == "ignore"


def test_the_same_subject_alone_files_nothing():
    assert decide(envelope(subject="Offer 4711"), known()).outcome == "ignore"


def test_a_changed_subject_is_filed_and_noted():
    decision = decide(envelope(subject="Invoice", references=(OURS,)), known())
    assert decision.outcome == "file"
    assert "subject changed" in decision.evidence.notes


def test_a_forward_is_filed_and_noted():
    decision = decide(envelope(subject="WG: Offer 4711", references=(OURS,)), known())
    assert "forwarded" in decision.evidence.notes


def test_the_same_message_again_is_known():
    decision = decide(our_message(), known())
    assert decision.outcome == "known"
    assert decision.copy_of and decision.copy_of.email_id == SENT.email_id


def test_our_message_under_a_rewritten_id_is_known_by_its_own_reference():
    decision = decide(replace(our_message(), message_id="<rewritten@relay.example>"), known())
    assert decision.outcome == "known"


def submitted(**changes) -> Envelope:
    """Our message as Exchange files it: another Message-ID, and the time of submission as Date."""
    rewritten = replace(our_message(), message_id="<rewritten@outlook.example>", is_sent=True)
    return replace(rewritten, sent_at=rewritten.sent_at + timedelta(seconds=97), **changes)


def test_our_message_is_known_although_exchange_changed_both_id_and_date():
    assert decide(submitted(), known()).outcome == "known"


def test_our_message_is_known_although_the_clock_of_exchange_is_behind_ours():
    behind = our_message().sent_at - timedelta(seconds=2)
    assert decide(replace(submitted(), sent_at=behind), known()).outcome == "known"


@pytest.mark.parametrize(
    "changes",
    [
        {"in_reply_to": OURS},
        {"references": (OURS, SUPPLIERS)},
        {"subject": "Re: Offer 4711"},
        {"sender": SUPPLIER},
    ],
    ids=["answers it", "quotes it further up", "another subject", "another sender"],
)
def test_what_only_quotes_our_message_is_no_copy_of_it(changes):
    assert decide(submitted(**changes), known()).outcome == "file"


def test_a_mail_from_before_our_promise_or_long_after_is_no_copy_of_it():
    for late in (timedelta(days=2), timedelta(days=-1)):
        mail = submitted()
        assert decide(replace(mail, sent_at=mail.sent_at + late), known()).outcome == "file"


def test_another_mail_under_a_known_message_id_is_not_trusted_by_id_alone():
    assert decide(envelope(message_id=SUPPLIERS, subject="Other"), known()).outcome == "ignore"
    decision = decide(envelope(message_id=SUPPLIERS, references=(OURS,)), known())
    assert decision.outcome == "file"
    assert not decision.trusted_id


def test_own_mail_from_the_sent_folder_passes_the_gate():
    mail = envelope(references=(SUPPLIERS,), is_sent=True)
    decision = decide(mail, replace(known(), people=set()), own=SUPPLIER.address)
    assert decision.outcome == "file"


TRACE = {"received": ("from mx.supplier.example by mx.imap.example; Tue, 24 Nov 2026 08:00:00 +0000",)}
ALIAS = Address("sales@imap.example")
BEYOND = (Address("buyer@elsewhere.example"),)


@pytest.mark.parametrize(
    ("changes", "believed"),
    [
        ({"sender": ALICE, "headers": TRACE}, True),
        ({"sender": ALIAS, "recipients": BEYOND}, True),
        ({"sender": ALIAS, "headers": TRACE | {"sender": ("Alice <Alice@IMAP.example>",)}}, True),
        ({"sender": None, "recipients": BEYOND}, True),
        ({"headers": TRACE}, False),
        ({"headers": TRACE, "recipients": BEYOND}, False),
        ({"recipients": (ALICE, *BEYOND)}, False),
        ({"sender": None, "headers": TRACE}, False),
    ],
)
def test_what_lies_in_sent_was_sent_only_where_it_did_not_come_in(changes, believed):
    found = as_proven(envelope(is_sent=True, **changes), ALICE.address)
    assert found.is_sent is believed
    assert not as_proven(replace(found, is_sent=False), ALICE.address).is_sent


def threaded(thread="T1", **changes):
    """Decide about a mail in a thread in which the conversation was seen."""
    knowledge = replace(known(), threads={thread: CONVERSATION.id})
    return decide(envelope(thread=thread, **changes), knowledge, own=ALICE.address)


BEGINS, ANSWERS = (
    {"from": ("x",), "thread-index": (base64.b64encode(b"\x01" + bytes(length)).decode(),)}
    for length in (21, 26)
)


@pytest.mark.parametrize(
    ("subject", "sender", "outcome"),
    [
        ("Re: Offer 4711", SUPPLIER, "file"),
        ("Other", SUPPLIER, "file"),
        ("Re: Offer 4711", STRANGER, "review"),
        ("Other", STRANGER, "ignore"),
    ],
)
@pytest.mark.parametrize(
    "answers", [{"references": LOST}, {"in_reply_to": LOST[0]}, {"headers": ANSWERS}], ids=str
)
def test_a_thread_hint_files_an_answer_with_the_subject_or_a_known_participant(
    answers, subject, sender, outcome
):
    assert threaded(subject=subject, sender=sender, **answers).outcome == outcome


@pytest.mark.parametrize("subject", ["Offer 4711", "[EXTERN] Offer 4711", "Other"])
@pytest.mark.parametrize(
    "says", [{}, {"headers": BEGINS}, {"references": ("<new@supplier.example>",)}], ids=str
)
def test_a_thread_hint_says_nothing_about_a_mail_that_answers_none(says, subject):
    assert threaded(subject=subject, **says).outcome == "ignore"


@pytest.mark.parametrize("subject", ["Re: Offer 4711", "[EXTERN] AW: Offer 4711", "WG: Offer 4711"])
@pytest.mark.parametrize(("sender", "outcome"), [(SUPPLIER, "review"), (STRANGER, "ignore")])
def test_what_says_only_by_its_subject_that_it_answers_waits_if_somebody_known_wrote_it(
    subject, sender, outcome
):
    decision = threaded(subject=subject, sender=sender)
    assert (decision.outcome, decision.reason) == (outcome, SUBJECT_ONLY if outcome == "review" else "")


@pytest.mark.parametrize("topic", ["Offer 4711", "Re: Offer 4711", "AW: Re: Offer 4711", "Größe 4711 ✓"])
@pytest.mark.parametrize(("sender", "outcome"), [(SUPPLIER, "review"), (STRANGER, "ignore")])
def test_in_a_thread_that_exchange_made_of_the_topic_alone_an_answer_waits_for_its_owner(
    topic, sender, outcome
):
    """What it answers may be another mail with that subject: ids that nobody knows do not tell."""
    raw = write(SUPPLIER.address, ALICE.address, topic, "x").as_bytes()
    thread = Mailbox(ALICE.address).add(raw).conversation
    subject = f"Re: {topic}"
    assert threaded(thread, subject=subject, sender=sender, references=LOST).outcome == outcome
    assert threaded(thread, subject=subject, references=(SUPPLIERS,)).outcome == "file"


@pytest.mark.parametrize(
    ("to", "outcome"),
    [
        ((SUPPLIER,), "file"),
        ((STRANGER, SUPPLIER), "file"),
        ((STRANGER,), "ignore"),
        ((STRANGER, ALICE), "ignore"),
    ],
)
@pytest.mark.parametrize("is_sent", [True, False], ids=["in Sent", "elsewhere"])
def test_what_the_owner_wrote_is_filed_by_a_hint_only_if_somebody_else_gets_it_who_takes_part(
    to, outcome, is_sent
):
    mail = {"sender": ALICE, "recipients": to, "is_sent": is_sent, "in_reply_to": LOST[0]}
    assert threaded(**mail).outcome == outcome


@pytest.mark.parametrize("subject", ["Offer 4711", "Re: Offer 4711"])
def test_where_no_subject_makes_a_thread_the_owners_own_mail_needs_no_headers(subject):
    sent = {"sender": ALICE, "recipients": (STRANGER,), "is_sent": True, "threaded": True}
    assert threaded(subject=subject, **sent).outcome == "file"
    assert threaded(subject="Other", **sent).outcome == "ignore"


def test_a_mail_that_answers_none_costs_no_look_for_its_thread():
    class Asked(Known):
        def hinted(self, thread):
            raise AssertionError

    assert decide(envelope(thread="T1", subject="Offer 4711"), Asked()).outcome == "ignore"


@pytest.mark.parametrize("id_", ["18c3f2a9b7d1e0f4", "é", "A", "", "AAQk"])
def test_other_systems_threads_are_not_made_of_a_topic(id_):
    assert not mime.is_topics(id_, "Offer 4711")


def test_a_bounce_is_filed_by_the_message_it_reports():
    bounce = envelope(
        sender=Address("mailer-daemon@imap.example"),
        headers={"content-type": ('multipart/report; report-type="delivery-status"; boundary=x',)},
    )
    decision = decide(bounce, known(), reported=[OURS])
    assert (decision.outcome, decision.kind, decision.new_participant) == ("file", "bounce", False)


def test_an_automatic_reply_is_filed_by_kind():
    auto = envelope(references=(OURS,), headers={"auto-submitted": ("auto-replied",)})
    assert decide(auto, known()).kind == "auto_reply"


def test_only_the_newest_references_are_looked_up():
    knowledge = known()
    long = tuple(f"<{n}@x.example>" for n in range(400))
    decide(envelope(references=long), knowledge)
    assert len(knowledge.asked) <= 52
    assert "<399@x.example>" in knowledge.asked


def test_only_the_first_mails_that_a_report_names_are_looked_up_and_ours_wherever_it_is():
    knowledge = known()
    named = [f"<{n}@x.example>" for n in range(400)]
    decide(bounce(), knowledge, reported=named)
    assert len(knowledge.asked) <= 52
    assert decide(bounce(), known(), reported=[*named, OURS]).outcome == "file"


def test_our_own_id_is_recognised_however_long_ago_it_was():
    long = (OURS, *(f"<{n}@x.example>" for n in range(400)))
    assert decide(envelope(references=long), known()).outcome == "file"


def test_a_mail_without_references_costs_one_look():
    knowledge = known()
    decide(envelope(), knowledge)
    assert knowledge.asked == ["<new@supplier.example>"]


def test_no_sender_or_several_are_never_believed():
    headers = {"from": ("a@x.example, b@x.example",)}
    assert decide(envelope(sender=None, references=(OURS,), headers=headers), known()).outcome == "review"


UNSEEN = [f"<unseen-{number}@supplier.example>" for number in range(20)]


@pytest.mark.parametrize("oldest", [OURS, SUPPLIERS, "<root@supplier.example>"])
def test_of_ids_that_nobody_knows_the_parents_is_asked_after_and_the_others_at_once_by_the_oldest(oldest):
    """Each costs a read, and an answer deep in a thread names dozens of its mails that we never had."""
    knowledge = known()
    answer = envelope(references=(oldest, SUPPLIERS, *UNSEEN), in_reply_to=UNSEEN[-1])
    assert decide(answer, knowledge).outcome == "file"
    assert knowledge.asked == [answer.message_id, UNSEEN[-1], f"below {oldest}"]


def test_an_answer_deep_in_a_thread_that_nobody_knows_costs_five_looks_at_most():
    knowledge = Known()
    assert decide(envelope(references=(*UNSEEN,)), knowledge).outcome == "ignore"
    assert knowledge.asked == [
        "<new@supplier.example>",
        UNSEEN[-1],
        f"below {UNSEEN[0]}",
        *UNSEEN[-3:-1][::-1],
    ]


def test_of_several_mails_that_one_answers_none_descends_from_another():
    knowledge = replace(known(), line=False)
    ids = ("<a@x.example>", "<b@x.example>", SUPPLIERS, "<c@x.example>")
    several = envelope(references=ids, in_reply_to="<c@x.example>")
    assert decide(several, knowledge).evidence.matched == SUPPLIERS


def test_a_few_ids_are_asked_after_one_by_one():
    """They may be of several mails, of several cases, that one answers: the nearest decides."""
    knowledge = replace(known(), line=False)
    knowledge.aliases["<far@x.example>"] = Alias("<far@x.example>", OTHER.id, "2-x", "f")
    few = envelope(references=("<far@x.example>", SUPPLIERS, "<b@x.example>"), in_reply_to="<b@x.example>")
    assert decide(few, knowledge).conversation == CONVERSATION
    assert not [one for one in knowledge.asked if one.startswith("below")]


def test_the_oldest_is_the_first_of_the_references_also_where_in_reply_to_names_it_and_never_the_mail_itself():
    knowledge = known()
    answer = envelope(
        references=("<new@supplier.example>", "<root@x.example>", *UNSEEN), in_reply_to="<root@x.example>"
    )
    assert decide(answer, knowledge).outcome == "ignore"
    assert "below <root@x.example>" in knowledge.asked
