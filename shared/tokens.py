"""The tokens of grants: sealed with the organisation's data key, renewed when they are needed.

A token set is refreshed (RFC 6749 section 6) by one worker at a time: issuers that rotate refresh tokens
take one that is used twice for stolen and end the consent (RFC 9700 §4.14.2).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar

from shared import refreshing, sealing
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotFound, Raced, Temporary
from shared.keys import Keys
from shared.model import Grant
from shared.providers.base import Bearer, OAuth, Registration
from shared.registrations import Registrations
from shared.storage.base import Add, Move, Records, Remove, Stored, Vault

MARGIN = timedelta(minutes=2)
"""A token that ends sooner counts as ended: a session must still be able to sign in with it."""

LEASE = timedelta(minutes=1)
"""How long a worker that died can keep others from refreshing; longer than the issuer's timeouts."""

LOOKS, PAUSE = 10, 0.5
"""How often, and after how many seconds, a worker looks whether the one that refreshes is done."""

AGAIN = "Connect the mailbox again."


@dataclass(frozen=True, slots=True)
class RefreshLease:
    """Says that somebody redeems a grant's refresh token right now."""

    kind: ClassVar[str] = "refresh"

    key: str
    until: datetime


@dataclass(frozen=True)
class TokenSets:
    """Seals, unseals and renews; every method raises Temporary when a store is down.

    Attributes:
        oauth: how one signs in at a provider.
        allowed_hosts: see `network.connect`.
    """

    records: Records
    vault: Vault
    keys: Keys
    clock: Callable[[], datetime]
    registrations: Registrations | None
    oauth: Callable[[str], OAuth | None]
    allowed_hosts: frozenset[str]

    @contextmanager
    def signing(self, org_id: str, provider: str) -> Iterator[tuple[OAuth, Registration]]:
        """Sign in with a registration; where that itself is refused, its integration says so."""
        oauth = self.oauth(provider)
        if oauth is None or self.registrations is None:
            raise ConsentRequired("This provider has no sign-in any more.", fix=AGAIN)
        try:
            yield oauth, self.registrations.of(org_id, provider)
        except (InvalidRequest, Conflict) as refusal:
            self.registrations.mark(org_id, provider, refusal)
            raise

    def lists(self, org_id: str, provider: str, address: str) -> bool:
        """See `Registrations.lists`."""
        return self.registrations is None or self.registrations.lists(org_id, provider, address)

    def read(self, org_id: str, key: str) -> Stored[Grant]:
        """Return a grant. Raises ConsentRequired where there is none."""
        stored = self.records.find(org_id, Grant, key)
        if stored is None:
            raise ConsentRequired("This mailbox has no stored sign-in.", fix=AGAIN)
        return stored

    def secret(self, grant: Grant) -> str:
        """Return a grant's secret from the vault. Raises ConsentRequired where it is gone."""
        try:
            return self.vault.get(grant.secret_name or "")
        except NotFound as error:
            raise ConsentRequired("The stored secret is gone.", fix=AGAIN) from error

    def bearer(self, org_id: str, stored: Stored[Grant]) -> tuple[Bearer, str]:
        """Return a token that lasts, and the version of the grant that has it.

        Raises ConsentRequired where the grant no longer works, Temporary or RateLimited where its issuer
        cannot answer.
        """
        for _ in range(LOOKS):
            grant = stored.value
            if self._lasts(grant):
                return Bearer(grant.username, self.unsealed(org_id, grant, "access_token")), stored.etag
            try:
                with self._lease(org_id, grant.key):
                    token, etag = self._refresh(org_id, grant.key)
                    return Bearer(grant.username, token), etag
            except Raced:
                time.sleep(PAUSE)
                stored = self.read(org_id, grant.key)
        raise Temporary("The sign-in is being renewed by another worker.", retry_after=5)

    @contextmanager
    def _lease(self, org_id: str, key: str) -> Iterator[None]:
        """Be the only one who refreshes. Raises Raced while somebody else is."""
        lease = RefreshLease(key, self.clock() + LEASE)
        try:
            [etag] = self.records.commit(org_id, Add(lease))
        except Raced:
            held = self.records.find(org_id, RefreshLease, key)
            if held is None or self.clock() < held.value.until:
                raise
            [etag] = self.records.commit(org_id, Move(held, lease))
        try:
            yield
        finally:
            with suppress(Raced):  # it ran out and is somebody else's by now
                self.records.commit(org_id, Remove(lease, etag))

    def _lasts(self, grant: Grant) -> bool:
        """Whether the access token can be used; one without a known end only if it cannot be refreshed."""
        if "access_token" not in grant.sealed:
            return False
        if grant.expires_at is None:
            return "refresh_token" not in grant.sealed
        return self.clock() + MARGIN < grant.expires_at

    def _refresh(self, org_id: str, key: str) -> tuple[str, str]:
        """Redeem, keep what came, return the access token and the version of the record that has it.

        Raises Raced for a grant replaced meanwhile.
        """
        stored = self.read(org_id, key)  # anew: whoever held the lease before may have done it already
        grant = stored.value
        if self._lasts(grant):
            return self.unsealed(org_id, grant, "access_token"), stored.etag
        try:
            answer = self._redeemed(org_id, grant)
        except ConsentRequired as refusal:
            if self.read(org_id, key).etag != stored.etag:
                raise Raced from refusal
            raise
        tokens = {"access_token": answer.access_token}
        if answer.refresh_token:
            tokens["refresh_token"] = answer.refresh_token
        new = replace(grant, expires_at=self.clock() + timedelta(seconds=answer.expires_in))
        [etag] = self.records.commit(org_id, Move(stored, self.sealed(org_id, new, tokens)))
        return answer.access_token, etag

    def _redeemed(self, org_id: str, grant: Grant) -> refreshing.Answer:
        """Redeem at the provider that gave it, or at the issuer that came with a typed token."""
        if grant.type == "consent":
            refresh_token = self.unsealed(org_id, grant, "refresh_token")
            with self.signing(org_id, grant.provider) as (oauth, registration):
                tokens = oauth.renew(registration, refresh_token, grant.scopes)
            return refreshing.Answer(tokens.access_token, tokens.expires_in, tokens.refresh_token)
        try:
            return refreshing.redeem(grant.token_url or "", self._form(org_id, grant), self.allowed_hosts)
        except refreshing.InvalidGrant as refusal:
            raise ConsentRequired("The sign-in was revoked or has expired.", fix=AGAIN) from refusal

    def _form(self, org_id: str, grant: Grant) -> dict[str, str]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self.unsealed(org_id, grant, "refresh_token"),
            "client_id": grant.client_id or "",
        }
        if grant.scopes:
            form["scope"] = " ".join(grant.scopes)
        if grant.secret_name:
            form["client_secret"] = self.secret(grant)  # in the body, as Microsoft and Google document it
        return form

    def sealed(self, org_id: str, grant: Grant, tokens: Mapping[str, str]) -> Grant:
        """Return the grant with these tokens, sealed with the organisation's data key."""
        kid, key = self.keys.key(org_id)
        sealed = {
            field: sealing.seal(key, token, kid=kid, aad=(org_id, grant.mailbox_id, grant.provider, field))
            for field, token in tokens.items()
        }
        return replace(grant, sealed={**grant.sealed, **sealed})

    def moved(self, org_id: str, grant: Grant, provider: str) -> Grant:
        """Return the grant under another provider's name, to which its seals are bound."""
        tokens = {field: self.unsealed(org_id, grant, field) for field in grant.sealed}
        return self.sealed(org_id, replace(grant, provider=provider, sealed={}), tokens)

    def unsealed(self, org_id: str, grant: Grant, field: str) -> str:
        """Return one of a grant's tokens. Raises ConsentRequired where there is none, or no key for it."""
        sealed = grant.sealed.get(field)
        if sealed is None:
            raise ConsentRequired("The access token has ended and cannot be renewed.", fix=AGAIN)
        try:
            key = self.keys.by_kid(org_id, sealing.kid_of(sealed))
        except NotFound as error:
            raise ConsentRequired("The key of the stored tokens was erased.", fix=AGAIN) from error
        return sealing.unseal(key, sealed, aad=(org_id, grant.mailbox_id, grant.provider, field))
