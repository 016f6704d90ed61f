"""The shapes of the HTTP contract: what callers send and what they get, in camelCase. Pure data.

OpenAPI is generated from these, so a docstring here is the documentation the frontend developer reads.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared import mime
from shared.model import Direction, IntegrationState, MailboxState, MailKind, MessageState, Origin, Power
from shared.providers.base import FieldType, Role

ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$(?!\n)"
"""No line break, no control character; `$` alone would let a line break pass behind it."""

# Whatever is kept has an end: a record holds 448,000 characters, a secret of the vault 25,000 octets.
Text = Annotated[str, Meta(max_length=1_000_000)]
Name = Annotated[str, Meta(max_length=998)]
Id = Annotated[str, Meta(max_length=100)]
MailAddress = Annotated[str, Meta(max_length=320)]
GivenAddress = Annotated[MailAddress, Meta(extra_json_schema={"format": "idn-email"})]
"""Not `email`: we take letters beyond ASCII in a domain, as people write it."""

Line = Annotated[Name, Meta(extra_json_schema={"pattern": mime.LINE})]
"""`mime` checks it, and says what is wrong in words; this tells it, as `pattern` and `format` do below."""

OwnName = Annotated[
    str,
    Meta(
        max_length=mime.LONGEST_NAME,
        description="Stands beside the address in mail that is sent.",
        extra_json_schema={"pattern": mime.LINE},
    ),
]
Url = Annotated[str, Meta(max_length=2000, pattern=ONE_LINE)]
SecretText = Annotated[str, Meta(min_length=1, max_length=4000, pattern=ONE_LINE)]
Token = Annotated[str, Meta(max_length=16_000, pattern=r"^[ -~]*$(?!\n)")]
"""What RFC 6749 (appendix A) allows in one."""

AuthservId = Annotated[str, Meta(max_length=255, pattern=r"^[!-~]*$(?!\n)")]
CaseId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$(?!\n)")]
Settings = dict[str, dict[str, Any]]
GivenSettings = dict[str, Any]
"""By provider's name, whose place a refusal is to name: `choosing` checks them."""

Time = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339; answers are in UTC."""

MOST_RECIPIENTS = 300
"""Below what mail systems take in one mail (Gmail: 500)."""


class Body(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A request body: unknown fields are refused, so that a typo is noticed."""


def misfit(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return what is wrong with a value, and its place, in msgspec's words.

    They repeat the names of unknown fields, and what is none of the values of a choice. `ONE_LINE` has ours.
    """
    detail, _, place = str(error).partition(" - at `$")
    unknown = re.search(r"field `([^`]*)`", detail)
    if repr(ONE_LINE) in detail:
        detail = "Line breaks and control characters are not allowed here"
    return f"{detail}.", ".".join(filter(None, (place.rstrip("`").lstrip("."), unknown and unknown[1])))


class Resource(Struct, rename="camel", frozen=True, kw_only=True):
    """Something we answer with."""


class Person(Body, frozen=True, kw_only=True):
    """A mail address, spelled as it was written, with a name where there is one. Compare in lower case.

    To send to: letters beyond ASCII are taken in the name and in the domain only; the name may have 320
    characters, no line breaks, no control characters and no `=?`.
    """

    address: MailAddress
    name: Name = ""


Recipients = Annotated[list[Person], Meta(extra_json_schema={"maxItems": MOST_RECIPIENTS})]
"""Of all three lists together, which `drafts` counts: one that is too long alone is told the same."""


class NewAttachment(Body, frozen=True, kw_only=True):
    """A file to send. `contentBase64` is standard base64 (RFC 4648 section 4)."""

    name: Annotated[str, Meta(min_length=1, max_length=255, extra_json_schema={"pattern": mime.LINE})]
    content_type: Annotated[
        str, Meta(max_length=255, extra_json_schema={"pattern": f"^{mime.CONTENT_TYPE}$"})
    ] = "application/octet-stream"
    content_base64: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]


class SendEmail(Body, frozen=True, kw_only=True):
    """An e-mail to send from a case.

    `text` or `html` is required, both may be given. `to`, `cc` and `bcc` have at most 300 recipients in all.
    """

    mailbox_id: Annotated[Id, Meta(description="One of the caller's own mailboxes that can `send`.")]
    to: Annotated[Recipients, Meta(min_length=1)]
    cc: Recipients = []
    bcc: Annotated[Recipients, Meta(description="They get the mail; no header of it names them.")] = []
    subject: Line = ""
    text: Text | None = None
    html: Text | None = None
    in_reply_to: Annotated[
        Id | None,
        Meta(
            description="`id` of the e-mail of this case that it answers. Without it a conversation begins."
        ),
    ] = None
    attachments: Annotated[list[NewAttachment], Meta(max_length=100)] = []


class PutCase(Body, frozen=True, kw_only=True):
    """A case and the e-mail addresses of the users who may see it."""

    title: Annotated[str, Meta(max_length=500, pattern=ONE_LINE)] = ""
    members: Annotated[
        list[GivenAddress], Meta(max_length=1000, description="All of them: they replace those of before.")
    ]


class MoveEmail(Body, frozen=True, kw_only=True):
    """The case the e-mail's conversation moves to."""

    case_id: CaseId


class LinkEmail(Body, frozen=True, kw_only=True):
    """A mail found by search: `ref` as search gave it."""

    mailbox_id: Id
    ref: Annotated[str, Meta(max_length=4000)]


class DecideReview(Body, frozen=True, kw_only=True):
    """The owner's decision about a held mail."""

    action: Literal["file", "dismiss"]


class PutIntegration(Body, frozen=True, kw_only=True):
    """IT's approval of a provider, and the settings its mailboxes share.

    `domains` limits the addresses that may be connected; empty means any. Not `approved`, nobody connects any
    more; connected mailboxes go on by the settings that were kept, until DELETE disconnects them.
    """

    approved: bool
    settings: Annotated[
        dict[str, Any],
        Meta(description="The entries of this provider's `form`: see GET /integrations/{provider}."),
    ] = {}
    domains: Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(max_length=100)] = []
    secret: "AppSecret | None" = None


