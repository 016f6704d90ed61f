"""Google's own client libraries, pointed at the simulator."""

import base64
import secrets
from dataclasses import dataclass
from typing import Any

import google_auth_httplib2
import httplib2
import requests
from google.auth.transport.requests import Request as AuthRequest
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build

from sandbox.google.headers import unb64
from tests.sandbox.conftest import mail

SCOPE = "https://www.googleapis.com/auth/"


@dataclass
class Person:
    """Somebody with a mailbox in Gmail, and Google's client in front of it."""

    world: Any
    address: str

    @property
    def google(self) -> Any:
        return self.world.google

    @property
    def box(self) -> Any:
        return self.google.mailbox(self.address)

    @property
    def user(self) -> Any:
        return self.google.directory.users[self.address]

    def client(self, *scopes: str, credentials: Any = None) -> Any:
        """google-api-python-client, signed in; with `.users()` as everything begins there."""
        credentials = credentials or Credentials(self.google.bearer(self.address, *scopes))
        http = httplib2.Http(ca_certs=str(self.world.authority.pem))
        http.redirect_codes -= {308}  # as googleapiclient's own does: it is "go on" of an upload, no redirect
        signed = google_auth_httplib2.AuthorizedHttp(credentials, http=http)
        options = {"api_endpoint": self.google.url}
        return build("gmail", "v1", http=signed, client_options=options, cache_discovery=False)

    def plain(self, *scopes: str) -> requests.Session:
        """Plain HTTPS, signed in."""
        session = requests.Session()
        session.trust_env, session.verify = False, str(self.world.authority.pem)
        session.headers["Authorization"] = f"Bearer {self.google.bearer(self.address, *scopes)}"
        return session

    def users(self, *scopes: str) -> Any:
        return self.client(*scopes).users()

    def raw(self, id_: str) -> bytes:
        found = self.users().messages().get(userId="me", id=id_, format="raw").execute()
        return unb64(found["raw"])


def person(world: Any, name: str = "ann", domain: str = "g.example", **options: Any) -> Person:
    address = f"{name}.{secrets.token_hex(4)}@{domain}"
    world.add_google_user(address, "pass:word", **options)
    return Person(world, address)


def body(raw: bytes, **more: Any) -> dict[str, Any]:
    return {"raw": base64.urlsafe_b64encode(raw).decode(), **more}


def letter(sender: Person, to: str, text: str = "Good day", **headers: str) -> bytes:
    return mail(sender.address, text, To=to, **headers)


def refreshed(credentials: Any, world: Any) -> Any:
    """Get a token, through google-auth's own transport."""
    session = requests.Session()
    session.trust_env, session.verify = False, str(world.authority.pem)
    credentials.refresh(AuthRequest(session))
    return credentials


def delegated(world: Any, subject: str | None, *scopes: str, account: Any = None) -> Any:
    """A service account of ours that speaks for somebody."""
    info = (account or world.google_service).info(world.google.token_uri)
    names = [SCOPE + one if "://" not in one and one != "openid" else one for one in scopes]
    return service_account.Credentials.from_service_account_info(info, scopes=names, subject=subject)
