"""The nouns of the domain: frozen records, no behaviour beyond their own keys. Pure.

Times are aware UTC. Addresses are lower-case A-label addr-specs (beside one that is another's stands how
he spells it); names are decoded text. A `Message-ID` is kept with its angle brackets.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal

MailKind = Literal["mail", "auto_reply", "bounce", "receipt"]
Direction = Literal["in", "out"]
Origin = Literal["case", "mailbox"]
MessageState = Literal["received", "queued", "sending", "sent", "failed", "uncertain"]
MailboxState = Literal["active", "paused", "needs_consent", "disconnected"]
IntegrationState = Literal[
    "not_approved", "waiting_for_consent", "approved", "needs_attention", "disconnected"
]
Verdict = Literal["pass", "fail", "unknown"]
Power = Literal["receive", "send", "copy", "draft", "sent", "search", "push"]


PLATFORM = "~platform"
"""Stands for an organisation where something belongs to none; no caller's token can name it."""


def digest(*parts: str) -> str:
    """Hash anything into 32 hex characters that fit a key; parts are kept apart."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Address:
    """One mail address. `name` may be empty.

    Attributes:
        address: in lower case: what everything compares, as hardly any server tells `A@` from `a@`.
        spelled: with the part before the @ as it was written (RFC 5321 §2.4: for its own server alone to
            judge), where that differs.
    """

    address: str
    name: str = ""
    spelled: str = field(default="", compare=False)

    @property
    def shown(self) -> str:
        """The address for people and servers: as it was written."""
        return self.spelled or self.address


@dataclass(frozen=True, slots=True)
class Envelope:
    """A mail's headers and the provider's hints, before we decide; nothing of its body.

    Attributes:
        ref: the provider's own id.
        message_id: the header with angle brackets, or None.
        references: References and what In-Reply-To names besides: oldest first, nearest last.
        in_reply_to: the first id of In-Reply-To, or None.
        sender: the single From address; None when there is none or more than one (RFC 5322 §3.6.2).
        recipients: To and Cc.
        sent_at: the Date header; None when missing or unreadable.
        received_at: when the provider took it in, else `sent_at`.
        thread: the provider's thread hint, comparable within one mailbox only.
        threaded: whether the provider says that it is in there by what it answers, not by its subject.
        is_sent: the provider says that it is the mailbox's own outgoing mail.
        size: octets.
        headers: lower-case name -> raw decoded values, in order of appearance.
    """

    ref: str
    message_id: str | None
    references: tuple[str, ...]
    in_reply_to: str | None
    sender: Address | None
    recipients: tuple[Address, ...]
    subject: str
    sent_at: datetime | None
    received_at: datetime | None
    thread: str | None = None
    threaded: bool = False
    folder: str = ""
    is_sent: bool = False
    size: int = 0
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that can be downloaded. `index` is its place in the mail and its id in the API."""

    index: int
    name: str
    content_type: str
    size: int
    inline: bool = False
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a mail is where it is: shown to the user, kept with the message."""

    rule: str
    matched: str | None = None
    confidence: float = 1.0
    notes: tuple[str, ...] = ()


COPY_MISSING = "copy_missing"
"""The problem of a mail that left and of which Sent has no copy."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with a message, in the server's words, and what a human can do."""

    code: str
    detail: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One fact: this mailbox holds this message under this ref.

    Or, with `variant`, what it holds in the message's place says something else (decision 024) and is a
    message of its own, known by that name. `unproven` is what only has the message's headers, and would
    not be filed by itself: nobody read it, and it proves nothing until its owner files it (decision 022).
    `known_as` is the Message-ID that a mail of ours has there, where that is not what it was composed with.
    """

    mailbox_id: str
    ref: str | None = None
    folder: str = ""
    variant: str = ""
    unproven: bool = False
    known_as: str = ""


@dataclass(frozen=True, slots=True)
class Integration:
    """An organisation's approved choice of one provider, with defaults for its mailboxes.

    Attributes:
        tenant: the organisation's directory at the provider, once it was proven; empty before.
        proof: what the organisation's own app registration signs in with; empty without one.
        consented: the permissions that its directory's tokens carried when Zalion's app was consented to.
        delegated: addresses whose domains are bound to the organisation, named before they are bound and
            until they are given back: by them it is found out whether the delegation is gone.
    """

    kind: ClassVar[str] = "integration"

    provider: str
    state: IntegrationState = "not_approved"
    settings: Mapping[str, Any] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    tenant: str = ""
    proof: Literal["", "secret", "certificate"] = ""
    consented: tuple[str, ...] = ()
    delegated: tuple[str, ...] = ()
    problem: Problem | None = None
    updated_at: datetime | None = None
    updated_by: str = ""

    @property
    def key(self) -> str:
        """One per provider."""
        return self.provider


@dataclass(frozen=True, slots=True)
class DomainProof:
    """A domain that the organisation says is its own, and whether the DNS bears it out.

    Attributes:
        domain: lower case, A-labels.
        token: what is to be published; public, but nobody can guess it before it is.
    """

    kind: ClassVar[str] = "domain"

    domain: str
    token: str
    state: Literal["waiting", "proven"] = "waiting"
    proven_at: datetime | None = None
    checked_at: datetime | None = None

    @property
    def key(self) -> str:
        """The domain."""
        return self.domain

    @property
    def name(self) -> str:
        """Where the TXT record belongs."""
        return f"_zalion-challenge.{self.domain}"

    @property
    def text(self) -> str:
        """What the TXT record says."""
        return f"zalion-domain={self.token}"


@dataclass(frozen=True, slots=True)
class Tally:
    """Mails promised, or left late, through a provider in each of the last minutes (since 1970)."""

    kind: ClassVar[str] = "tally"

    provider: str
    minutes: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """One per provider."""
        return self.provider


@dataclass(frozen=True, slots=True)
class TenantBinding:
    """Whose directory this is: one directory, one organisation. Kept outside of all organisations."""

    kind: ClassVar[str] = "tenant"

    provider: str
    tenant: str
    org_id: str

    @property
    def key(self) -> str:
        """Provider and hashed directory id."""
        return f"{self.provider}!{digest(self.tenant)}"


@dataclass(frozen=True, slots=True)
class Presence:
    """That a mailbox of an organisation is this account at a provider. Kept outside of all organisations.

    `account` is what `account_of` makes of the account's address, or of the provider's id of the person.
    """

    kind: ClassVar[str] = "presence"

    account: str
    org_id: str
    mailbox_id: str

    @property
    def key(self) -> str:
        """All of one account lie side by side."""
        return f"{self.account}!{digest(self.org_id, self.mailbox_id)}"


def account_of(provider: str, name: str) -> str:
    """Stand in for an account, so that neither records nor queues need to name it."""
    return digest(provider, name.lower())


@dataclass(frozen=True, slots=True)
class Flow:
    """A consent or sign-in that was begun in a browser and comes back once, with its state.

    Attributes:
        id: the hashed state.
        purpose: `consent` of an administrator, its `proof` by signing in, the `sign_in` of a mailbox, or the
            `answer` of who signed in for what somebody else asked for.
        answers: whether that is a `proof` or a `sign_in`.
        owner: whose the mailbox was when its sign-in began.
        tenant: the directory that the redirect of a consent claimed.
        sealed: what the provider needs to know again, sealed.
        spent: it came back; it is kept for a while, so that a page loaded again can say how things stand.
    """

    kind: ClassVar[str] = "flow"

    id: str
    provider: str
    purpose: Literal["consent", "proof", "sign_in", "answer"]
    expires_at: datetime
    actor: str
    mailbox_id: str = ""
    owner: str = ""
    tenant: str = ""
    sealed: str = ""
    return_url: str | None = None
    spent: bool = False
    answers: Literal["", "proof", "sign_in"] = ""

    @property
    def key(self) -> str:
        """Its id."""
        return self.id


@dataclass(frozen=True, slots=True)
class Subscription:
    """A mailbox's push.

    Attributes:
        until: when the provider ends it.
        renew_at: when it is renewed at the latest.
        missed: polls in a row that found mail nobody had told us of.
        silent: it stayed silent although it was made anew; the mailbox is polled.
    """

    id: str
    until: datetime
    missed: int = 0
    silent: bool = False
    renew_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One connected address; its id is made of the address, so that an address is connected once.

    Attributes:
        owner: the e-mail claim of the user it belongs to.
        settings: provider name -> its settings, checked against the provider's form.
        folders: chosen besides Inbox and Sent.
        since: mail taken in before this is not looked at.
        poll_seconds: 60 to 86,400.
        schedule: token of the live poll schedule; another token in the index is a dead one.
        authserv_id: the only Authentication-Results writer we believe (RFC 8601 §5), if known.
        push: the provider's promise to tell us, where it has one.
        push_again: no look asks for it before then, because the last try came to nothing.
        problem: why it needs attention.
        was_paused: whether its owner had paused it when it stopped, so that it does not go on reading.
    """

    kind: ClassVar[str] = "mailbox"

    id: str
    address: str
    owner: str
    receives_with: str | None
    sends_with: str | None
    settings: Mapping[str, Mapping[str, Any]]
    state: MailboxState
    since: datetime
    created_at: datetime
    name: str = ""
    folders: tuple[str, ...] = ()
    poll_seconds: int = 600
    schedule: str = "-"
    authserv_id: str | None = None
    push: Subscription | None = None
    push_again: datetime | None = None
    problem: Problem | None = None
    was_paused: bool = False

    @property
    def key(self) -> str:
        """Its id."""
        return self.id


