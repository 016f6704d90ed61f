"""An app registration of the customer's own: checked before it is kept, watched afterwards; the app's own access."""

from datetime import timedelta

import pytest
import requests

from shared import authorizing, casework, connecting, integrating, returning, scheduling
from shared.contract import AppSecret, ConnectMailbox, PatchMailbox
from shared.errors import Conflict, InvalidRequest, NotAllowed, Raced, ZalionError
from shared.flows import Refused
from shared.model import AuditRecord, Integration, Mailbox
from shared.registrations import secret_name
from tests.doors import Acting, guarded
from tests.microsoft import Company, certificate, connect
from tests.scenes import Scene, caller, someone
from tests.walks.test_consents import approve


@pytest.fixture
def company(world, app):
    return Company(world, app)


def field_of(act):
    with pytest.raises(ZalionError) as caught:
        act()
    return caught.value.field, caught.value


def test_a_registration_with_a_secret_connects_mailboxes_without_any_consent_link(company, world):
    made, secret = company.own_app()
    integration = company.own(made, secret)
    assert (integration.state, integration.tenant, integration.proof) == (
        "approved",
        company.tenant.id,
        "secret",
    )
    with pytest.raises(Conflict):
        company.link()
    mailbox = connect(world, company.app, company.org_id, company.person("alice"))
    assert mailbox.state == "active"
    assert company.app.vault.get(secret_name(company.org_id, "microsoft")) == secret


def test_a_registration_with_a_certificate_signs_its_own_assertions(company, world):
    made, _ = company.own_app()
    private, public = certificate()
    made.secrets.clear()
    made.add_certificate(public)
    ids = {"tenantId": company.tenant.id, "clientId": made.client_id}
    bag = "Bag Attributes\n    localKeyID: 01 00 00 00\nKey Attributes: <No Attributes>\n"
    for pem in (private + public, bag + private + bag + public, bag + public + bag + private):
        assert company.put(AppSecret(certificate=pem), **ids).proof == "certificate"
    assert connect(world, company.app, company.org_id, company.person("alice")).state == "active"


@pytest.mark.parametrize("field", ["certificate", "client_secret"])
def test_a_private_key_never_leaves_us_however_it_was_pasted(company, world, field):
    """`openssl pkcs12 -nodes` writes text above the key, and a key without its frame is still one."""
    made, _ = company.own_app()
    private, _ = certificate()
    key = "".join(private.splitlines()[1:-1])
    ids = {"tenantId": company.tenant.id, "clientId": made.client_id}
    pasted = [f"Bag Attributes\n{private}", *([key] if field == "certificate" else [])]
    for text in pasted:
        assert field_of(lambda: company.put(AppSecret(**{field: text}), **ids))[0] == "secret.certificate"
    assert not any(key[:60] in seen.replace("\n", "") for seen in world.entra.secrets_seen)


def test_what_is_wrong_with_a_registration_is_named(company, world, other_tenant):
    made, secret = company.own_app()
    private, public = certificate()
    ids = {"tenantId": company.tenant.id, "clientId": made.client_id}
    unknown = "11111111-2222-3333-4444-555555555555"
    expired = made.add_secret(expires_at=1.0)
    cases = [
        ("settings.tenantId", {**ids, "tenantId": "contoso.example"}, AppSecret(client_secret=secret)),
        ("settings.tenantId", {"clientId": made.client_id}, AppSecret(client_secret=secret)),
        ("settings.tenantId", {**ids, "tenantId": unknown}, AppSecret(client_secret=secret)),
        ("settings.clientId", {**ids, "clientId": "x"}, AppSecret(client_secret=secret)),
        ("settings.clientId", {"tenantId": company.tenant.id}, AppSecret(client_secret=secret)),
        ("settings.clientId", {**ids, "clientId": unknown}, AppSecret(client_secret=secret)),
        ("settings.clientId", {**ids, "tenantId": other_tenant.id}, AppSecret(client_secret=secret)),
        ("secret", ids, None),
        ("secret", ids, AppSecret()),
        ("secret", ids, AppSecret(client_secret=secret, certificate=private + public)),
        ("secret", {}, AppSecret(client_secret=secret)),
        ("secret.clientSecret", ids, AppSecret(client_secret="the secret's ID")),
        ("secret.clientSecret", ids, AppSecret(client_secret=expired)),
        ("secret.certificate", ids, AppSecret(certificate=private + public)),
        ("secret.certificate", ids, AppSecret(certificate="-----BEGIN NONSENSE-----")),
        (
            "settings.secretExpiresAt",
            {**ids, "secretExpiresAt": "2020-01-01"},
            AppSecret(client_secret=secret),
        ),
        ("settings.secretExpiresAt", {**ids, "secretExpiresAt": "soon"}, AppSecret(client_secret=secret)),
        ("settings.controlMailbox", {**ids, "applicationAccess": True}, AppSecret(client_secret=secret)),
        ("settings.tenant", {**ids, "tenant": "x"}, AppSecret(client_secret=secret)),
    ]
    for field, settings, given in cases:
        named, error = field_of(lambda: company.put(given, **settings))
        assert named == field, (settings, error.detail)
        assert error.fix or field.startswith(("secret", "settings.")), field
        assert secret not in error.detail + str(error.fix)
    assert company.integration().state == "not_approved"
    assert company.integration().tenant == ""
    assert secret_name(company.org_id, "microsoft") not in world.vault.secrets


