"""What a user's sign-in opens: the mailbox it was asked for, and no other one, nor another organisation's."""

from collections.abc import Mapping
from contextlib import suppress

from shared import adopting, choosing, connecting, disconnecting, leasing, presence
from shared.app import App
from shared.authorizing import oauth_of
from shared.errors import ConsentRequired, Temporary
from shared.flows import explained
from shared.model import Flow, Grant, Integration, Mailbox, account_of
from shared.providers.base import Bearer, Tokens


def attachable(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Mailbox:
    """Return the mailbox that was signed in to: is it this one, with the permissions it needs?

    Raises what `flows.explained` makes of it where it is not.
    """
    mailbox = app.records.get(org_id, Mailbox, flow.mailbox_id).value
    if mailbox.state == "disconnected":
        raise explained("disconnected")
    if mailbox.owner != flow.owner:  # an open link must not let somebody else read what is opened with it
        raise explained("start_again")
    integration = choosing.approved(app, org_id, flow.provider, mailbox.address)
    settings = mailbox.settings[flow.provider]
    insist(app, flow.provider, settings, tokens)
    _check_directory(app, org_id, integration, tokens, mailbox.address)
    registration = app.registrations.named(org_id, integration)
    opens = oauth_of(app, flow.provider).opens
    if not (settings.get("shared") or opens(registration, tokens, mailbox.address)):
        raise explained("wrong_account", address=mailbox.address)
    return mailbox


def attach(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Mailbox:
    """Keep the grant of the mailbox that was signed in to, try it, and follow the mailbox; returns it.

    Raises as `attachable`, and what the sign-in is refused with.
    """
    mailbox = attachable(app, org_id, flow, tokens)
    credential = Bearer(tokens.address, tokens.access_token)
    for side, power in ((mailbox.receives_with, "receiver"), (mailbox.sends_with, "sender")):
        if side == flow.provider:
            adopting.try_out(app, org_id, mailbox, side, power, lambda: credential)
    scopes = oauth_of(app, flow.provider).scopes(mailbox.settings[flow.provider])
    _forget_another(app, org_id, flow.provider, mailbox, tokens)
    app.grants.store_consent(org_id, mailbox.id, flow.provider, tokens, scopes)
    if app.provider(flow.provider).one_account:
        _note(app, org_id, flow.provider, mailbox, tokens)
    connecting.activate(app, org_id, mailbox, flow.actor)
    return mailbox


def _forget_another(app: App, org_id: str, provider: str, mailbox: Mailbox, tokens: Tokens) -> None:
    """Where another person signs in under the same address, forget the account that it was.

    Its cursor would pass over mail of the new one. It goes first, so that what breaks off can be repeated. A
    shared mailbox stays what it is, whoever opens it.
    """
    stored = app.records.find(org_id, Grant, f"{mailbox.id}!{provider}")
    known = stored.value.subject if stored else ""
    shared = mailbox.settings[provider].get("shared")
    if shared or not (known and tokens.subject) or known == tokens.subject:
        return
    if provider == mailbox.receives_with:
        leasing.interrupting(app, org_id, mailbox.id, {"cursor": None})
    disconnecting.end_consent(app, org_id, mailbox, provider)


def _note(app: App, org_id: str, provider: str, mailbox: Mailbox, tokens: Tokens) -> None:
    """Note where the account is connected; then make sure that what it granted still is.

    The last connection elsewhere may have ended between the sign-in and the note, and its end withdraws all
    that the account granted us (`OAuth.revoke`). What ends after the note sees it (`disconnecting`).
    """
    accounts = [account_of(provider, name) for name in (mailbox.address, tokens.subject) if name]
    for account in accounts:
        presence.note(app.records, account, (org_id, mailbox.id))
    registration = app.registrations.of(org_id, provider)
    scopes = oauth_of(app, provider).scopes(mailbox.settings[provider])
    try:
        with suppress(Temporary):  # a look will tell
            oauth_of(app, provider).renew(registration, tokens.refresh_token or "", scopes)
    except ConsentRequired:
        for account in accounts:
            presence.forget(app.records, account, (org_id, mailbox.id))
        others = {mailbox.receives_with, mailbox.sends_with} - {provider}
        app.grants.destroy(org_id, mailbox.id, kept=others, elsewhere=lambda _: True)
        raise


def _check_directory(app: App, org_id: str, integration: Integration, tokens: Tokens, address: str) -> None:
    """Raise for an account of another directory: than the proven one, or of another organisation's."""
    if oauth_of(app, integration.provider).by_admin:
        if tokens.tenant.lower() != integration.tenant:
            raise explained("wrong_account", address=address)
        return
    # Google names a customer's first domain; another one of it may be the one that was taken
    for name in filter(None, {tokens.tenant, tokens.address.rpartition("@")[2]}):
        if app.registrations.owner(integration.provider, name) not in {None, org_id}:
            raise explained("tenant_taken")


def insist(app: App, provider: str, settings: Mapping[str, object], tokens: Tokens) -> None:
    """Raise where a permission was not granted: with less, mail would be lost without a word."""
    wanted = oauth_of(app, provider).scopes(settings)
    if not {scope.lower() for scope in wanted} <= {scope.lower() for scope in tokens.scopes}:
        raise explained("partial_consent")
