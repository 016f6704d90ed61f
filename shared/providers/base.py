"""What every mail system looks like to the core: five powers, and a description that is data.

Raw RFC 5322 bytes cross this border, both ways. A provider file imports this module, `network` or
`http`, `mime`, `model` and `errors`, never another provider, a store or a use case.

To add one: CONTRIBUTING.md, "Adding a provider".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NewType, Protocol

from shared.model import Envelope

Cursor = NewType("Cursor", str)
"""Where the last sync stopped. Opaque: only the provider that made it looks inside."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some envelopes, and the cursor that is true once all of them are dealt with."""

    envelopes: tuple[Envelope, ...]
    cursor: Cursor


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
    role: Literal["inbox", "sent", "drafts", "trash", "junk", "archive", "all", "flagged"] | None = None


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
    """

    address: str
    settings: Mapping[str, object]
    credential: Callable[[], Credential]
    allowed_hosts: frozenset[str] = frozenset()


class Receiver(Protocol):
    """Lists and fetches mail. Every method raises ConsentRequired, Temporary or RateLimited."""

    def check(self) -> None:
        """Sign in and look at what will be read; called by `connecting` and the doctor.

        Raises ConsentRequired when the sign-in is refused, InvalidRequest naming the setting that is wrong.
        """
        ...

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """Yield what arrived after `cursor`, Sent mail included; called by `syncing`.

        Without a cursor: everything the provider took in at or after `since` (aware UTC). Oldest
        first within a folder, Sent before Inbox. An idle mailbox yields one empty page or none.
        Raises CursorExpired, and then nothing of that page has been yielded.
        """
        ...

    def fetch(self, ref: str) -> bytes:
        """Return the whole message; called by `filing` for case mail only. Raises NotFound."""
        ...

    def returned_headers(self, ref: str) -> bytes:
        """Return the machine-readable fields and the returned *headers* of a report (RFC 6522).

        Called for multipart/report only, to learn which message a bounce or receipt is about
        without reading anybody's text. Raises NotFound.
        """
        ...

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """Find mails that are, or answer, one of `message_ids`, in any folder but Junk and Trash.

        Called when a mail was moved before it was fetched, and once when a final Message-ID becomes known.
        """
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


class Sender(Protocol):
    """Hands a message over. Every method raises ConsentRequired, Temporary or RateLimited."""

    def check(self) -> None:
        """Sign in without sending; called by `connecting` and the doctor."""
        ...

    def send(
        self, raw: bytes, envelope_from: str, envelope_to: Sequence[str], commit: Callable[[], None]
    ) -> Receipt:
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


class SentFolder(Protocol):
    """The mailbox's Sent mail, for senders that do not keep a copy themselves."""

    def find_sent(self, message_id: str) -> Receipt | None:
        """Return the Sent copy with this Message-ID, or None where there is none; called by `delivering`."""
        ...

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:
        """Put a copy into Sent, marked as read, and return its ref where the server tells it."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


class Searcher(Protocol):
    """Live look into a mailbox for its owner; nothing of it is kept."""

    def search(self, query: Query) -> list[Envelope]:
        """Return at most `query.limit` matches, newest first; called by `looking`."""
        ...

    def folders(self) -> list[Folder]:
        """Return the folders that can be chosen."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a provider's settings form: what it is for is shown to the admin and in OpenAPI."""

    name: str
    purpose: str
    type: Literal["string", "integer", "boolean", "strings"] = "string"
    required: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Provider:
    """A mail system as data. A power it lacks is None, and asking for it is answered with Unsupported."""

    name: str
    title: str
    form: tuple[Field, ...]
    receiver: Callable[[Connection], Receiver] | None = None
    sender: Callable[[Connection], Sender] | None = None
    sent_folder: Callable[[Connection], SentFolder] | None = None
    searcher: Callable[[Connection], Searcher] | None = None
