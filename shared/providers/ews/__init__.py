"""On-premises Exchange (2016, 2019, Subscription Edition) through Exchange Web Services.

exchangelib takes a second and 58 MB to import, so the parts that need it are loaded when a mailbox is opened.
https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-client-design-overview-for-exchange
"""

from importlib import import_module
from typing import Any, Protocol

from shared.providers import hosts
from shared.providers.base import Connection, Field, Provider


class _Made(Protocol):
    def __call__(self, connection: Connection) -> Any: ...


def _later(module: str, name: str) -> _Made:
    """Return what makes a power, and loads its module only then."""

    def made(connection: Connection) -> Any:
        return getattr(import_module(f"shared.providers.ews.{module}"), name)(connection)

    return made


PROVIDER = Provider(
    name="ews",
    title="Exchange Server (on premises)",
    form=(
        hosts.name_field("Name of the Exchange server, as its users reach it"),
        hosts.port_field("Its HTTPS port, usually 443", 443),
        Field(
            "username",
            "Name to sign in with (DOMAIN\\name or UPN), where it is not the mailbox's address",
            place=True,
        ),
        Field("auth", "How to sign in", default="ntlm", choices=("ntlm", "basic"), place=True),
        Field(
            "access",
            "Whose account signs in: one that may open the mailbox, or a service account that impersonates",
            default="delegate",
            choices=("delegate", "impersonation"),
            admin_only=True,
        ),
        Field(
            "otherFolders",
            "Folders besides Inbox, Sent and the chosen ones: search for what rules move there (once folders"
            " are chosen, only for mail that quotes an id of ours), or never look into them. A default is for"
            " mailboxes that are connected from then on; PATCH changes the others, each by itself",
            default="search",
            choices=("search", "never"),
        ),
    ),
    tokens=False,
    receiver=_later("reading", "EwsMailbox"),
    sender=_later("sending", "EwsSender"),
    sent_folder=_later("reading", "EwsMailbox"),
    searcher=_later("searching", "EwsSearcher"),
    keeps_copies=True,
)
