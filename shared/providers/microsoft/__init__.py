"""Microsoft 365 through Graph: sign-in at Entra ID, reading, sending and change notifications."""

from typing import Literal

from shared.mime import NAMELESS
from shared.providers.base import Field, Provider, Silence
from shared.providers.microsoft.entra import Entra
from shared.providers.microsoft.pushing import GraphPusher, notices
from shared.providers.microsoft.reading import GraphMailbox
from shared.providers.microsoft.searching import GraphSearcher
from shared.providers.microsoft.sending import LARGEST_TEXT, GraphSender, largest


def _it(name: str, purpose: str, type_: Literal["string", "boolean", "date"] = "string") -> Field:
    return Field(name, purpose, type_, level="integration")


PROVIDER = Provider(
    name="microsoft",
    title="Microsoft 365",
    form=(
        Field(
            "access",
            "Who signs in: the mailbox's user, or the app itself",
            default="user",
            choices=("user", "application"),
            allowed_by="applicationAccess",
            admin_only=True,
            place=True,
        ),
        Field(
            "shared",
            "Whether this is a shared mailbox that its user may open",
            "boolean",
            default=False,
            allowed_by="sharedMailboxes",
            place=True,
        ),
        Field(
            "largeAttachments",
            "Allow mails above 3 MB; needs the permission Mail.ReadWrite",
            "boolean",
            default=False,
            level="shared",
        ),
        _it("tenantId", "Directory (tenant) ID of your own app registration"),
        _it("clientId", "Application (client) ID of your own app registration"),
        _it("secretExpiresAt", "Day its secret or certificate ends (2027-05-31): we warn before", "date"),
        _it("sharedMailboxes", "Allow users to connect shared mailboxes that they may open", "boolean"),
        _it("applicationAccess", "Allow administrators to connect mailboxes without a user", "boolean"),
        _it("controlMailbox", "A mailbox the app must not be able to read, as the proof of it"),
    ),
    receiver=GraphMailbox,
    sender=GraphSender,
    sent_folder=GraphMailbox,
    searcher=GraphSearcher,
    pusher=GraphPusher,
    notices=notices,
    oauth=Entra(),
    silence=Silence(
        "Microsoft does not tell us of new mail here, as with shared mailboxes.",
        "Ask IT to allow the app itself to read this mailbox, or have it polled more often.",
    ),
    stamps=NAMELESS,
    largest=largest,
    largest_text=LARGEST_TEXT,
    takes_turns=True,
    reads_whole=True,
)