@pytest.fixture
def other_tenant(world):
    return world.entra.directory.add_tenant("elsewhere.example")


def test_the_redirect_uri_to_register_is_shown_and_a_missing_one_is_told(company, world):
    shown = integrating.show(company.app, company.admin, "microsoft")[2]
    assert shown == f"{company.app.public_url}/api/oauth/microsoft/callback"
    made, secret = company.own_app(redirect_uris=())
    company.own(made, secret)
    _, url = _connect(company, company.person("alice"))
    page = requests.get(url, verify=str(world.authority.pem), timeout=10)
    assert "AADSTS50011" in page.text  # Microsoft tells it on its own page: nothing comes back to us


def _connect(company, who, app=None, **changes):
    body = ConnectMailbox(address=who.address, receives_with="microsoft", sends_with="microsoft", **changes)
    return authorizing.connect(app or company.app, caller(company.org_id, who.address), body)


def test_a_registration_without_the_permissions_says_which(company, world):
    made, secret = company.own_app(delegated=frozenset({"Mail.Read"}))
    company.own(made, secret)
    who = company.person("alice")
    _, url = _connect(company, who)
    with pytest.raises(Refused) as caught:
        returning.signed_in(company.app, "microsoft", company.browse(url, who.address))
    assert caught.value.error.reason == "permissions_missing"
    assert "Mail.Send" in caught.value.error.fix


def test_an_approval_is_withdrawn_although_the_secret_no_longer_works(company):
    made, secret = company.own_app()
    company.own(made, secret)
    made.secrets.clear()
    ids = {"tenantId": company.tenant.id, "clientId": made.client_id}
    assert company.put(approved=False, **ids).state == "not_approved"
    assert field_of(lambda: company.put(**ids))[0] == "secret.clientSecret"


def test_a_withdrawn_approval_leaves_living_mailboxes_their_registration(company, world, clock):
    from shared import syncing

    made, secret = company.own_app()
    company.own(made, secret)
    mailbox = connect(world, company.app, company.org_id, company.person("alice"))
    shown = company.put(approved=False)
    assert (shown.state, shown.settings["clientId"]) == ("not_approved", made.client_id)
    clock.advance(hours=2)  # the access token has ended
    syncing.sync(company.app, company.org_id, mailbox.id)
    assert company.app.records.get(company.org_id, Mailbox, mailbox.id).value.state == "active"
    other, _ = company.own_app(name="Other")  # another one has to be proven even then
    ids = {"tenantId": company.tenant.id, "clientId": other.client_id}
    assert field_of(lambda: company.put(approved=False, **ids))[0] == "secret.clientSecret"


def test_another_directory_needs_a_disconnect_first(company, world):
    made, secret = company.own_app()
    company.own(made, secret)
    second = Company(world, company.app)
    another, its_secret = second.own_app()
    ids = {"tenantId": second.tenant.id, "clientId": another.client_id}
    field, error = field_of(lambda: company.put(AppSecret(client_secret=its_secret), **ids))
    assert (field, "DELETE" in error.fix) == ("settings.tenantId", True)
    assert company.integration().state == "approved"
    integrating.disconnect(company.app, company.admin, "microsoft")
    assert company.put(AppSecret(client_secret=its_secret), **ids).state == "approved"


def test_giving_up_the_own_registration_destroys_its_secret_and_waits_for_a_consent(company, world):
    made, secret = company.own_app()
    company.own(made, secret)
    assert company.put().state == "waiting_for_consent"
    assert secret_name(company.org_id, "microsoft") not in world.vault.secrets
    approve(company)
    assert company.integration().state == "approved"