@dataclass(frozen=True, slots=True)
class SyncState:
    """Lease and cursor of one mailbox in one record, so that who lost the lease cannot move the cursor.

    Attributes:
        holder: the run that holds the lease, or empty.
        until: when the lease runs out.
        again: somebody asked while the lease was held; the holder looks once more.
        watched_until: until then a job is on its way back that asks again, should the holder have died.
        newest: when the newest mail that was seen came in.
        look: Message-IDs that became known late and are still to be looked for.
        more: there are further ones, for which this record has no room: each is a `Late`.
        withheld: those of them for which the provider kept mails back -> since when, in how many looks.
        stuck, tries: the mail whose fetching failed last, and how often in a row.
        passed: digests of the refs that a look was done with in a page it broke off; the next passes them.
        rest_until: nobody looks at the mailbox until then: its provider asked us to wait, or its owner needs
            what is left of the quota.
    """

    kind: ClassVar[str] = "sync"

    mailbox_id: str
    cursor: str | None = None
    holder: str = ""
    until: datetime | None = None
    again: bool = False
    watched_until: datetime | None = None
    synced_at: datetime | None = None
    newest: datetime | None = None
    look: tuple[str, ...] = ()
    more: bool = False
    withheld: Mapping[str, tuple[datetime, int]] = field(default_factory=dict)
    stuck: str = ""
    tries: int = 0
    passed: tuple[str, ...] = ()
    rest_until: datetime | None = None
    problem: Problem | None = None

    @property
    def key(self) -> str:
        """One per mailbox."""
        return self.mailbox_id


