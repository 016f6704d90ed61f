"""Google on the wire: sign-in and consent, Gmail v1 and Pub/Sub's push, with the rules that no schema shows.

One server stands for accounts.google.com, oauth2.googleapis.com, openidconnect.googleapis.com,
www.googleapis.com, admin.google.com and gmail.googleapis.com; their paths do not overlap. Every call of Gmail
is checked, both ways, against the discovery document that google-api-python-client ships: `violations` is
empty as long as both sides keep to it.

How a test drives it:
    world.add_google_user("ann@g.example", "password", admin=True)    and her domain; mail reaches her by SMTP
    google = world.google            url, token_uri; Zalion's own: world.google_app, world.google_service
    google.auto_sign_in = True       `authorize` answers at once for login_hint; an address: for this one
    google.bearer(address, "gmail.readonly")            an access token without a sign-in
    google.grant(address, "gmail.readonly")             a refresh token, as after a sign-in with consent
    google.arrive(address, raw, label="INBOX", at=None) mail comes in, history grows, a push goes out
    google.send_as_user(address, raw)                   sent in Gmail by hand: SENT copy, push, SMTP
    google.change_draft_as_user(address, item, raw)     a draft, changed to raw in Gmail by hand
    google.send_draft_as_user(address, item, raw)       a draft, changed to raw, sent in Gmail by hand
    google.rename(address, new)      what an administrator does: the old address stays as an alias
    google.mailbox(address)          add(raw, "inbox"|"sent"|"junk"|"trash"|"archive"|name, at=, sent=),
                                     listed(label), remove(item), move(item, label), forget_history(),
                                     label(item, add=, remove=), bodies_read[id], history_id
    google.directory                 delegate(domain, client_id, *scopes), undelegate(domain, client_id),
                                     users[address].suspended, change_password(address, word),
                                     domains[name].blocked_clients, domains[name].session_control
    google.grants                    revoke_project(user, project), end_access(user), revocations
    google.pubsub                    push_to(url), settle(), release(), told, answers, retries
    google.faults                    everything else that may go wrong: faults.py; heal() ends it all
    google.requests                  list[Served(method, user, format, status, units, query)]
    google.skip(seconds)             time passes for watches, tokens and quota
"""

import ssl
import time
from typing import override

from sandbox.google.accounts import Accounts
from sandbox.google.api import Api
from sandbox.google.call import Served
from sandbox.google.console import Console
from sandbox.google.directory import Client, Directory, ServiceAccount, User, full
from sandbox.google.faults import Faults
from sandbox.google.gmail import Gmail
from sandbox.google.grants import Access, Grants
from sandbox.google.keys import Keys
from sandbox.google.mailbox import Item, Mailbox
from sandbox.google.oauth import SignIn
from sandbox.google.push import PubSub
from sandbox.web import Reply, Request, WebServer

ISSUER = "https://accounts.google.com"
PUSH_ACCOUNT = "gmail-push@zalion-mail.iam.gserviceaccount.com"
DEFAULT = ("openid", "email", "gmail.readonly", "gmail.send")


