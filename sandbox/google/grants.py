"""What users granted to Cloud projects, and the tokens that live on it.

When refresh tokens die: https://developers.google.com/identity/protocols/oauth2#expiration
"""

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox.google.directory import GMAIL_SCOPES, Client, ServiceAccount, User
from sandbox.google.problems import Refusal

CODE_SECONDS = 600
IDLE_SECONDS = 180 * 24 * 3600
TESTING_SECONDS = 7 * 24 * 3600
MOST_REFRESH_TOKENS = 100


@dataclass(frozen=True)
class Access:
    """What an access token allows; `user` is None where a service account speaks for itself."""

    user: User | None
    client_id: str
    project: str
    scopes: frozenset[str]
    expires_at: float
    service: ServiceAccount | None = None


@dataclass
class Code:
    """An authorization code with the query it was made for."""

    query: Mapping[str, str]
    user: User
    scopes: frozenset[str]
    expires_at: float
    used: bool = False


@dataclass
class Refresh:
    """A refresh token; its access tokens die with it."""

    user: User
    client: Client
    scopes: frozenset[str]
    generation: int
    made_at: float
    used_at: float
    accesses: set[str] = field(default_factory=set)


class Grants:
    """All of it. `now` is the simulator's clock.

    Attributes:
        secrets_seen: every token and code that was given out.
        revocations: how often `revoke` ended something.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.token_seconds = 3600
        self.revocations = 0
        self.secrets_seen: set[str] = set()
        self.consents: dict[tuple[str, str], set[str]] = {}
        self._now = now
        self._lock = threading.RLock()
        self._codes: dict[str, Code] = {}
        self._refreshes: dict[str, Refresh] = {}
        self._accesses: dict[str, Access] = {}

    # Given out

    def new_code(self, query: Mapping[str, str], user: User, scopes: frozenset[str]) -> str:
        """Return a code, good once and for ten minutes."""
        code = self._new("4/0A")
        self._codes[code] = Code(query, user, scopes, self._now() + CODE_SECONDS)
        return code

    def new_access(self, access: Access, refresh: Refresh | None = None) -> str:
        """Return an access token."""
        token = self._new("ya29.")
        self._accesses[token] = access
        if refresh:
            refresh.accesses.add(token)
        return token

    def new_refresh(self, user: User, client: Client, scopes: frozenset[str]) -> tuple[str, Refresh]:
        """Return a refresh token; the oldest of more than a hundred dies silently."""
        with self._lock:
            mine = [t for t, r in self._refreshes.items() if r.user is user and r.client is client]
            for token in mine[: len(mine) + 1 - MOST_REFRESH_TOKENS]:
                self._end(token)
            token, now = self._new("1//0"), self._now()
            self._refreshes[token] = Refresh(user, client, scopes, user.generation, now, now)
            return token, self._refreshes[token]

    # Shown

    def access(self, bearer: str) -> Access | None:
        """Return what a token allows, or None where it is not valid (any more)."""
        found = self._accesses.get(bearer)
        if found is None or found.expires_at < self._now():
            return None
        return None if found.user and found.user.suspended else found

    def redeem(self, code: str, client: Client) -> Code:
        """Return a code's contents, once. Raises Refusal."""
        with self._lock:
            found = self._codes.get(code)
            if found is None or found.query["client_id"] != client.client_id:
                raise Refusal("invalid_grant", "Malformed auth code.")
            if found.used or found.expires_at < self._now():
                raise Refusal("invalid_grant", "Bad Request")
            found.used = True
            return found

    def refresh(self, token: str, client: Client) -> Refresh:
        """Return the refresh token's contents. Raises Refusal."""
        found = self._refreshes.get(token)
        if found is None or found.client is not client:
            raise Refusal("invalid_grant", "Token has been expired or revoked.")
        if found.user.domain.session_control:
            uri = "https://support.google.com/a/answer/9368756"
            words = "reauth related error (invalid_rapt)"
            raise Refusal("invalid_grant", words, error_uri=uri, error_subtype="invalid_rapt")
        if client.client_id in found.user.domain.blocked_clients:
            raise Refusal("admin_policy_enforced", "Access to this app is restricted by the administrator.")
        if found.user.suspended:
            raise Refusal("invalid_grant", "Account has been deleted")
        aged = client.testing and self._now() - found.made_at > TESTING_SECONDS
        changed = found.generation != found.user.generation and found.scopes & GMAIL_SCOPES
        if aged or changed or self._now() - found.used_at > IDLE_SECONDS:
            raise Refusal("invalid_grant", "Token has been expired or revoked.")
        found.used_at = self._now()
        return found

    # Ended

    def revoke(self, token: str) -> bool:
        """End everything that the token's user granted to the whole project; False for an unknown token.

        A service account's token ends alone: nobody granted it.
        """
        with self._lock:
            refresh, access = self._refreshes.get(token), self._accesses.get(token)
            if access and access.service:
                del self._accesses[token]
                return True
            user = refresh.user if refresh else access.user if access else None
            project = refresh.client.project if refresh else access.project if access else ""
            if user is None:
                return False
            self.revoke_project(user, project)
            return True

    def revoke_project(self, user: User, project: str) -> None:
        """What a user does at myaccount.google.com/connections, and what /revoke does for any token."""
        with self._lock:
            self.revocations += 1
            self.consents.pop((user.sub, project), None)
            for token in [
                t for t, r in self._refreshes.items() if r.user is user and r.client.project == project
            ]:
                self._end(token)
            held = {
                t: a
                for t, a in self._accesses.items()
                if a.user is user and a.project == project and not a.service
            }
            for token in held:
                del self._accesses[token]

    def end_access(self, user: User) -> None:
        """Let the user's access tokens expire."""
        for token in [t for t, a in self._accesses.items() if a.user is user]:
            del self._accesses[token]

    def _end(self, token: str) -> None:
        for access in self._refreshes.pop(token).accesses:
            self._accesses.pop(access, None)

    def _new(self, prefix: str) -> str:
        token = prefix + secrets.token_urlsafe(48)
        self.secrets_seen.add(token)
        return token