@dataclass(frozen=True, slots=True)
class Late:
    """A Message-ID that became known late and waits for room in its mailbox's `SyncState`."""

    kind: ClassVar[str] = "late"

    mailbox_id: str
    message_id: str

    @property
    def key(self) -> str:
        """One per mailbox and id."""
        return f"{self.mailbox_id}!{digest(self.message_id)}"


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to speak with a mailbox that serves few at a time, see `turns`; `holder` tells whose."""

    kind: ClassVar[str] = "turn"

    mailbox_id: str
    lane: Literal["send", "live"]
    holder: str
    until: datetime

    @property
    def key(self) -> str:
        """One per mailbox and lane."""
        return f"{self.mailbox_id}!{self.lane}"


@dataclass(frozen=True, slots=True)
class Grant:
    """The stored result of a consent. Values are names of Vault secrets or sealed text, never secrets.

    One whose `provider` has an addition (`imap~1f2e3d4c`) is spare: given for settings that are not in
    force yet, or out of use and about to be destroyed.
    `subject` is the provider's own id of the person who consented; at `doubted_at` an access token was
    given up because it was refused before its end.
    """

    kind: ClassVar[str] = "grant"

    mailbox_id: str
    provider: str
    type: Literal["password", "token", "consent", "application"]
    username: str
    secret_name: str | None = None
    sealed: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None
    token_url: str | None = None
    client_id: str | None = None
    scopes: tuple[str, ...] = ()
    subject: str = ""
    doubted_at: datetime | None = None

    @property
    def key(self) -> str:
        """One per mailbox and provider."""
        return f"{self.mailbox_id}!{self.provider}"

    @property
    def is_spare(self) -> bool:
        """Whether nobody signs in with it now."""
        return "~" in self.provider


@dataclass(frozen=True, slots=True)
class DataKey:
    """Which version of the organisation's data key is in force; the key itself lives in the vault."""

    kind: ClassVar[str] = "datakey"

    version: str

    @property
    def key(self) -> str:
        """One per organisation."""
        return "current"