def test_the_end_of_a_secret_is_warned_of_30_14_and_3_days_ahead(company, clock):
    made, secret = company.own_app()
    ends = clock().date() + timedelta(days=40)
    company.own(made, secret, secretExpiresAt=f"{ends:%Y-%m-%d}")
    due = [
        one
        for one in company.app.schedule.until(clock() + timedelta(days=60))
        if one.org_id == company.org_id
    ]
    assert sorted((ends - one.at.date()).days for one in due if one.kind == "expiry") == [3, 14, 30]
    assert company.integration().state == "approved"
    from shared import registering

    clock.advance(days=10, minutes=1)
    registering.warn(company.app, company.org_id, "microsoft")
    shown = company.integration()
    assert (shown.state, shown.problem.code) == ("needs_attention", "secret_ending")
    assert f"{ends:%Y-%m-%d}" in shown.problem.detail
    events = [row.value for row in company.app.records.range(company.org_id, AuditRecord)]
    [warned] = [event for event in events if event.event == "integration.secret_ending"]
    assert warned.outcome == "30 days"
    assert connect_still_works(company)
    fresh = made.add_secret()  # renewed: the warnings of the old one are silent
    company.own(made, fresh, secretExpiresAt=f"{ends + timedelta(days=300):%Y-%m-%d}")
    registering.warn(company.app, company.org_id, "microsoft")
    assert company.integration().state == "approved"


def test_a_warning_never_overwrites_a_secret_that_is_renewed_just_then(company, clock):
    from shared import registering

    made, secret = company.own_app()
    ends, later = (f"{clock().date() + timedelta(days=days):%Y-%m-%d}" for days in (20, 300))
    company.own(made, secret, secretExpiresAt=ends)

    def meanwhile(name, times):
        if name == "records.find" and times == 1:
            company.own(made, made.add_secret(), secretExpiresAt=later)

    with pytest.raises(Raced):  # the job comes back
        registering.warn(guarded(company.app, Acting(then=meanwhile)), company.org_id, "microsoft")
    assert company.integration().settings["secretExpiresAt"] == later


def connect_still_works(company):
    return _connect(company, company.person("zoe"))[1] is not None


def test_the_timer_leads_to_the_warning(company, clock):
    from shared import jobs, working
    from shared.app import SYNC
    from shared.jobs import Job
    from tests.scenes import encoded

    made, secret = company.own_app()
    company.own(made, secret, secretExpiresAt=f"{clock().date() + timedelta(days=20):%Y-%m-%d}")
    clock.advance(days=6, minutes=2)
    assert scheduling.tick(company.app) >= 1
    working.run(company.app, encoded(Job("expiry", company.org_id, "microsoft")))
    assert (
        company.app.records.get(company.org_id, Integration, "microsoft").value.problem.code
        == "secret_ending"
    )
    assert jobs.queue_of(Job("expiry", company.org_id, "microsoft")) == SYNC


def test_a_secret_that_ended_is_told_at_the_integration_and_no_mailbox_is_lost(company, world, clock):
    """A new secret mends it; nobody has to sign in again."""
    from shared import syncing

    made, secret = company.own_app()
    company.own(made, secret)
    mailbox = connect(world, company.app, company.org_id, company.person("alice"))
    clock.advance(hours=2)  # the access token has ended
    made.secrets[secret] = 1.0
    with pytest.raises(InvalidRequest):
        syncing.sync(company.app, company.org_id, mailbox.id)
    assert company.app.records.get(company.org_id, Mailbox, mailbox.id).value.state == "active"
    shown = company.integration()
    assert (shown.state, shown.problem.detail) == (
        "needs_attention",
        "The client secret of the app registration has expired.",
    )
    company.own(made, made.add_secret())
    assert company.integration().state == "approved"
    syncing.sync(company.app, company.org_id, mailbox.id)


def test_a_secret_that_is_missing_is_told_at_the_integration_and_at_the_mail_that_waits_for_it(
    company, world, clock
):
    made, secret = company.own_app()
    company.own(made, secret)
    alice = company.person("alice")
    mailbox = connect(world, company.app, company.org_id, alice)
    casework.put_case(company.app, caller(company.org_id, "", "platform"), "C-1", "Screws", [alice.address])
    scene = Scene(world, company.app, clock, company.org_id, alice, alice, mailbox)
    clock.advance(hours=2)  # the access token has ended
    company.app.vault.destroy(secret_name(company.org_id, "microsoft"))
    message = scene.sent()
    assert (message.state, message.error.code) == ("queued", "conflict")
    assert "client secret" in message.error.fix
    assert company.integration().state == "needs_attention"
    company.own(made, made.add_secret())
    clock.advance(minutes=10)
    scheduling.tick(company.app)
    scene.work()
    assert scene.email(message.id).state == "sent"


