"""What signs in to a mailbox now: remembered for a minute, refreshed once it ended, doubted when refused."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.errors import Raced
from shared.model import Grant
from shared.providers.base import Bearer, Credential, Password
from shared.storage.base import Move, Records, Stored
from shared.tokens import TokenSets

REMEMBERED = timedelta(minutes=1)
"""How long this process signs in with what it read: shorter than `tokens.MARGIN`, so it still lasts.

Every job of a burst would otherwise read record and vault again
(https://learn.microsoft.com/azure/key-vault/general/overview-throttling advises to cache).
"""
DOUBTED = timedelta(hours=2)
"""A token that is refused so soon after another one was replaced will not be helped by a third."""

RENEWED = timedelta(minutes=5)
"""The same for an app's own: it signs in anew after a doubt, so what is refused within this was a new one."""


COMPARED = timedelta(seconds=1)
"""So old may be what a session knows of the list that names its mailbox."""


@dataclass(slots=True, repr=False)
class _Remembered:
    """A sign-in in memory, and the version of the record it is of. No repr: it must not reach a log.

    `listed` is the address that the organisation's list must name as long as it is used.
    """

    credential: Credential
    etag: str
    until: datetime
    listed: str = ""


@dataclass(slots=True, repr=False)
class SignIn:
    """What one session signs in with; it knows of which version, so that no other is doubted for it."""

    sign_ins: "SignIns"
    key: tuple[str, str, str]
    etag: str | None = None
    compared_at: datetime | None = None

    def credential(self) -> Credential:
        """See `SignIns.credential`."""
        self.etag = None  # where there is none to be had, none was refused
        if self.compared_at is None or self.sign_ins.now() - self.compared_at > COMPARED:
            self.sign_ins.compare(*self.key)
            self.compared_at = self.sign_ins.now()
        credential, self.etag = self.sign_ins.current(*self.key)
        return credential

    def refused(self) -> bool:
        """Take it out of use; returns whether another may do better. See `SignIns.doubt`."""
        return self.etag is not None and self.sign_ins.doubt(*self.key, self.etag)


class SignIns:
    """Hands out what signs in; thread-safe. Every method raises Temporary when a store is down."""

    def __init__(self, records: Records, tokens: TokenSets, clock: Callable[[], datetime]) -> None:
        self._records, self._tokens, self._clock = records, tokens, clock
        self._remembered: dict[tuple[str, str, str], _Remembered] = {}

    def credential(self, org_id: str, mailbox_id: str, provider: str) -> Credential:
        """Return what signs in now, refreshing an access token that has ended.

        Raises ConsentRequired when there is no grant or it no longer works, Temporary or RateLimited
        when its issuer cannot answer.
        """
        self.compare(org_id, mailbox_id, provider)
        return self.current(org_id, mailbox_id, provider)[0]

    def now(self) -> datetime:
        """Return the time that all of this goes by."""
        return self._clock()

    def compare(self, org_id: str, mailbox_id: str, provider: str) -> None:
        """Drop what is remembered of a mailbox that has left the organisation's list since."""
        known = self._remembered.get((org_id, mailbox_id, provider))
        live = known and known.listed and known.until > self._clock()
        if known and live and not self._tokens.lists(org_id, provider, known.listed):
            self.forget(org_id, mailbox_id, provider)

    def current(self, org_id: str, mailbox_id: str, provider: str) -> tuple[Credential, str]:
        """Return the same, and the version of the grant that it is of. Raises the same."""
        key = (org_id, mailbox_id, provider)
        known = self._remembered.get(key)
        if known is None or known.until <= self._clock():
            self._remembered.pop(key, None)  # what it said is no longer what anybody signs in with
            known = self._signed_in(*key)
            self._remembered[key] = known
        return known.credential, known.etag

    def signing_in(self, org_id: str, mailbox_id: str, provider: str) -> "SignIn":
        """Return one session's way to what signs in; nothing is read before it is asked."""
        return SignIn(self, (org_id, mailbox_id, provider))

    def forget(self, org_id: str, mailbox_id: str, provider: str) -> None:
        """Drop what is remembered of a sign-in."""
        self._remembered.pop((org_id, mailbox_id, provider), None)

    def doubt(self, org_id: str, mailbox_id: str, provider: str, refused: str) -> bool:
        """Take a sign-in out of use that was refused with this version of the grant; whether to try again.

        Another may do better where the grant has another version by now. And a token can end before its
        time: the issuer, asked once for a new one, knows why.
        """
        key = (org_id, mailbox_id, provider)
        known = self._remembered.get(key)
        if known and known.etag == refused:
            self._remembered.pop(key, None)
        stored = self._records.find(org_id, Grant, f"{mailbox_id}!{provider}")
        if stored is None or stored.etag != refused:
            return stored is not None
        grant, now = stored.value, self._clock()
        of_app = grant.type == "application"
        again = grant.doubted_at is not None and now < grant.doubted_at + (RENEWED if of_app else DOUBTED)
        if again or not (of_app or "refresh_token" in grant.sealed):
            return False
        sealed = {name: text for name, text in grant.sealed.items() if name != "access_token"}
        with suppress(Raced):  # it was replaced meanwhile
            self._records.commit(org_id, Move(stored, replace(grant, sealed=sealed, doubted_at=now)))
        return True

    def _signed_in(self, org_id: str, mailbox_id: str, provider: str) -> _Remembered:
        """Find out what signs in now."""
        stored, until = self._tokens.read(org_id, f"{mailbox_id}!{provider}"), self._clock() + REMEMBERED
        listed = stored.value.username if stored.value.type == "application" else ""
        return _Remembered(*self._credential(org_id, provider, stored), until, listed)

    def _credential(self, org_id: str, provider: str, stored: Stored[Grant]) -> tuple[Credential, str]:
        """Return what signs in, and the version of the record that says so."""
        if stored.value.type == "password":
            return Password(stored.value.username, self._tokens.secret(stored.value)), stored.etag
        if stored.value.type == "application":
            with self._tokens.signing(org_id, provider) as (oauth, registration):
                grant = stored.value
                tokens = oauth.application(
                    registration, grant.username, grant.scopes, doubted=grant.doubted_at
                )
            return Bearer(grant.username, tokens.access_token), stored.etag
        return self._tokens.bearer(org_id, stored)