@dataclass(frozen=True, slots=True)
class Case:
    """Zalion's case and the users who may see it."""

    kind: ClassVar[str] = "case"

    id: str
    title: str
    members: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its id."""
        return self.id


@dataclass(frozen=True, slots=True)
class Conversation:
    """A group of messages across an organisation's mailboxes; belongs to one case.

    `moved_from` names the case whose records still wait to be carried over, if a move is under way.
    """

    kind: ClassVar[str] = "conversation"

    id: str
    case_id: str
    base_subject: str
    moved_from: str | None = None

    @property
    def key(self) -> str:
        """Its id."""
        return self.id


MOST_PARTICIPANTS, MOST_INDEXED = 80, 85
"""Of one mail, who takes part, and with its hint and the ids that it descends from: a transaction takes 100.

Who is beyond this still has our signed id to answer with.
"""


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody who wrote, or was written to, in a conversation."""

    kind: ClassVar[str] = "participant"

    conversation_id: str
    address: str

    @property
    def key(self) -> str:
        """Conversation and hashed address."""
        return f"{self.conversation_id}!{digest(self.address)}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A Message-ID we know: whose message it is. One message may have several (planned, final, ...).

    Attributes:
        ancestor: of the further records of the same Message-ID, one under each id that the message descends
            from: what is known of a thread is one range read by the id that a mail names as its oldest.
    """

    kind: ClassVar[str] = "alias"

    message_id: str
    conversation_id: str
    email_id: str
    fingerprint: str
    ancestor: str = ""

    @property
    def key(self) -> str:
        """The hashed Message-ID (compared case-sensitively, RFC 5256), after its ancestor's."""
        return "!".join(digest(name) for name in (self.ancestor, self.message_id) if name)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Whom a bounce says that a mail did not reach, with the status (RFC 3463) and words of that server."""

    address: str
    status: str
    diagnostic: str


@dataclass(frozen=True, slots=True)
class Bounced:
    """What a bounce in the conversation tells of a mail that was not there; `named` is its hashed id."""

    kind: ClassVar[str] = "bounced"

    conversation_id: str
    named: str
    email_id: str
    told: tuple[Undelivered, ...] = ()

    @property
    def key(self) -> str:
        """All bounces of one mail lie side by side; those of another conversation say nothing about it."""
        return f"{self.conversation_id}!{self.named}!{self.email_id}"


@dataclass(frozen=True, slots=True)
class ThreadHint:
    """A provider's thread in one mailbox, and the conversation it was seen with."""

    kind: ClassVar[str] = "thread"

    mailbox_id: str
    thread: str
    conversation_id: str

    @property
    def key(self) -> str:
        """Mailbox and hashed thread id."""
        return f"{self.mailbox_id}!{digest(self.thread)}"


