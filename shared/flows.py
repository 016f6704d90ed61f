"""Ways through somebody's browser: begun with a secret state, which comes back to us once.

A redirect proves nothing by itself; its `state` does: 256 random bits of which only the hash is kept,
bound to organisation, purpose and time. A state that was used stays known as used for a while, so that
a page that is loaded again can tell how things stand.
"""

import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from shared import explaining, sealing
from shared.app import App
from shared.errors import ConsentRequired, Raced, ZalionError
from shared.model import Flow, digest
from shared.storage.base import Add, Due, Move, Remove, Stored, every

INVITATION = timedelta(days=7)
"""How long an administrator has to follow a consent link."""

SIGN_IN = timedelta(minutes=10)
"""How long a person may take to sign in: as long as Entra's code lives."""

REMEMBERED = timedelta(days=1)
"""How long after its end a state is known as used or expired."""


class Refused(Exception):
    """A redirect that came to nothing: why, and where the browser goes back to."""

    def __init__(self, error: ZalionError, return_url: str | None = None) -> None:
        super().__init__(error.detail)
        self.error = error
        self.return_url = return_url


class Used(Exception):
    """A state that came back before, as when a page is loaded again."""

    def __init__(self, org_id: str, flow: Flow) -> None:
        super().__init__("This link was used before.")
        self.org_id = org_id
        self.flow = flow


def begun(
    app: App,
    org_id: str,
    provider: str,
    purpose: Literal["consent", "proof", "sign_in", "answer"],
    actor: str,
    return_url: str | None,
) -> tuple[str, Flow]:
    """Make a state and the record that it leads to, not yet stored; forget what is long over."""
    _sweep(app, org_id)
    state = f"{org_id}.{secrets.token_urlsafe(32)}"
    flow = Flow(
        id=digest(state),
        provider=provider,
        purpose=purpose,
        expires_at=app.clock() + (INVITATION if purpose == "consent" else SIGN_IN),
        actor=actor,
        return_url=return_url,
    )
    return state, flow


def keep(app: App, org_id: str, flow: Flow, known: str) -> None:
    """Store a flow with what is to be known again when it comes back, sealed for this flow alone.

    It is forgotten when the flow's time is over, whoever comes back or not.
    """
    kid, key = app.keys.key(org_id)
    sealed = sealing.seal(key, known, kid=kid, aad=(org_id, "flow", flow.id))
    app.schedule.put(Due(flow.expires_at, "flow", org_id, flow.id))
    app.records.commit(org_id, Add(replace(flow, sealed=sealed)))


def lapse(app: App, org_id: str, id_: str) -> None:
    """Forget what a flow keeps, its time being over. Safe to repeat."""
    stored = app.records.find(org_id, Flow, id_)
    if stored and stored.value.sealed:
        with suppress(Raced):  # it comes back at this moment, which forgets it too
            app.records.commit(org_id, Move(stored, replace(stored.value, spent=True, sealed="")))


def end(app: App, org_id: str, mailbox_id: str) -> None:
    """End what people have begun for a mailbox that is being disconnected. Safe to repeat."""
    for stored in every(app.records, org_id, Flow):
        if stored.value.mailbox_id == mailbox_id:
            lapse(app, org_id, stored.value.id)


def known(app: App, org_id: str, flow: Flow) -> str:
    """Return what `keep` sealed."""
    key = app.keys.by_kid(org_id, sealing.kid_of(flow.sealed))
    return sealing.unseal(key, flow.sealed, aad=(org_id, "flow", flow.id))


def take(app: App, provider: str, state: str, *purposes: str) -> tuple[str, Flow]:
    """Use a state up. Raises Used, and Refused for one that is unknown, expired or another purpose's."""
    org_id = state.rpartition(".")[0]
    stored = _find(app, org_id, digest(state))
    if stored is None or stored.value.provider != provider or stored.value.purpose not in purposes:
        raise Refused(explained("start_again"))
    flow = stored.value
    if flow.spent:
        raise Used(org_id, flow)
    try:
        app.records.commit(org_id, Move(stored, replace(flow, spent=True, sealed="")))
    except Raced as error:
        raise Used(org_id, flow) from error
    if flow.expires_at < app.clock():
        raise Refused(explained("expired"), flow.return_url)
    return org_id, flow


def explained(key: str, **facts: str) -> ConsentRequired:
    """Make the error of an explanation, which pages show in the user's language."""
    told = explaining.explain(key, **facts)
    error = ConsentRequired(told.detail, fix=told.fix)
    error.reason, error.facts = key, facts
    return error


def _find(app: App, org_id: str, id_: str) -> Stored[Flow] | None:
    try:
        return app.records.find(org_id, Flow, id_)
    except ValueError:
        return None  # what a stranger typed is no organisation


def _sweep(app: App, org_id: str) -> None:
    over = app.clock() - REMEMBERED
    old = [stored.value for stored in app.records.range(org_id, Flow) if stored.value.expires_at < over]
    if old:
        app.records.commit(org_id, *(Remove(flow) for flow in old[:100]))
