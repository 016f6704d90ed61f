"""Google Workspace through Gmail's API: sign-in, delegation, reading, sending and push."""

from shared.providers.base import Field, Provider
from shared.providers.google.pushing import GmailPusher, notices
from shared.providers.google.reading import GmailMailbox
from shared.providers.google.searching import GmailSearcher
from shared.providers.google.sending import GmailDrafter, GmailSender, largest, may_draft
from shared.providers.google.signing import Google

PROVIDER = Provider(
    name="google",
    title="Google Workspace",
    form=(
        Field(
            "access",
            "Who signs in: the mailbox's user, or Zalion's service account (domain-wide delegation)",
            default="user",
            choices=("user", "application"),
            allowed_by="applicationAccess",
            admin_only=True,
            place=True,
        ),
        Field(
            "drafts",
            "Let Zalion put drafts into the user's Gmail; needs the permission gmail.modify",
            "boolean",
            default=False,
            level="shared",
        ),
        Field(
            "applicationAccess",
            "Allow administrators to connect mailboxes without a user, by domain-wide delegation",
            "boolean",
            level="integration",
        ),
        Field(
            "mailboxes",
            "The only addresses that the delegation is used for",
            "strings",
            level="integration",
        ),
    ),
    receiver=GmailMailbox,
    sender=GmailSender,
    drafter=GmailDrafter,
    sent_folder=GmailMailbox,
    searcher=GmailSearcher,
    pusher=GmailPusher,
    notices=notices,
    oauth=Google(),
    stamps="mx.google.com",
    largest=largest,
    may_draft=may_draft,
    one_account=True,
    reads_whole=True,
)