@dataclass(frozen=True, slots=True)
class MailboxDraft:
    """A draft of a case that we put into a mailbox, for its owner to change and send.

    Attributes:
        id: what our API calls it.
        ref: what the provider calls it.
        answers: the Message-ID that it answers; `references` are those before it, and that.
    """

    kind: ClassVar[str] = "draft"

    id: str
    mailbox_id: str
    ref: str
    conversation_id: str
    answers: str | None = None
    references: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its id."""
        return self.id


@dataclass(frozen=True, slots=True)
class Message:
    """One filed e-mail: what the timeline shows. Its bytes are what `raw` names: `keeping.bytes_of`.

    Attributes:
        id: 13-digit milliseconds of when we first knew it, a dash, 12 hex; sorts by time.
        text: plain text, or None where it is too long for the record.
        html: HTML as received (sanitised when shown), or None likewise.
        body: what such a text is read from (`keeping.texts_of`): a record beside it, or what `raw` names.
        envelope_to: for outgoing mail all recipients, Bcc included.
        spelled_to: the same as they are spelled, where that differs.
        next_at: while `queued`, the earliest next attempt; while `sending`, when it counts as dead;
            while `sent`, from when on another worker may file the copy, None once that is done.
        attempts: hand-overs tried; while `sent`, filings of its copy.
        claim: made by the worker that took the last step for itself.
        counted_at: when it was last counted, where the organisation's rules count mails.
        draft: what the provider calls the draft that leaves as this mail, as it was when it was promised.
        new_participant: the sender was not known to the conversation.
    """

    kind: ClassVar[str] = "message"

    id: str
    case_id: str
    conversation_id: str
    mail_kind: MailKind
    direction: Direction
    origin: Origin
    state: MessageState
    sender: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    received_at: datetime
    raw: str
    evidence: Evidence
    bcc: tuple[Address, ...] = ()
    sent_at: datetime | None = None
    message_id: str | None = None
    references: tuple[str, ...] = ()
    snippet: str = ""
    text: str | None = None
    html: str | None = None
    body: str | None = None
    attachments: tuple[Attachment, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    mailbox_id: str | None = None
    envelope_to: tuple[str, ...] = ()
    spelled_to: tuple[str, ...] = ()
    next_at: datetime | None = None
    attempts: int = 0
    claim: str = ""
    counted_at: datetime | None = None
    draft: str | None = None
    new_participant: bool = False
    error: Problem | None = None

    @property
    def leaves_to(self) -> tuple[str, ...]:
        """All recipients as a server is told of them."""
        return self.spelled_to or self.envelope_to

    @property
    def planned_id(self) -> str | None:
        """The Message-ID that a mail of ours was composed with; what sent it may have given it another."""
        return self.evidence.matched if self.origin == "case" else self.message_id

    @property
    def key(self) -> str:
        """Case and id: a case's timeline is one range."""
        return f"{self.case_id}!{self.id}"


@dataclass(frozen=True, slots=True)
class Letter:
    """The bytes of a small mail, or a long body (compressed), kept in the same transaction as its message."""

    kind: ClassVar[str] = "letter"

    name: str
    data: bytes

    @property
    def key(self) -> str:
        """What the message's `raw` or `body` says."""
        return self.name


@dataclass(frozen=True, slots=True)
class Promise:
    """An accepted send, for ever: the same key and body give the same message."""

    kind: ClassVar[str] = "promise"

    case_id: str
    idempotency_key: str
    fingerprint: str
    conversation_id: str
    email_id: str

    @property
    def key(self) -> str:
        """Case and hashed key."""
        return f"{self.case_id}!{digest(self.idempotency_key)}"


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A promise not yet kept: hand-over or Sent copy still to do. `not_before` spaces the attempts."""

    kind: ClassVar[str] = "outbox"

    email_id: str
    conversation_id: str
    mailbox_id: str
    not_before: datetime

    @classmethod
    def of(cls, message: Message, not_before: datetime) -> "OutboxItem":
        """Make the record of a promised message."""
        mailbox_id = message.mailbox_id or ""
        return cls(message.id, message.conversation_id, mailbox_id, not_before)

    @property
    def key(self) -> str:
        """The message's id."""
        return self.email_id


@dataclass(frozen=True, slots=True)
class Review:
    """A mail with strong evidence that failed the gate: headers and reason only, until its owner decides.

    `opened_at` is set once its owner has decided to file it: it is being filed, or a worker died of that.
    """

    kind: ClassVar[str] = "review"

    mailbox_id: str
    id: str
    conversation_id: str
    reason: str
    evidence: Evidence
    ref: str = ""
    message_id: str | None = None
    sender: Address | None = None
    recipients: tuple[Address, ...] = ()
    subject: str = ""
    sent_at: datetime | None = None
    opened_at: datetime | None = None

    @property
    def key(self) -> str:
        """Mailbox and id."""
        return f"{self.mailbox_id}!{self.id}"


@dataclass(frozen=True, slots=True)
class DecidedReview:
    """That a held mail was decided about, and nothing else of it: a later look must not hold it again."""

    kind: ClassVar[str] = "decided"

    mailbox_id: str
    id: str
    decision: Literal["filed", "dismissed"]

    @property
    def key(self) -> str:
        """As the review had."""
        return f"{self.mailbox_id}!{self.id}"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to which mailbox, case or message, and how it ended; never any content."""

    kind: ClassVar[str] = "audit"

    at: datetime
    id: str
    event: str
    actor: str
    outcome: str
    correlation_id: str
    mailbox_id: str | None = None
    case_id: str | None = None
    email_id: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    detail: str = ""

    @property
    def key(self) -> str:
        """Time, then a random tail; append-only."""
        return f"{self.at:%Y%m%dT%H%M%S%f}!{self.id}"