class Google(WebServer):
    """One Google.

    Attributes:
        token_uri: where tokens are got.
        arrive, send_as_user, change_draft_as_user, send_draft_as_user: see `Gmail`.
        knows, deliver: its place in the mail world, see `Gmail`.
    """

    def __init__(
        self, port: int = 0, tls: ssl.SSLContext | None = None, *, mx: tuple[str, int], ca: str
    ) -> None:
        self._skipped = 0.0
        super().__init__(port, tls)
        self.token_uri = f"{self.url}/token"
        self.faults, self.directory, keys = Faults(), Directory(), Keys()
        self.grants = Grants(self.now)
        self.accounts = Accounts(self.url, ISSUER, self.directory, self.grants, keys, self.faults, self.now)
        self.pubsub = PubSub(ca, self.faults, self.accounts.identity, PUSH_ACCOUNT)
        self.gmail = Gmail(self.accounts, self.pubsub, mx)
        self.arrive, self.send_as_user = self.gmail.arrive, self.gmail.send_as_user
        self.change_draft_as_user = self.gmail.change_draft_as_user
        self.send_draft_as_user = self.gmail.send_draft_as_user
        self.knows, self.deliver = self.gmail.knows, self.gmail.deliver
        self._api = Api(self.gmail)
        self._parts = (SignIn(self.accounts), Console(self.accounts))

    @override
    def answer(self, request: Request) -> Reply:
        for part in self._parts:
            if reply := part.answer(request):
                return reply
        return self._api.answer(request)

    @override
    def heal(self) -> None:
        super().heal()
        self.pubsub.forget()
        self.faults.clear()
        self.auto_sign_in, self._skipped = False, 0.0

    @override
    def stop(self) -> None:
        self.pubsub.stop()
        super().stop()

    # What tests and the world do

    @property
    def auto_sign_in(self) -> bool | str:
        """Whether, and for whom, `authorize` answers at once."""
        return self.accounts.auto_sign_in

    @auto_sign_in.setter
    def auto_sign_in(self, value: bool | str) -> None:
        self.accounts.auto_sign_in = value

    @property
    def requests(self) -> list[Served]:
        """Every call of Gmail."""
        return self._api.requests

    @property
    def violations(self) -> list[str]:
        """What did not keep to the discovery document."""
        return self._api.violations

    def now(self) -> float:
        """Return seconds since 1970, as Google's clock shows them."""
        return time.time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let time pass: for watches, tokens and quota, not for signatures."""
        self._skipped += seconds

    def bearer(self, address: str, *scopes: str, client: Client | None = None) -> str:
        """Return a user's access token, without a sign-in; by default for `DEFAULT`."""
        user, app = self.directory.users[address.lower()], client or self._first_client()
        names = frozenset(full(scope) for scope in scopes or DEFAULT)
        until = self.now() + self.grants.token_seconds
        return self.grants.new_access(Access(user, app.client_id, app.project, names, until))

    def grant(self, address: str, *scopes: str, client: Client | None = None) -> str:
        """Return a refresh token, as after a sign-in with consent."""
        user, app = self.directory.users[address.lower()], client or self._first_client()
        names = frozenset(full(scope) for scope in scopes or DEFAULT)
        self.grants.consents.setdefault((user.sub, app.project), set()).update(names)
        return self.grants.new_refresh(user, app, names)[0]

    def add_user(self, address: str, password: str, *, admin: bool = False) -> User:
        """Add somebody with a mailbox."""
        self.gmail.add_mailbox(address)
        return self.directory.add_user(address, password, admin=admin)

    def rename(self, address: str, new: str) -> None:
        """Give somebody another address; the old one becomes an alias, and tokens stay as they are."""
        users, boxes = self.directory.users, self.gmail.mailboxes
        user, box = users.pop(address), boxes.pop(address)
        user.address = box.address = new
        user.aliases.add(address)
        users[new], boxes[new] = user, box

    def recreate(self, address: str, history_id: int) -> None:
        """Delete an account and make it anew under its address; the new mailbox's numbers begin there."""
        address = address.lower()
        old = self.directory.users.pop(address)
        del self.gmail.mailboxes[address]
        old.suspended = True  # for the tokens that it gave
        self.add_user(address, old.password, admin=old.admin).sub = f"2{old.sub[1:]}"
        box = self.gmail.mailboxes[address]
        box.history_id = box.oldest_history = history_id

    def mailbox(self, address: str) -> Mailbox:
        """Return somebody's mailbox. Raises KeyError."""
        return self.gmail.mailboxes[address.lower()]

    def inbox(self, address: str) -> list[bytes]:
        """Return what lies in somebody's inbox, oldest first."""
        return [item.raw for item in self.mailbox(address).listed("INBOX")]

    def _first_client(self) -> Client:
        return next(iter(self.directory.clients.values()))


__all__ = ["Client", "Faults", "Google", "Item", "Mailbox", "Served", "ServiceAccount"]