def test_a_fault_of_zalions_own_app_is_ours_and_no_customers(company, world, clock):
    from shared import syncing
    from shared.errors import Temporary

    approve(company)
    mailbox = connect(world, company.app, company.org_id, company.person("alice"))
    clock.advance(hours=2)
    world.entra.refuse_next(7000222, error="invalid_client")
    with pytest.raises(Temporary):
        syncing.sync(company.app, company.org_id, mailbox.id)
    assert company.integration().state == "approved"
    assert company.app.records.get(company.org_id, Mailbox, mailbox.id).value.state == "active"


def test_a_missing_secret_of_zalions_own_app_is_no_customers_and_passes_when_it_is_back(
    company, world, clock
):
    from shared import syncing
    from shared.errors import Temporary

    approve(company)
    mailbox = connect(world, company.app, company.org_id, company.person("alice"))
    clock.advance(hours=2)  # the access token has ended
    vault, name = company.app.vault, company.app.registrations.apps["microsoft"].secret_name
    secret = vault.get(name)
    vault.destroy(name)
    try:
        with pytest.raises(Temporary) as caught:
            syncing.sync(company.app, company.org_id, mailbox.id)
    finally:
        vault.set(name, secret)
    assert caught.value.reason == "our_app"
    assert (company.integration().state, company.integration().problem) == ("approved", None)
    syncing.sync(company.app, company.org_id, mailbox.id)


def test_a_deployment_without_an_app_of_zalions_marks_no_customer(company, world, clock):
    from shared import syncing

    approve(company)
    mailbox = connect(world, company.app, company.org_id, company.person("alice"))
    clock.advance(hours=2)
    apps = company.app.registrations.apps
    ours = apps.pop("microsoft")
    try:
        with pytest.raises(Conflict):
            syncing.sync(company.app, company.org_id, mailbox.id)
    finally:
        apps["microsoft"] = ours
    assert (company.integration().state, company.integration().problem) == ("approved", None)


# The app's own access


def test_the_app_itself_reads_and_sends_only_where_exchange_lets_it(company, world):
    made, secret = company.own_app()
    team, secret_box = company.person("team"), company.person("board")
    world.graph.assigned[made.client_id] = {team.address}
    company.own(made, secret, applicationAccess=True, controlMailbox=secret_box.address)
    settings = {"microsoft": {"access": "application"}}
    body = {"receives_with": "microsoft", "sends_with": "microsoft", "settings": settings}
    with pytest.raises(NotAllowed):
        connecting.connect(
            company.app, caller(company.org_id, team.address), ConnectMailbox(address=team.address, **body)
        )
    mailbox = connecting.connect(company.app, company.admin, ConnectMailbox(address=team.address, **body))
    assert mailbox.state == "active"
    with pytest.raises(ZalionError) as caught:
        connecting.connect(company.app, company.admin, ConnectMailbox(address=secret_box.address, **body))
    assert caught.value.reason == "no_access"
    with company.app.sending(company.org_id, mailbox) as sender:
        sender.check()
    patch = PatchMailbox(settings={"microsoft": {"access": "user"}})
    with pytest.raises(Conflict):  # there is no user's sign-in
        connecting.change(company.app, company.admin, mailbox.id, patch)


def test_the_apps_own_token_that_ends_early_is_replaced_once_and_remembered(company, world, clock):
    from shared import syncing
    from shared.errors import ConsentRequired, Temporary

    made, secret = company.own_app()
    team, board = company.person("team"), company.person("board")
    world.graph.assigned[made.client_id] = {team.address}
    company.own(made, secret, applicationAccess=True, controlMailbox=board.address)
    body = {"receives_with": "microsoft", "settings": {"microsoft": {"access": "application"}}}
    box = connecting.connect(company.app, company.admin, ConnectMailbox(address=team.address, **body))
    syncing.sync(company.app, company.org_id, box.id)
    world.entra.end_access(made)
    with pytest.raises(Temporary):
        syncing.sync(company.app, company.org_id, box.id)
    syncing.sync(company.app, company.org_id, box.id)
    fresh = company.app.grants.credential(company.org_id, box.id, "microsoft")
    clock.advance(minutes=2)  # so long this process remembers it, and MSAL longer
    assert company.app.grants.credential(company.org_id, box.id, "microsoft").token == fresh.token
    world.entra.end_access(made)
    with pytest.raises(ConsentRequired):
        syncing.sync(company.app, company.org_id, box.id)