class AppSecret(Body, frozen=True, kw_only=True):
    """What your own app registration signs in with: one of both. Write-only; without it the kept one stays.

    `certificate` is PEM text with the private key and the certificate.
    """

    client_secret: SecretText | None = None
    certificate: Annotated[str, Meta(min_length=1, max_length=20_000, pattern=r"^[\t\n\r -~]*$")] | None = (
        None
    )


class AskConsent(Body, frozen=True, kw_only=True):
    """Where the administrator's browser goes afterwards; one of the frontend's registered return URLs."""

    return_url: Url | None = None


class ConsentLink(Resource, frozen=True, kw_only=True):
    """The personal link to the provider's consent page. It works once, until `expiresAt`."""

    url: str
    expires_at: Time


PollSeconds = Annotated[int, Meta(ge=60, le=86_400)]
Folder = Annotated[str, Meta(min_length=1, max_length=500, pattern=ONE_LINE)]
Folders = Annotated[list[Folder], Meta(max_length=50)]


class Secret(Body, frozen=True, kw_only=True):
    """A password, or OAuth tokens of the mail server's issuer. Write-only."""

    password: SecretText | None = None
    access_token: Token | None = None
    expires_in: Annotated[int, Meta(ge=1, le=315_360_000)] | None = None
    refresh_token: Token | None = None
    token_url: Url | None = None
    client_id: Annotated[str, Meta(max_length=500, pattern=ONE_LINE)] | None = None
    client_secret: SecretText | None = None


class ConnectMailbox(Body, frozen=True, kw_only=True):
    """A mailbox to connect. `settings` are per provider, `secret` may be: `{"imap": {...}, "smtp": {...}}`.

    A `secret` without provider names is used for both sides; a provider that users sign in at takes none.
    `authservId` names whose Authentication-Results are believed; `-` where the topmost bears no name.
    `folders` are read besides Inbox and Sent, as GET /mailboxes/{id}/folders names them; one that is renamed
    or deleted later is told as `problem` (`folders_missing`), and all else is read on. Rules move mail before
    it is looked at. So Exchange (`ews`) is also asked for new mail in the others, but Junk, Trash and Drafts:
    for all headers where none are chosen, else for those of mail that quotes an id like ours. Where users
    sign in at the provider, the answer has `authorizeUrl`, and the browser ends at `returnUrl`. Asking again
    for a mailbox that needs consent gives a fresh one.
    """

    address: GivenAddress
    receives_with: Annotated[
        Id | None, Meta(description="What reads the mailbox. Without it no replies are filed from here.")
    ] = None
    sends_with: Annotated[
        Id | None, Meta(description="What its mail leaves through. Without it nothing is sent from here.")
    ] = None
    settings: GivenSettings = {}
    secret: dict[str, Any] = {}
    name: OwnName = ""
    owner: Annotated[
        GivenAddress | None,
        Meta(description="Without it, the caller. Only an administrator may name somebody else."),
    ] = None
    folders: Folders = []
    poll_seconds: PollSeconds = 600
    since: Annotated[
        Time | None,
        Meta(
            description="Where its history begins: a time with zone, at most 365 days back and not in the "
            "future. Without it, now."
        ),
    ] = None
    authserv_id: AuthservId | None = None
    return_url: Url | None = None


