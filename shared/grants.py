"""What lets us into a mailbox: a vault secret for a password, sealed tokens for OAuth (`tokens`)."""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from shared import refreshing
from shared.errors import InvalidRequest, ZalionError
from shared.keys import Keys
from shared.model import Grant, digest
from shared.providers.base import OAuth, Tokens
from shared.registrations import Registrations
from shared.signins import SignIns
from shared.storage.base import Move, Records, Remove, Save, Vault, Write
from shared.tokens import RefreshLease, TokenSets

Ending = Callable[[Grant, Sequence[str], Sequence[Write]], None]
"""Carries out the writes that end a grant; told what there was of it."""


class Grants(SignIns):
    """Stores and hands out credentials; thread-safe. Every method raises Temporary when a store is down."""

    def __init__(
        self,
        records: Records,
        vault: Vault,
        keys: Keys,
        clock: Callable[[], datetime],
        *,
        allowed_hosts: frozenset[str] = frozenset(),
        registrations: Registrations | None = None,
        oauth: Callable[[str], OAuth | None] = lambda _: None,
    ) -> None:
        tokens = TokenSets(records, vault, keys, clock, registrations, oauth, allowed_hosts)
        super().__init__(records, tokens, clock)
        self._vault = vault

    def store_password(
        self, org_id: str, mailbox_id: str, provider: str, username: str, password: str
    ) -> None:
        """Keep a password, in place of whatever was kept for this mailbox and provider."""
        name = _secret_name(org_id, mailbox_id, provider, "password")
        grant = Grant(mailbox_id, provider, "password", username, secret_name=name)
        self._store(org_id, grant, password)

    def store_token(
        self,
        org_id: str,
        mailbox_id: str,
        provider: str,
        username: str,
        *,
        access_token: str | None = None,
        expires_at: datetime | None = None,
        refresh_token: str | None = None,
        token_url: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        scopes: tuple[str, ...] = (),
    ) -> None:
        """Keep a token set, in place of whatever was kept for this mailbox and provider.

        An access token alone works until it ends; a refresh token needs the issuer's `token_url`
        (https) and `client_id`. Raises InvalidRequest naming what is missing.
        """
        if not (access_token or refresh_token):
            raise InvalidRequest("A token is needed.", field="secret.accessToken")
        if refresh_token:
            refreshing.check_issuer(token_url, client_id)
        name = _secret_name(org_id, mailbox_id, provider, "client_secret") if client_secret else None
        grant = Grant(
            mailbox_id,
            provider,
            "token",
            username,
            secret_name=name,
            expires_at=expires_at,
            token_url=token_url,
            client_id=client_id,
            scopes=scopes,
        )
        given = {"access_token": access_token, "refresh_token": refresh_token}
        tokens = {field: token for field, token in given.items() if token}
        self._store(org_id, self._tokens.sealed(org_id, grant, tokens), client_secret)

    def store_consent(
        self, org_id: str, mailbox_id: str, provider: str, tokens: Tokens, scopes: Sequence[str]
    ) -> None:
        """Keep what a person's sign-in gave, in place of whatever was kept for this mailbox and provider.

        `scopes` are what we asked for: issuers return more, and a refresh must not insist on that.
        """
        grant = Grant(
            mailbox_id,
            provider,
            "consent",
            tokens.address,
            expires_at=self._clock() + timedelta(seconds=tokens.expires_in),
            scopes=tuple(scopes),
            subject=tokens.subject,
        )
        given = {"access_token": tokens.access_token, "refresh_token": tokens.refresh_token}
        sealed = self._tokens.sealed(org_id, grant, {name: text for name, text in given.items() if text})
        self._store(org_id, sealed, None)

    def put_in_place(self, org_id: str, mailbox_id: str, spares: Mapping[str, str]) -> list[Write]:
        """Return the writes that have spares (by provider) sign in from now on: see `spare_of`.

        They belong into the transaction that makes their settings valid. What they replace is spare then.
        """
        writes: list[Write] = []
        for provider, spare in spares.items():
            kept = self._tokens.read(org_id, f"{mailbox_id}!{spare}")
            new = self._tokens.moved(org_id, kept.value, provider)
            old = self._records.find(org_id, Grant, new.key)
            if old and old.value.secret_name:
                unused = replace(kept.value, secret_name=old.value.secret_name, sealed={})
                writes += [Move(kept, unused), Save(new)]
            else:
                writes += [Remove(kept.value, kept.etag), Save(new)]
        return writes

    def spares(self, org_id: str, mailbox_id: str) -> set[str]:
        """Name what is spare of a mailbox."""
        stored = self._records.range(org_id, Grant, prefix=f"{mailbox_id}!")
        return {row.value.provider for row in stored if row.value.is_spare}

    def sweep(self, org_id: str, mailbox_id: str, spares: Iterable[str]) -> None:
        """Destroy these spares, as far as they are there, and remember nothing of before."""
        for spare in spares:
            for name in (spare, spare.partition("~")[0]):
                self.forget(org_id, mailbox_id, name)
            if stored := self._records.find(org_id, Grant, f"{mailbox_id}!{spare}"):
                self._records.commit(org_id, *self._emptied(stored.value))

    def holds(self, org_id: str, mailbox_id: str) -> bool:
        """Return whether anything is kept of a mailbox."""
        return bool(self._records.range(org_id, Grant, prefix=f"{mailbox_id}!", limit=1))

    def destroy(
        self,
        org_id: str,
        mailbox_id: str,
        *,
        kept: Collection[str | None] = (),
        elsewhere: Callable[[Grant], bool] = lambda _: False,
        commit: Ending | None = None,
    ) -> tuple[str, ...]:
        """Destroy all secrets and grants of a mailbox; returns what there was, e.g. `imap password`.

        Those of the providers that are `kept` stay.

        What a person granted is also withdrawn at the provider, where it can be and the account is not
        connected `elsewhere`.

        Args:
            commit: ends each grant, with what may be committed in the same transaction.
        """
        destroyed: list[str] = []
        for stored in self._records.range(org_id, Grant, prefix=f"{mailbox_id}!"):
            grant = stored.value
            if grant.provider in kept:
                continue
            self.forget(org_id, mailbox_id, grant.provider)
            there = [*self._withdrawn(org_id, grant, elsewhere)]
            there += [f"{grant.provider} {kind}" for kind in _kinds(grant) if not grant.is_spare]
            writes = self._emptied(grant)
            if commit:
                commit(grant, there, writes)
            else:
                self._records.commit(org_id, *writes)
            destroyed += there
        return tuple(destroyed)

    def _emptied(self, grant: Grant) -> list[Write]:
        """Destroy a grant's secret. The record goes last, so that a call that broke off can be repeated."""
        if grant.secret_name:
            self._vault.destroy(grant.secret_name)
        return [Remove(grant), Remove(RefreshLease(grant.key, self._clock()))]

    def _withdrawn(self, org_id: str, grant: Grant, elsewhere: Callable[[Grant], bool]) -> Iterator[str]:
        """Withdraw a consent at its provider, and say what came of it."""
        if grant.type != "consent":
            return
        if elsewhere(grant):
            yield f"{grant.provider} consent (stays at the provider: the account is connected once more)"
            return
        try:
            with self._tokens.signing(org_id, grant.provider) as (oauth, registration):
                gone = oauth.revoke(registration, self._tokens.unsealed(org_id, grant, "refresh_token"))
            if gone:
                yield f"{grant.provider} consent (withdrawn at the provider)"
        except ZalionError:
            yield f"{grant.provider} consent (the provider could not be told: end it in the account there)"

    def _store(self, org_id: str, grant: Grant, secret: str | None) -> None:
        """The record first: whatever lies in the vault is then named by a record, and `destroy` finds it."""
        self.forget(org_id, grant.mailbox_id, grant.provider)
        old = self._records.find(org_id, Grant, grant.key)
        if old and old.value.secret_name and old.value.secret_name != grant.secret_name:
            self._vault.destroy(old.value.secret_name)
        self._records.commit(org_id, Save(grant))
        if grant.secret_name and secret:
            self._vault.set(grant.secret_name, secret)


def spare_of(provider: str) -> str:
    """Name a place for what somebody gave for settings that are not in force yet."""
    return f"{provider}~{secrets.token_hex(4)}"


def _secret_name(org_id: str, mailbox_id: str, provider: str, field: str) -> str:
    return f"m-{digest(org_id, mailbox_id, provider, field)}"


def _kinds(grant: Grant) -> Iterator[str]:
    if grant.type == "application":
        yield "use of the app's own sign-in"
    if grant.secret_name:
        yield "password" if grant.type == "password" else "client secret"
    yield from (field.replace("_", " ") for field in grant.sealed)
