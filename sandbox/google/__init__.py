"""Google on the wire: sign-in and consent, Gmail v1 and Pub/Sub's push, with the rules that no schema shows.

One server stands for accounts.google.com, oauth2.googleapis.com, openidconnect.googleapis.com, www.googleapis.com and
gmail.googleapis.com; their paths do not overlap. Every call of Gmail is checked, both ways, against the discovery
document that google-api-python-client ships (`violations` is empty as long as both sides keep to it).

How a test drives it:
    world.add_google_domain("g.example"); world.add_google_user("ann@g.example", "password", admin=True)
    google = world.google                              google.url, google.base (same), google.token_uri
    google.auto_sign_in = True | "ann@g.example"       `authorize` answers at once for login_hint, or for this address
    google.bearer("ann@g.example", "gmail.readonly")   an access token, with no sign-in
    google.arrive("ann@g.example", raw, label="INBOX", at=None)    mail comes in, history grows, a push goes out
    google.send_as_user("ann@g.example", raw)          she sends in Gmail herself: SENT copy, push, delivered by SMTP
    google.mailbox("ann@g.example")                    .add(raw, "inbox"|"sent"|"junk"|"trash"|"drafts"|"archive"|name,
                                                        at=) .listed(label) .remove(item) .move(item, label)
                                                       .label(item, add=, remove=) .bodies_read[id] .history_id
    google.directory.delegate("g.example", client_id, scopes) / .undelegate(...)    domain-wide delegation
    google.directory.users[address].suspended = True   .change_password(...), .blocked_clients: see directory.py
    google.pubsub.push_to(url)                         where pushes go; .settle() waits, .hold()/.release(), .told
    google.faults.<name>                               everything that may go wrong, see faults.py
    google.requests                                    list[Served(method, user, format, status, units, query)]
    google.skip(seconds)                               time passes for watches, tokens and quota
"""

import re
import ssl
import time
from datetime import datetime
from email import message_from_bytes
from typing import override

from sandbox.google.call import Served
from sandbox.google.directory import Client, Directory, ServiceAccount, User, full
from sandbox.google.faults import Faults
from sandbox.google.gmail import Gmail
from sandbox.google.grants import Access, Grants
from sandbox.google.keys import Keys
from sandbox.google.mailbox import Item, Mailbox
from sandbox.google.oauth import SignIn
from sandbox.google.push import PubSub
from sandbox.mail import recipients, trace, without
from sandbox.web import Reply, Request, WebServer

ISSUER = "https://accounts.google.com"


