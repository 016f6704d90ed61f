"""What comes back from a browser: redirects that we do not trust, and the answers of those who signed in.

A directory counts as the organisation's when somebody has signed in to it and the consent is in the
tokens (an `adminconsent` redirect can be typed by anybody:
https://learn.microsoft.com/entra/identity-platform/v2-admin-consent). What a state proves: `flows`.
A link can be sent to anybody: who signs in for what somebody else asked for is asked first (`Outcome.ask`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from shared import audit, flows, jobs, registering
from shared.app import App
from shared.attaching import attach, attachable, insist
from shared.authorizing import oauth_of, prove
from shared.callers import spelled
from shared.errors import Conflict, Temporary, ZalionError
from shared.flows import Refused, Used, explained
from shared.jobs import Job
from shared.model import Flow, Integration, Mailbox
from shared.providers.base import Tokens
from shared.storage.base import Move, Stored

PAUSE = 15
"""Seconds after which a page that waits for a consent tries again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the browser is told. `key` names the explanation; `url` is where it goes on by itself.

    `actor` is who began it in Zalion, `owner` whose the mailbox will be. With `ask`, which goes with the
    answer, the browser's user is asked whether to go on with that. `url` with `after` (seconds) is to be
    tried again; without it the browser is sent there at once.
    """

    key: str
    address: str = ""
    actor: str = ""
    owner: str = ""
    return_url: str | None = None
    url: str | None = None
    after: int | None = None
    ask: str = ""


def consented(app: App, provider: str, query: Mapping[str, str]) -> Outcome:
    """Take the redirect after a consent; the same browser then proves whose directory it is.

    Raises Refused.
    """
    try:
        org_id, flow = flows.take(app, provider, query.get("state", ""), "consent")
    except Used as used:
        return _standing(app, used.org_id, used.flow)
    try:
        tenant = oauth_of(app, provider).consented(query)
        return Outcome("waiting", url=prove(app, org_id, replace(flow, tenant=tenant)))
    except ZalionError as error:
        raise _refused(app, org_id, flow, error) from error


def signed_in(app: App, provider: str, query: Mapping[str, str]) -> Outcome:
    """Take the redirect after a sign-in: of a mailbox's user, or of an administrator as proof.

    Raises Refused.
    """
    try:
        org_id, flow = flows.take(app, provider, query.get("state", ""), "proof", "sign_in")
    except Used as used:
        return _standing(app, used.org_id, used.flow)
    try:
        tokens = _redeem(app, org_id, flow, query)
        if _asked_for_by_another(app, org_id, flow, tokens):
            return _ask(app, org_id, flow, tokens)
        return _go_on(app, org_id, flow, tokens)
    except ZalionError as error:
        return _came_to_nothing(app, org_id, flow, error)


def answered(app: App, provider: str, form: Mapping[str, str]) -> Outcome:
    """Take the answer of somebody who signed in for what another one asked for: `yes`, or it is a no.

    Raises Refused.
    """
    try:
        org_id, asked = flows.take(app, provider, form.get("state", ""), "answer")
    except Used as used:
        return _standing(app, used.org_id, replace(used.flow, purpose=used.flow.answers or "proof"))
    flow = replace(asked, purpose=asked.answers or "proof")
    try:
        if form.get("answer") != "yes":
            raise explained("not_wanted", actor=flow.actor)
        tokens = msgspec.json.decode(flows.known(app, org_id, asked), type=Tokens)
        return _go_on(app, org_id, flow, tokens)
    except ZalionError as error:
        return _came_to_nothing(app, org_id, flow, error)


def _standing(app: App, org_id: str, flow: Flow) -> Outcome:
    """Say how things stand where a page is loaded again; nothing is changed by it. Raises Refused."""
    if flow.purpose == "sign_in":
        mailbox = app.records.find(org_id, Mailbox, flow.mailbox_id)
        if mailbox and mailbox.value.state in {"active", "paused"}:
            return _connected(flow, mailbox.value)
        if mailbox and mailbox.value.state == "disconnected":
            raise Refused(explained("disconnected"), flow.return_url)
    else:
        stored = app.records.find(org_id, Integration, flow.provider)
        if stored and stored.value.state == "approved" and flow.tenant in {"", stored.value.tenant}:
            return Outcome("approved", return_url=flow.return_url)
        if stored and stored.value.state == "waiting_for_consent" and _is_waiting(app, flow):
            return _wait(app, org_id, flow)
    if flow.answers:  # sent twice: the first one may still be at work
        return Outcome("answered", return_url=flow.return_url)
    raise Refused(explained("already_used"), flow.return_url)


def _redeem(app: App, org_id: str, flow: Flow, query: Mapping[str, str]) -> Tokens:
    integration = app.records.get(org_id, Integration, flow.provider).value
    if flow.purpose == "proof":
        integration = replace(integration, tenant=flow.tenant)
    registration = app.registrations.named(org_id, integration)
    return oauth_of(app, flow.provider).redeem(registration, flows.known(app, org_id, flow), query)


def _asked_for_by_another(app: App, org_id: str, flow: Flow, tokens: Tokens) -> bool:
    """Whether who signed in is known to be another one than who began it; raises what _go_on would."""
    themselves = spelled(flow.actor) in {spelled(name) for name in (tokens.address, *tokens.addresses)}
    if flow.purpose == "proof":
        _provable(app, org_id, flow, tokens)
        return not themselves
    mailbox = attachable(app, org_id, flow, tokens)
    shared = mailbox.settings[flow.provider].get("shared")
    return not themselves and (bool(shared) or flow.actor != mailbox.address)


def _ask(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Outcome:
    """Keep what was signed in for, sealed, until its user has said that it is wanted."""
    state, asked = flows.begun(app, org_id, flow.provider, "answer", flow.actor, return_url=flow.return_url)
    until = max(asked.expires_at, flow.expires_at)
    purpose: Literal["proof", "sign_in"] = "proof" if flow.purpose == "proof" else "sign_in"
    asked = replace(asked, answers=purpose, owner=flow.owner, tenant=flow.tenant, expires_at=until)
    asked = replace(asked, mailbox_id=flow.mailbox_id)
    flows.keep(app, org_id, asked, msgspec.json.encode(tokens).decode())
    if purpose == "proof":
        return Outcome("ask_approval", tokens.address, flow.actor, ask=state)
    mailbox = app.records.get(org_id, Mailbox, flow.mailbox_id).value
    key = "ask_mailbox" if mailbox.owner == mailbox.address else "ask_mailbox_for"
    return Outcome(key, mailbox.address, flow.actor, mailbox.owner, ask=state)


def _go_on(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Outcome:
    if flow.purpose == "proof":
        return _approve(app, org_id, flow, tokens)
    return _connected(flow, attach(app, org_id, flow, tokens))


def _came_to_nothing(app: App, org_id: str, flow: Flow, error: ZalionError) -> Outcome:
    """Say how things stand, or wait where the provider may only be late. Raises Refused."""
    if error.reason == "already_used":  # AADSTS54005: somebody redeemed this code before
        return _standing(app, org_id, flow)
    if flow.purpose == "proof" and _may_still_come(app, flow, error):
        return _wait(app, org_id, flow)
    raise _refused(app, org_id, flow, error) from error


def _provable(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Stored[Integration]:
    """Return the integration that a directory may be proven for: it signed in, with what was consented to."""
    if tokens.tenant.lower() != flow.tenant:
        raise explained("tenant_mismatch")
    stored = app.records.get(org_id, Integration, flow.provider)
    integration = stored.value
    if integration.state not in {"waiting_for_consent", "approved"} or integration.settings.get("clientId"):
        raise explained("not_approved")
    if integration.tenant not in {"", flow.tenant}:
        raise explained("other_directory")
    if app.registrations.owner(flow.provider, flow.tenant) not in {None, org_id}:
        raise explained("tenant_taken")
    insist(app, flow.provider, integration.settings, tokens)
    return stored


def _approve(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Outcome:
    """Bind the proven directory and approve the integration."""
    stored = _provable(app, org_id, flow, tokens)
    integration = stored.value
    named = replace(integration, tenant=flow.tenant, consented=tuple(sorted(tokens.scopes)), problem=None)
    try:
        stored = registering.take_tenant(app, org_id, stored, named)
    except Conflict as error:
        raise explained("tenant_taken") from error
    if integration.settings.get("applicationAccess"):
        registering.check_reach(app, org_id, named)
    event = audit.entry(
        app, "consent.given", actor=tokens.address, detail=f"{flow.provider}, asked for by {flow.actor}"
    )
    approved = replace(named, state="approved", updated_at=app.clock(), updated_by=flow.actor)
    app.records.commit(org_id, Move(stored, approved), event)
    jobs.put(app, Job("mended", org_id, flow.provider))
    return Outcome("approved", return_url=flow.return_url)


def _connected(flow: Flow, mailbox: Mailbox) -> Outcome:
    """Say whose wish it was where it was not the mailbox's own user: a link can be sent to anybody."""
    key = "connected" if flow.actor == mailbox.address else "connected_for"
    return Outcome(key, mailbox.address, flow.actor, return_url=flow.return_url)