class AskServers(Body, frozen=True, kw_only=True):
    """The address whose mail servers are looked for."""

    address: GivenAddress


class Proposal(Resource, frozen=True, kw_only=True):
    """A provider for an address, with settings as `POST /mailboxes` takes them; `source` is who says so."""

    provider: str
    settings: dict[str, Any]
    source: Literal["mx", "srv", "autoconfig"]


class SourceResource(Resource, frozen=True, kw_only=True):
    """Where was looked, and what came of it."""

    name: str
    status: Literal["found", "nothing", "failed"]
    detail: str = ""


class Detected(Resource, frozen=True, kw_only=True):
    """What the domain publishes, best first. Nothing was tried: connecting signs in before it keeps anything.

    `receivesWith`, `sendsWith` and `settings` are the best of it, ready for `POST /mailboxes`.
    """

    address: str
    receives_with: str | None
    sends_with: str | None
    settings: Settings
    proposals: list[Proposal]
    sources: list[SourceResource]


class PatchMailbox(Body, frozen=True, kw_only=True):
    """Only what is given changes. New settings or secrets are tried before they replace the old ones."""

    name: OwnName | UnsetType = UNSET
    folders: Folders | UnsetType = UNSET
    poll_seconds: PollSeconds | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    authserv_id: AuthservId | UnsetType | None = UNSET
    settings: GivenSettings | UnsetType = UNSET
    secret: dict[str, Any] | UnsetType = UNSET


class ProblemDetail(Resource, frozen=True, kw_only=True):
    """Why something needs attention, and what to do."""

    code: str
    detail: str
    fix: str | None = None


class DnsRecord(Resource, frozen=True, kw_only=True):
    """A record to publish in the DNS."""

    name: str
    type: str
    value: str


class DomainResource(Resource, frozen=True, kw_only=True):
    """A sender domain of the organisation: publish `record`, then verify; see setting `allowedSenders`."""

    domain: str
    state: Literal["waiting", "proven"]
    record: DnsRecord
    proven_at: Time | None = None
    checked_at: Time | None = None


class FieldResource(Resource, frozen=True, kw_only=True):
    """One entry of a provider's settings form."""

    name: str
    purpose: str
    type: FieldType
    required: bool
    default: Any = None
    choices: list[str] = []


class DelegationResource(Resource, frozen=True, kw_only=True):
    """What your administrator enters at the provider (Google: domain-wide delegation), exactly so."""

    client_id: str
    scopes: list[str]


class IntegrationResource(Resource, frozen=True, kw_only=True):
    """An organisation's choice of one provider."""

    provider: str
    title: str
    state: IntegrationState
    settings: dict[str, Any]
    domains: list[str]
    form: list[FieldResource]
    receives: bool
    sends: bool
    redirect_uri: str | None = None
    tenant: str | None = None
    delegation: DelegationResource | None = None
    problem: ProblemDetail | None = None
    updated_at: Time | None = None


class LimitResource(Resource, frozen=True, kw_only=True):
    """A power that a mailbox lacks: what that means for its owner, and what would give it."""

    power: Power
    detail: str
    fix: str | None = None


class MailboxResource(Resource, frozen=True, kw_only=True):
    """A connected address and its state. Times are when we last looked, not when mail last came.

    `can` and `limits` together are all powers: `receive` (replies are filed), `send`, `sent` (mail sent
    from another program is seen), `search` (and folders, and linking old mail), `push`, `draft` (mail of a
    case can be put into its drafts), `copy` (what a case sends lies in Sent, too).
    """

    id: str
    address: str
    name: str
    owner: str
    receives_with: str | None
    sends_with: str | None
    state: MailboxState
    can: list[Power]
    limits: list[LimitResource]
    settings: Settings
    folders: list[str]
    poll_seconds: int
    since: Time
    created_at: Time
    authserv_id: str | None
    synced_at: Time | None = None
    push: Literal["none", "live", "silent"] = "none"
    push_until: Time | None = None
    authorize_url: str | None = None
    problem: ProblemDetail | None = None


