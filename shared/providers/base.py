"""What every mail system looks like to the core: its powers, and a description that is data.

Raw RFC 5322 bytes cross this border, both ways. A provider file imports this module, `network` or
`http`, `mime`, `model` and `errors`, never another provider, a store or a use case.

To add one: CONTRIBUTING.md, "Adding a provider".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NewType, Protocol

from shared.errors import Withheld
from shared.model import Envelope

Cursor = NewType("Cursor", str)
"""Where the last sync stopped. Opaque: only the provider that made it looks inside."""


Role = Literal["inbox", "sent", "drafts", "trash", "junk", "archive", "all", "flagged"]
FieldType = Literal["string", "integer", "boolean", "strings", "date"]


@dataclass(frozen=True, slots=True)
class Page:
    """Some envelopes, and the cursor that is true once all of them are dealt with.

    Attributes:
        refused: so many of the mails asked for here the provider did not give, alone and while it works;
            the cursor knows them, and they are asked for again. Those that wait for that count, too.
        unreadable: so many mails are given up here: it has refused their headers to several looks, for long.
        missing: folders that were chosen, or named as Sent, and are not there; in a look's first page, so
            that one that ends early has told them, too.
        rest: seconds; where that is not 0, the mailbox's owner needs what is left of its quota, and the look
            ends here and is gone on with then.
    """

    envelopes: tuple[Envelope, ...]
    cursor: Cursor
    refused: int = 0
    unreadable: int = 0
    missing: tuple[str, ...] = ()
    rest: float = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the provider told us about a message it accepted or holds.

    Attributes:
        ref: the provider's own id of the Sent copy, if it said one.
        message_id: the final `Message-ID` with its angle brackets, where it differs or was confirmed.
        thread: the provider's thread hint.
        refused: recipients the server refused while it took the others, address -> its words.
    """

    ref: str | None = None
    message_id: str | None = None
    thread: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a mailbox. `role` is the RFC 6154 special use in lower case, else None."""

    name: str
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What a user searches for in the own mailbox; every part is optional and all must match."""

    text: str | None = None
    sender: str | None = None
    to: str | None = None
    subject: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    has_attachment: bool | None = None
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Hits:
    """What a query finds; `more` says whether there are matches after the `limit` of it.

    A match that is gone meanwhile, or that the provider keeps from us, is left out and counts all the same.
    """

    mails: tuple[Envelope, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Password:
    """A user name and a password. No repr: it must not reach a log."""

    username: str
    password: str


@dataclass(frozen=True, slots=True, repr=False)
class Bearer:
    """A user name and a currently valid OAuth access token. No repr: it must not reach a log."""

    username: str
    token: str


Credential = Password | Bearer


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything a provider needs to speak for one mailbox.

    Attributes:
        address: the mailbox's own address.
        settings: what the provider's `form` asks for (host, port, security, ...), checked against it.
        credential: asked for anew for every session; raises ConsentRequired.
        allowed_hosts: hosts that may resolve to private addresses (see `network`).
        endpoints: where the far side of a cloud provider is, by the names its module gives.
        reads: whether the mailbox is read through this provider, too.
    """

    address: str
    settings: Mapping[str, object]
    credential: Callable[[], Credential]
    allowed_hosts: frozenset[str] = frozenset()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    reads: bool = True


class Receiver(Protocol):
    """Lists and fetches mail. Every method raises ConsentRequired, Temporary or RateLimited."""

    def check(self) -> None:
        """Sign in and look at what will be read; called by `connecting` and the doctor.

        Raises ConsentRequired when the sign-in is refused, InvalidRequest naming the setting that is wrong:
        `folders[n]` for a chosen folder that is not there.
        """
        ...

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """Yield what arrived after `cursor`, Sent mail included; called by `syncing`.

        Without a cursor: everything the provider took in at or after `since` (aware UTC), without drafts.
        Oldest first within a folder, Sent before Inbox. An idle mailbox yields one empty page or none.
        A chosen folder that is not there is named by `Page.missing` and stops nothing; what it held may have
        moved with it. When it is back, it is read from `since` on at most.
        Raises CursorExpired, and then nothing of that page has been yielded.
        """
        ...

    def fetch(self, ref: str) -> bytes:
        """Return the whole message; called by `filing` for case mail only. Raises NotFound."""
        ...

    def returned_headers(self, ref: str) -> bytes:
        """Return the machine-readable fields and the returned *headers* of a report (RFC 6522).

        Called for bounces and receipts only, to learn which message they are about without reading
        anybody's text. A bounce in words alone holds none, but where a server can be asked whether it quotes
        a Message-ID of ours (decision 023). Raises NotFound.
        """
        ...

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """Find mails that are, or answer, one of `message_ids`, in any folder but Drafts, Junk and Trash.

        What somebody is still writing is nobody else's to see: drafts are left out wherever they lie. But
        IMAP's flag for them counts for nothing in Sent, where some programs leave it on what they have sent.
        Called for a mail that was moved before it was fetched, around one that is linked, by the doctor
        for its own, and by `syncing` for Message-IDs that became known late, again only where it raised.
        Raises Withheld after the last where the provider keeps some of them from us.
        """
        ...

    def rest(self) -> float:
        """Return for how many seconds nobody should `look`, as the owner needs what is left of the quota."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


class Unmetered:
    """The part of `Receiver` that is alike where calls are not counted against what the owner needs."""

    def rest(self) -> float:
        """See `Receiver.rest`."""
        return 0.0


def given(found: Iterator[Envelope]) -> Iterator[Envelope]:
    """Yield what a look finds, for who goes on without what the provider keeps from us."""
    with suppress(Withheld):
        yield from found


NOBODY: Mapping[str, str] = MappingProxyType({})


class Commit(Protocol):
    """Begins a hand-over: from here on it may have left."""

    def __call__(self, refused: Mapping[str, str] = NOBODY, /) -> None:
        """Write it down; `refused` are recipients that will not get it, with the server's words."""
        ...


class Sender(Protocol):
    """Hands a message over. Every method raises ConsentRequired, Temporary or RateLimited."""

    def check(self) -> None:
        """Sign in without sending; called by `connecting` and the doctor."""
        ...

    def send(self, raw: bytes, envelope_from: str, envelope_to: Sequence[str], commit: Commit) -> Receipt:
        """Hand over `raw` once; called by `delivering`.

        `commit` is called exactly once, after everything that can fail without consequence
        (connection, sign-in, addresses) succeeded and before the first byte that could make the
        message leave. What it raises ends the attempt with nothing sent.

        Raises Rejected or Temporary when the message certainly did not leave, OutcomeUnknown when
        it broke after `commit`.
        """
        ...

    @property
    def files_copy(self) -> bool:
        """Whether the provider puts a copy into Sent by itself."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


class Drafter(Protocol):
    """Keeps mails that the mailbox's owner is to change, and to send there or from Zalion."""

    def put(self, raw: bytes, envelope_to: Sequence[str]) -> Receipt:
        """Put `raw` into the drafts, to whom it does not name as Bcc; called by `drafting`.

        Raises ConsentRequired, Temporary, RateLimited or Rejected.
        """
        ...

    def fetch(self, ref: str) -> tuple[bytes, str]:
        """Return a draft as it is now, Bcc included, and a ref of just that for `send`; called by `drafting`.

        Raises NotFound where it is no more: sent, or thrown away.
        """
        ...

    def send(self, ref: str, raw: bytes, envelope_to: Sequence[str], commit: Commit) -> Receipt:
        """Let a draft leave as `raw`; called by `delivering`. The rest is as in `Sender.send`.

        Raises DraftChanged where `ref` is one of `fetch` and its owner changed it since: it did not leave.
        What was a draft leaves once: whoever asks again, or after its owner did the same, gets NotFound.
        """
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


class SentFolder(Protocol):
    """The mailbox's Sent mail, for senders that do not keep a copy themselves."""

    def find_sent(self, message_id: str) -> Receipt | None:
        """Return the Sent copy with this Message-ID, or None where there is none; called by `delivering`."""
        ...

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:
        """Put a copy into Sent, marked as read, and return its ref where the server tells it.

        Raises Unsupported where it takes none.
        """
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


class Searcher(Protocol):
    """Live look into a mailbox for its owner; nothing of it is kept."""

    def search(self, query: Query) -> Hits:
        """Return at most `query.limit` matches, newest first; called by `looking`."""
        ...

    def folders(self) -> list[Folder]:
        """Return the folders that can be chosen."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Push:
    """A provider's promise to tell us of new mail, until it expires; and when to renew it at the latest."""

    id: str
    until: datetime
    renew_at: datetime


class Pusher(Protocol):
    """Has the provider tell us. Every method raises ConsentRequired, Temporary or RateLimited."""

    def subscribe(self, url: str, secret: str) -> Push:
        """Ask to be told at `url` (and `url`/lifecycle) of new mail, in any folder.

        `secret` (at most 128 characters) comes back with every notice, unless the provider has a proof
        of its own. Replaces what this mailbox had.
        Called by `subscribing`. Raises Unsupported where this mailbox can have no push.
        """
        ...

    def renew(self, id_: str) -> Push:
        """Prolong it. Raises NotFound where the provider has dropped it."""
        ...

    def cancel(self, id_: str) -> None:
        """End it; absence is no error."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Notification:
    """What was posted to us, and what its reader needs to prove it; `authorization` is the header."""

    body: bytes
    authorization: str = field(default="", repr=False)
    endpoints: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Notice:
    """One entry of a notification: whoever knows `secret` may ask us to look, and nothing more.

    `renew` asks for the subscription's renewal, `ended` says that it is gone. A provider that has proven
    a notice by itself names an `address` instead: every mailbox of it is looked at.
    """

    secret: str = ""
    event: Literal["changed", "renew", "ended"] = "changed"
    address: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Registration:
    """An app registration at the provider's identity service, and what proves that we are it.

    `tenant` is the customer's directory, or what the provider names "any". `ours` says that it is Zalion's,
    so that no customer can mend it. `service_key` is the key file of an account that may act for others,
    `mailboxes` (lower case) the only ones it may act for here. No repr: it holds secrets.
    """

    client_id: str
    tenant: str
    secret: str | None = None
    certificate: str | None = None
    service_key: str | None = None
    mailboxes: frozenset[str] = frozenset()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: frozenset[str] = frozenset()
    ours: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """What an identity service gave. `expires_in` is in seconds. No repr: it holds secrets.

    `tenant`, `subject` and `address` say who signed in, from the checked id_token, and `addresses` all that
    it names them by; empty where it gave none. `unlimited`: an app's own token lets it send as everybody.
    """

    access_token: str
    expires_in: int
    refresh_token: str | None = None
    scopes: frozenset[str] = frozenset()
    tenant: str = ""
    subject: str = ""
    address: str = ""
    addresses: frozenset[str] = frozenset()
    unlimited: bool = False


@dataclass(frozen=True, slots=True)
class Delegation:
    """What an administrator enters at the provider, so that the app itself may open mailboxes."""

    client_id: str
    scopes: tuple[str, ...]


class OAuth(Protocol):
    """Signs in at a provider's identity service.

    Every method raises Temporary or RateLimited; what it refuses is explained: ConsentRequired,
    InvalidRequest (a setting of the registration is wrong) or Conflict.

    Attributes:
        by_admin: an administrator approves for the whole organisation before anybody may sign in, and a
            directory that was proven so is the only one to sign in from.
        delegation_missing: reason of the refusal that says that there is no delegation.
        delegable: every scope that a delegation may have been entered with.
        not_listed: reason of our own refusal to ask for a mailbox that the registration does not list.
    """

    by_admin: bool
    delegation_missing: str
    delegable: tuple[str, ...]
    not_listed: str

    def scopes(self, settings: Mapping[str, object]) -> tuple[str, ...]:
        """Return the least scopes that these settings of a mailbox or an integration need."""
        ...

    def consent_url(
        self, registration: Registration, settings: Mapping[str, object], redirect_uri: str, state: str
    ) -> str:
        """Return where an administrator approves the app for the whole organisation."""
        ...

    def consented(self, query: Mapping[str, str]) -> str:
        """Return the directory that the redirect after a consent claims. Raises what it refuses."""
        ...

    def begin(
        self, registration: Registration, scopes: Sequence[str], redirect_uri: str, state: str, hint: str
    ) -> tuple[str, str]:
        """Return where a person signs in, and what `redeem` needs to know again (a secret)."""
        ...

    def redeem(self, registration: Registration, begun: str, query: Mapping[str, str]) -> Tokens:
        """Turn the redirect after a sign-in into tokens; `begun` is what `begin` returned."""
        ...

    def opens(self, registration: Registration, tokens: Tokens, address: str) -> bool:
        """Return whether the mailbox with this address is the own one of who signed in."""
        ...

    def renew(self, registration: Registration, refresh_token: str, scopes: Sequence[str]) -> Tokens:
        """Ask for a new access token (RFC 6749 section 6)."""
        ...

    def application(
        self,
        registration: Registration,
        subject: str = "",
        scopes: Sequence[str] = (),
        *,
        anew: bool = False,
        doubted: datetime | None = None,
    ) -> Tokens:
        """Sign in as the app itself; `anew` proves secret or certificate although a token is remembered.

        No token that was remembered before `doubted` is given: the mailbox refused one then.
        Where the provider wants to know for whom, `subject` is the mailbox's address and `scopes` what is
        needed of it. Raises ConsentRequired for an address that the registration does not list.
        """
        ...

    def delegation(self, registration: Registration, settings: Mapping[str, object]) -> Delegation | None:
        """Return what an administrator has to enter at the provider, if anything."""
        ...

    def revoke(self, registration: Registration, token: str) -> bool:
        """Withdraw at the provider what a person granted us; False where there is no such thing."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a provider's settings form: what it is for is shown to the admin and in OpenAPI.

    Attributes:
        level: who says it. `mailbox`: each mailbox, IT may give a default; `shared`: IT for all mailboxes;
            `integration`: IT, and no mailbox needs to know.
        allowed_by: setting of the integration that must be on for another value than the default.
        admin_only: whether only an administrator may give a new value other than the default.
        place: whether it says where, or as whom, we sign in: a secret was given for one place only.
        least, most: of an integer.
        check: takes a text and the name of its place; raises InvalidRequest for one that cannot be such.
    """

    name: str
    purpose: str
    type: FieldType = "string"
    required: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    level: Literal["mailbox", "shared", "integration"] = "mailbox"
    allowed_by: str = ""
    admin_only: bool = False
    place: bool = False
    least: int = 1
    most: int = 1_000_000_000
    check: Callable[[str, str], object] = lambda *_: None


@dataclass(frozen=True, slots=True)
class Silence:
    """What a mailbox's owner is told where a provider that has push tells of nothing: why, and what to do."""

    why: str = "The provider does not tell us of new mail here."
    fix: str = "Have it polled more often, and tell who runs Zalion if that stays so for a day."


@dataclass(frozen=True, slots=True)
class Provider:
    """A mail system as data. A power it lacks is None, and asking for it is answered with Unsupported.

    Attributes:
        form: what a mailbox is asked for.
        notices: reads and proves a notification; raises InvalidRequest for what is none (nothing is told by
            a proven one that says nothing), NotAllowed for what is forged as a whole.
        one_account: a person's consent and push are one for all that connected the account, in any
            organisation: they end with the last connection.
        oauth: how people and administrators sign in; None where mailboxes have passwords.
        silence: see `Silence`.
        stamps: who writes the Authentication-Results of all mail that comes in, as `mime.authentication`
            takes it; None where that differs from server to server.
        largest: settings of a mailbox -> octets of the largest message it can send; None: no such limit.
        largest_text: octets of the largest message without its files; None: no such limit.
        files_copy: settings of a mailbox -> whether a copy of what it sends lies in Sent by itself.
        keeps_copies: whether its Sent folder takes a copy of what left through another provider.
        may_draft: settings of a mailbox -> whether it lets us use its drafts, where there is a drafter.
        tokens: whether a mailbox with a password may have a token instead (OAuth 2.0, XOAUTH2).
        reads_whole: whether all mail is read wherever it lies, so that no folders can be chosen.
        takes_turns: whether a mailbox serves so few calls at once that its users take turns.
    """

    name: str
    title: str
    form: tuple[Field, ...]
    receiver: Callable[[Connection], Receiver] | None = None
    sender: Callable[[Connection], Sender] | None = None
    drafter: Callable[[Connection], Drafter] | None = None
    sent_folder: Callable[[Connection], SentFolder] | None = None
    searcher: Callable[[Connection], Searcher] | None = None
    pusher: Callable[[Connection], Pusher] | None = None
    notices: Callable[[Notification], Sequence[Notice]] | None = None
    oauth: OAuth | None = None
    silence: Silence = Silence()
    stamps: str | None = None
    largest: Callable[[Mapping[str, object]], int] | None = None
    largest_text: int | None = None
    files_copy: Callable[[Mapping[str, object]], bool] = lambda _: True
    keeps_copies: bool = False
    may_draft: Callable[[Mapping[str, object]], bool] = lambda _: True
    one_account: bool = False
    tokens: bool = True
    reads_whole: bool = False
    takes_turns: bool = False