class Google(WebServer):
    """One Google.

    Attributes:
        base, token_uri: where Gmail's paths begin; where tokens are got.
        issuer: `iss` of id_tokens and push tokens; Google's own, which its libraries insist on.
    """

    def __init__(
        self, port: int = 0, tls: ssl.SSLContext | None = None, *, mx: tuple[str, int], ca: str
    ) -> None:
        self._skipped = 0.0
        super().__init__(port, tls)
        self.base, self.token_uri, self.issuer = self.url, f"{self.url}/token", ISSUER
        self.faults, self.directory, self.keys = Faults(), Directory(), Keys()
        self.grants = Grants(self.now)
        self.sign_in = SignIn(self.url, ISSUER, self.directory, self.grants, self.keys, self.faults, self.now)
        account = "gmail-push@zalion-mail.iam.gserviceaccount.com"
        self.pubsub = PubSub(ca, self.faults, self.sign_in.identity, account)
        self.gmail = Gmail(self.url, self.directory, self.grants, self.pubsub, self.faults, self.now, mx)

    @override
    def stop(self) -> None:
        self.pubsub.stop()
        super().stop()

    @override
    def answer(self, request: Request) -> Reply:
        return self.sign_in.answer(request) or self.gmail.answer(request)

    # What tests and the world do

    @property
    def auto_sign_in(self) -> bool | str:
        """Whether, and for whom, `authorize` answers at once."""
        return self.sign_in.auto_sign_in

    @auto_sign_in.setter
    def auto_sign_in(self, value: bool | str) -> None:
        self.sign_in.auto_sign_in = value

    @property
    def requests(self) -> list[Served]:
        """Every call of Gmail."""
        return self.gmail.requests

    @property
    def violations(self) -> list[str]:
        """What did not keep to the discovery document."""
        return self.gmail.violations

    def now(self) -> float:
        """Return seconds since 1970, as Google's clock shows them."""
        return time.time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let time pass: for watches, tokens and quota, not for signatures."""
        self._skipped += seconds

    def bearer(self, address: str, *scopes: str, client: Client | None = None) -> str:
        """Return a user's access token, without a sign-in."""
        user = self.directory.users[address.lower()]
        app = client or next(iter(self.directory.clients.values()))
        names = frozenset(full(scope) for scope in scopes or ("gmail.readonly", "gmail.send"))
        until = self.now() + self.grants.token_seconds
        return self.grants.new_access(Access(user, app.client_id, app.project, names, until))

    def add_user(self, address: str, password: str, *, admin: bool = False) -> User:
        """Add somebody with a mailbox."""
        self.gmail.add_mailbox(address)
        return self.directory.add_user(address, password, admin=admin)

    def mailbox(self, address: str) -> Mailbox:
        """Return somebody's mailbox. Raises KeyError."""
        return self.gmail.mailboxes[address.lower()]

    def arrive(
        self,
        address: str,
        raw: bytes,
        label: str = "INBOX",
        at: datetime | None = None,
        *,
        sent: bool = False,
    ) -> Item:
        """Put a mail into a mailbox (under no label at all: "") and tell whoever watches."""
        return self.gmail.arrive(address, raw, label, at, sent=sent)

    def send_as_user(self, address: str, raw: bytes) -> Item:
        """The person sends in Gmail herself: a copy lies in SENT, and it is delivered."""
        item = self.arrive(address, raw, "SENT", sent=True)
        self.gmail.transport(address.lower(), without(raw, "Bcc"), recipients(message_from_bytes(raw)))
        return item

    # The mail world's side

    def knows(self, address: str) -> bool:
        """Whether mail to this address arrives: an account, an alias, with or without a +detail."""
        return self._account(address) is not None

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:
        """Take a mail in, as Gmail does: with its verdict about the sender on top."""
        address = self._account(recipient)
        if address is None:
            raise LookupError(f"Nobody is called {recipient}.")
        message, box = message_from_bytes(raw), self.mailbox(address)
        own = [
            item
            for item in box.listed("SENT")
            if item.message_id == str(message.get("Message-ID", "")).strip()
        ]
        if own and own[-1].message_id:
            # A mail to oneself is one message with both labels.
            box.label(own[-1], add=("INBOX", "UNREAD"))
            return
        domain = str(message.get("From", "")).rpartition("@")[2].strip("> ").lower()
        word = "fail" if domain in self.faults.forged else "pass"
        verdict = (
            f"Delivered-To: {recipient}\r\nReturn-Path: <{envelope_from}>\r\n{trace('mx.google.com').decode()}"
            f"Authentication-Results: mx.google.com;\r\n"
            f"       dkim={word} header.i=@{domain} header.s=s1 header.b=abcdefgh;\r\n"
            f"       spf={word} (google.com: domain of {envelope_from} designates 127.0.0.1 as permitted sender)"
            f" smtp.mailfrom={envelope_from};\r\n"
            f"       dmarc={word} (p=REJECT sp=REJECT dis=NONE) header.from={domain}\r\n"
        )
        self.arrive(address, verdict.encode() + raw)

    def _account(self, address: str) -> str | None:
        plain = re.sub(r"\+[^@]*@", "@", address.lower())
        if plain in self.gmail.mailboxes:
            return plain
        users = self.directory.users.values()
        return next((user.address for user in users if plain in user.aliases), None)


__all__ = ["Client", "Faults", "Google", "Item", "Mailbox", "Served", "ServiceAccount"]