def _wait(app: App, org_id: str, flow: Flow) -> Outcome:
    again = prove(app, org_id, flow)
    return Outcome("waiting", return_url=flow.return_url, url=again, after=PAUSE)


def _is_waiting(app: App, flow: Flow) -> bool:
    return flow.purpose == "proof" and flow.expires_at - flows.SIGN_IN > app.clock()


def _may_still_come(app: App, flow: Flow, error: ZalionError) -> bool:
    """Whether a fresh consent may only not have reached every server of the provider yet."""
    late = error.reason in {"approval_needed", "partial_consent", "microsoft_busy", "app_not_found"}
    return (late or isinstance(error, Temporary)) and _is_waiting(app, flow)


def _refused(app: App, org_id: str, flow: Flow, error: ZalionError) -> Refused:
    event = audit.entry(
        app,
        "consent.refused" if flow.purpose != "sign_in" else "sign_in.refused",
        actor=flow.actor,
        outcome=error.reason or error.code,
        mailbox_id=flow.mailbox_id or None,
        detail=flow.provider,
    )
    app.records.commit(org_id, event)
    if error.reason == "wrong_account" and not error.facts.get("address"):  # the provider said it, of nobody
        error = _wrong_account(app, org_id, flow)
    return Refused(error, flow.return_url)


def _wrong_account(app: App, org_id: str, flow: Flow) -> ZalionError:
    if flow.purpose != "sign_in":
        return explained("tenant_mismatch")
    return explained("wrong_account", address=app.records.get(org_id, Mailbox, flow.mailbox_id).value.address)