def test_an_app_that_can_read_the_control_mailbox_is_refused(company, world):
    """A permission for the whole directory voids every limit in Exchange."""
    made, secret = company.own_app(application=frozenset({"Mail.Read", "Mail.Send"}))
    world.entra.directory.consent(company.tenant, made)
    board = company.person("board")
    field, error = field_of(
        lambda: company.own(made, secret, applicationAccess=True, controlMailbox=board.address)
    )
    assert (field, error.reason) == ("settings.controlMailbox", "access_too_wide")
    assert company.integration().state == "not_approved"


def test_an_app_that_can_send_as_everybody_is_refused_though_it_can_read_nobody(company, world):
    """Such a role stands in the token; what RBAC for Applications gives does not."""
    made, secret = company.own_app(application=frozenset({"Mail.Send"}))
    world.entra.directory.consent(company.tenant, made)
    board = company.person("board")
    field, error = field_of(
        lambda: company.own(made, secret, applicationAccess=True, controlMailbox=board.address)
    )
    assert (field, error.reason) == ("settings.controlMailbox", "access_too_wide")


def test_an_app_that_an_application_access_policy_limits_is_accepted(company, world):
    """The policy limits all its permissions alike: that it may not read there proves it for sending, too."""
    made, secret = company.own_app(application=frozenset({"Mail.Read", "Mail.Send"}))
    world.entra.directory.consent(company.tenant, made)
    board = company.person("board")
    world.graph.restricted[made.client_id] = set()
    company.own(made, secret, applicationAccess=True, controlMailbox=board.address)
    assert company.integration().state == "approved"


def test_an_app_that_may_only_send_sends_what_is_new_and_what_answers(company, world, clock):
    made, secret = company.own_app()
    team, board = company.person("team"), company.person("board")
    world.graph.assigned[made.client_id] = {team.address}
    world.graph.roles[made.client_id] = frozenset({"Mail.Send"})
    company.own(made, secret, applicationAccess=True, controlMailbox=board.address)
    settings = {"microsoft": {"access": "application"}}
    body = ConnectMailbox(address=team.address, owner=team.address, sends_with="microsoft", settings=settings)
    mailbox = connecting.connect(company.app, company.admin, body)
    assert mailbox.state == "active"
    casework.put_case(company.app, caller(company.org_id, "", "platform"), "C-1", "Screws", [team.address])
    supplier = someone(world, "supplier", "supplier.example")
    scene = Scene(world, company.app, clock, company.org_id, team, supplier, mailbox)
    first = scene.sent()
    assert first.state == "sent"
    assert scene.sent(in_reply_to=first.id).state == "sent"
    made.secrets.clear()  # and a sign-in that is refused is known before anything leaves
    company.app.registrations.vault.set(secret_name(company.org_id, "microsoft"), "gone")
    clock.advance(minutes=5)
    message = scene.sent()
    assert (message.state, message.error.code) == ("queued", "invalid_request")


def test_a_control_mailbox_that_does_not_exist_proves_nothing(company):
    made, secret = company.own_app()
    wrong = f"nobody@{company.domain}"
    field, error = field_of(lambda: company.own(made, secret, applicationAccess=True, controlMailbox=wrong))
    assert field == "settings.controlMailbox"
    assert isinstance(error, InvalidRequest)


def test_the_consent_to_zalions_app_proves_its_limits_too(company, world):
    board = company.person("board")
    approve(company, applicationAccess=True, controlMailbox=board.address)
    assert company.integration().state == "approved"
    second = Company(world, company.app)
    board = second.person("board")
    world.entra.directory.consent(second.tenant, world.microsoft_app)  # somebody granted everything before
    second.put(applicationAccess=True, controlMailbox=board.address)
    proof = returning.consented(second.app, "microsoft", second.browse(second.link())).url
    with pytest.raises(Refused) as caught:
        returning.signed_in(second.app, "microsoft", second.browse(proof))
    assert caught.value.error.reason == "access_too_wide"
    assert second.integration().state == "waiting_for_consent"