class DisconnectReceipt(Resource, frozen=True, kw_only=True):
    """What was destroyed and what stays, to be kept by the administrator."""

    mailbox_id: str
    address: str
    state: Literal["disconnected"]
    disconnected_at: Time
    destroyed: list[str]
    kept: str


class FolderResource(Resource, frozen=True, kw_only=True):
    """A folder that can be chosen."""

    name: str
    role: Role | None


class SearchHit(Resource, frozen=True, kw_only=True):
    """A mail of the mailbox, live; `ref` serves to link it to a case."""

    ref: str
    folder: str
    sender: Person | None = msgspec.field(name="from")
    to: list[Person]
    subject: str
    sent_at: Time | None
    message_id: str | None
    size: int


class CaseResource(Resource, frozen=True, kw_only=True):
    """A case."""

    id: str
    title: str
    members: list[str]


class EvidenceResource(Resource, frozen=True, kw_only=True):
    """Why this e-mail is in this case."""

    rule: str
    matched: str | None
    confidence: float
    notes: list[str]


class AttachmentResource(Resource, frozen=True, kw_only=True):
    """A part that can be downloaded under its id."""

    id: int
    name: str
    content_type: str
    size: int
    inline: bool
    content_id: str | None = None


class EmailResource(Resource, frozen=True, kw_only=True):
    """One e-mail of a case. `html` is sanitised and shows no remote images."""

    id: str
    case_id: str
    conversation_id: str
    kind: MailKind
    direction: Direction
    origin: Origin
    state: MessageState
    sender: Person | None = msgspec.field(name="from")
    to: list[Person]
    cc: list[Person]
    bcc: list[Person]
    subject: str
    sent_at: Time | None
    received_at: Time
    snippet: str
    text: str | None
    html: str | None
    attachments: list[AttachmentResource]
    message_id: str | None
    mailbox_ids: list[str]
    evidence: EvidenceResource
    new_participant: bool
    error: ProblemDetail | None = None


class DraftResource(Resource, frozen=True, kw_only=True):
    """A draft in the user's own mailbox; it appears in the case once it is sent, there or from the case.

    `id` is what sends it: POST /cases/{caseId}/drafts/{id}/send.
    """

    id: str
    ref: str | None
    mailbox_id: str
    case_id: str
    conversation_id: str
    message_id: str | None


class ReviewResource(Resource, frozen=True, kw_only=True):
    """A held mail: headers and reason only."""

    id: str
    mailbox_id: str
    case_id: str | None
    conversation_id: str
    sender: Person | None = msgspec.field(name="from")
    to: list[Person]
    subject: str
    sent_at: Time | None
    reason: str
    evidence: EvidenceResource


class Decided(Resource, frozen=True, kw_only=True):
    """What became of a held mail; `email` is the one that was filed."""

    state: Literal["filed", "dismissed"]
    email: EmailResource | None = None


class Timeline(Resource, frozen=True, kw_only=True):
    """One page of a case's e-mails, oldest first."""

    items: list[EmailResource]
    next_cursor: str | None = None


class Linked(Resource, frozen=True, kw_only=True):
    """What linking a mail filed: the mail itself and what else of its conversation lay in the mailbox."""

    email: EmailResource
    also_filed: int


class CheckResource(Resource, frozen=True, kw_only=True):
    """One check of the doctor or of health."""

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    fix: str | None = None


class Checks(Resource, frozen=True, kw_only=True):
    """The doctor's findings."""

    checks: list[CheckResource]


class Health(Resource, frozen=True, kw_only=True):
    """Readiness by part."""

    status: Literal["ok", "degraded", "failed"]
    checks: list[CheckResource]
    poison: dict[str, int]


class AuditResource(Resource, frozen=True, kw_only=True):
    """Who did what, when, to what, and how it ended."""

    at: Time
    id: str
    event: str
    actor: str
    outcome: str
    correlation_id: str
    mailbox_id: str | None = None
    case_id: str | None = None
    email_id: str | None = None
    counts: dict[str, int] = {}
    detail: str = ""


class Items[T](Resource, frozen=True, kw_only=True):
    """A list, whole or one page of it."""

    items: list[T]
    next_cursor: str | None = None


class Accepted(Resource, frozen=True, kw_only=True):
    """It will be done shortly."""

    status: Literal["accepted"] = "accepted"


class ProblemResource(Resource, frozen=True, kw_only=True):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    correlation_id: str
    field: str | None = None
    fix: str | None = None
