"""Credentials: stored, handed out, refreshed and destroyed, against a strict token issuer."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from sandbox.web import Reply, Request, WebServer
from shared.errors import ConsentRequired, InvalidRequest, RateLimited, Temporary, ZalionError
from shared.grants import Grants, spare_of
from shared.keys import Keys
from shared.model import DataKey, Grant, digest
from shared.providers.base import Bearer, Password
from shared.storage.base import Add
from shared.tokens import RefreshLease
from tests.storage.parts import Clock, Parts

ANN = "ann@alpha.example"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with Parts(tmp_path_factory.mktemp("grants")) as running:
        yield running


@pytest.fixture
def org() -> str:
    return f"org-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(parts: Parts, clock: Clock) -> Callable[..., Grants]:
    """A worker of its own: nothing remembered."""

    def worker(allowed: frozenset[str] = frozenset({"localhost"})) -> Grants:
        keys = Keys(parts.records, parts.vault, clock)
        return Grants(parts.records, parts.vault, keys, clock, allowed_hosts=allowed)

    return worker


@pytest.fixture
def grants(make: Callable[..., Grants]) -> Grants:
    return make()


def refreshable(parts: Parts, grants: Grants, org: str, **changed: Any) -> str:
    """Store a fresh consent of Ann's at the issuer; returns its refresh token."""
    token = parts.issuer.grant(ANN)
    given = {
        "refresh_token": token,
        "token_url": f"{parts.issuer.url}/oauth/token",
        "client_id": parts.issuer.client_id,
        "client_secret": parts.issuer.client_secret,
    }
    grants.store_token(org, "m1", "imap", ANN, **(given | changed))
    return token


def token_of(credential: object) -> str:
    assert isinstance(credential, Bearer)
    assert credential.username == ANN
    return credential.token


def stored(parts: Parts, org: str) -> Grant:
    return parts.records.get(org, Grant, "m1!imap").value


# Passwords


def test_a_password_is_one_vault_secret_and_nothing_else(parts: Parts, grants: Grants, org: str) -> None:
    grants.store_password(org, "m1", "imap", ANN, "hunter2")
    assert grants.credential(org, "m1", "imap") == Password(ANN, "hunter2")
    name = f"m-{digest(org, 'm1', 'imap', 'password')}"
    assert [version.value for version in parts.key_vault.secrets[name]] == ["hunter2"]
    assert "hunter2" not in repr(stored(parts, org))


def test_a_new_password_replaces_the_old(grants: Grants, org: str) -> None:
    grants.store_password(org, "m1", "imap", ANN, "old")
    grants.store_password(org, "m1", "imap", ANN, "new")
    assert grants.credential(org, "m1", "imap") == Password(ANN, "new")


@pytest.mark.parametrize(
    ("org_2", "mailbox", "provider"), [("", "m1", "smtp"), ("", "m2", "imap"), ("x", "m1", "imap")]
)
def test_without_a_grant_consent_is_required(
    grants: Grants, org: str, org_2: str, mailbox: str, provider: str
) -> None:
    grants.store_password(org, "m1", "imap", ANN, "hunter2")
    with pytest.raises(ConsentRequired) as caught:
        grants.credential(org + org_2, mailbox, provider)
    assert caught.value.fix


def test_a_password_that_vanished_from_the_vault_needs_consent(
    parts: Parts, grants: Grants, org: str
) -> None:
    grants.store_password(org, "m1", "imap", ANN, "hunter2")
    parts.vault.destroy(f"m-{digest(org, 'm1', 'imap', 'password')}")
    with pytest.raises(ConsentRequired, match="gone"):
        grants.credential(org, "m1", "imap")


# Tokens


def test_a_token_lies_sealed_in_the_record_and_nowhere_in_plain(
    parts: Parts, grants: Grants, org: str
) -> None:
    grants.store_token(org, "m1", "imap", ANN, access_token="at-plain")
    grant = stored(parts, org)
    assert grant.sealed["access_token"].startswith("v1.")
    assert "at-plain" not in repr(grant)
    assert token_of(grants.credential(org, "m1", "imap")) == "at-plain"


def test_a_token_moved_to_another_mailbox_does_not_open(parts: Parts, grants: Grants, org: str) -> None:
    grants.store_token(org, "m1", "imap", ANN, access_token="at-plain")
    theirs = Grant("m2", "imap", "token", "eve@alpha.example", sealed=stored(parts, org).sealed)
    parts.records.commit(org, Add(theirs))
    with pytest.raises(ValueError, match="does not belong here"):
        grants.credential(org, "m2", "imap")


def test_an_access_token_works_until_just_before_its_end(grants: Grants, org: str, clock: Clock) -> None:
    grants.store_token(org, "m1", "imap", ANN, access_token="at", expires_at=clock.now + timedelta(hours=1))
    clock.now += timedelta(minutes=57)
    assert token_of(grants.credential(org, "m1", "imap")) == "at"
    clock.now += timedelta(minutes=2)
    with pytest.raises(ConsentRequired, match="cannot be renewed"):
        grants.credential(org, "m1", "imap")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "secret.accessToken"),
        ({"refresh_token": "r", "token_url": "https://i.example/t"}, "secret.clientId"),
        ({"refresh_token": "r", "client_id": "c"}, "secret.tokenUrl"),
        ({"refresh_token": "r", "client_id": "c", "token_url": "http://i.example/t"}, "secret.tokenUrl"),
        ({"refresh_token": "r", "client_id": "c", "token_url": "https://u:p@i.example/t"}, "secret.tokenUrl"),
        ({"refresh_token": "r", "client_id": "c", "token_url": "https://[x"}, "secret.tokenUrl"),
    ],
)
def test_a_token_set_that_could_never_work_is_the_caller_s_mistake(
    grants: Grants, org: str, given: dict[str, str], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grants.store_token(org, "m1", "imap", ANN, **given)  # type: ignore[arg-type]
    assert caught.value.field == field


# Refreshing


def test_an_ended_token_is_refreshed_and_the_rotated_one_kept(
    parts: Parts, make: Callable[..., Grants], org: str, clock: Clock
) -> None:
    grants = make()
    first = refreshable(parts, grants, org)
    one = token_of(grants.credential(org, "m1", "imap"))
    assert parts.issuer.address_of(one) == ANN
    asked = parts.issuer.calls["POST", "/oauth/token"]
    assert token_of(make().credential(org, "m1", "imap")) == one
    assert parts.issuer.calls["POST", "/oauth/token"] == asked
    clock.now += timedelta(hours=1)
    two = token_of(make().credential(org, "m1", "imap"))
    assert two != one
    assert parts.issuer.address_of(two) == ANN
    assert first not in repr(stored(parts, org))


def test_workers_that_need_the_same_token_at_once_redeem_it_once(
    parts: Parts, make: Callable[..., Grants], org: str
) -> None:
    refreshable(parts, make(), org)  # the issuer would end the consent if the refresh token came twice
    asked = parts.issuer.calls["POST", "/oauth/token"]
    with ThreadPoolExecutor(6) as pool:
        tokens = set(pool.map(lambda _: token_of(make().credential(org, "m1", "imap")), range(6)))
    assert len(tokens) == 1
    assert parts.issuer.calls["POST", "/oauth/token"] == asked + 1
    assert parts.issuer.address_of(tokens.pop()) == ANN
    assert parts.records.find(org, RefreshLease, "m1!imap") is None


def test_while_another_worker_refreshes_without_end_it_is_temporary(
    parts: Parts, grants: Grants, org: str, clock: Clock
) -> None:
    refreshable(parts, grants, org)
    parts.records.commit(org, Add(RefreshLease("m1!imap", clock.now + timedelta(seconds=30))))
    with pytest.raises(Temporary, match="another worker"):
        grants.credential(org, "m1", "imap")
    clock.now += timedelta(seconds=30)
    assert parts.issuer.address_of(token_of(grants.credential(org, "m1", "imap"))) == ANN


def test_a_revoked_consent_has_to_be_given_again(parts: Parts, grants: Grants, org: str) -> None:
    refreshable(parts, grants, org)
    parts.issuer.revoke(ANN)
    with pytest.raises(ConsentRequired, match="revoked or has expired") as caught:
        grants.credential(org, "m1", "imap")
    assert caught.value.fix == "Connect the mailbox again."
    assert parts.records.find(org, RefreshLease, "m1!imap") is None


def test_a_wrong_client_secret_is_told_apart_from_a_revoked_consent(
    parts: Parts, grants: Grants, org: str
) -> None:
    refreshable(parts, grants, org, client_secret="wrong-secret")
    with pytest.raises(ConsentRequired, match="client id and secret") as caught:
        grants.credential(org, "m1", "imap")
    assert "app registration" in (caught.value.fix or "")
    assert "wrong-secret" not in str(caught.value)


def test_tokens_whose_key_was_erased_need_consent(
    parts: Parts, make: Callable[..., Grants], org: str
) -> None:
    refreshable(parts, make(), org)
    parts.vault.destroy(f"k-{digest(org)}")
    assert parts.records.find(org, DataKey, "current")
    with pytest.raises(ConsentRequired, match="key of the stored tokens"):
        make().credential(org, "m1", "imap")


class Elsewhere(WebServer):
    """A token endpoint that answers what the test says; keeps the last form."""

    reply = Reply()
    form: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed

    def answer(self, request: Request) -> Reply:
        self.form = request.form
        return self.reply


@pytest.fixture
def elsewhere(parts: Parts) -> Iterator[Elsewhere]:
    server = Elsewhere(tls=parts.authority.server_context())
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "text"),
    [
        (500, None, {}, Temporary, "not available"),
        (503, {"error": "temporarily_unavailable"}, {"Retry-After": "7"}, Temporary, "not available"),
        (429, None, {"Retry-After": "17"}, RateLimited, "too often"),
        (429, None, {"Retry-After": "9" * 400}, RateLimited, "too often"),
        (200, {"token": "x"}, {}, Temporary, "without a token"),
        (200, b"<html>", {}, Temporary, "without a token"),
        (200, b"{" + b" " * 200_000 + b"}", {}, Temporary, "without a token"),
        (302, None, {"Location": "https://localhost/steal"}, Temporary, r"\(302\)"),
        (400, {"error": "invalid_scope"}, {}, ConsentRequired, r"\(invalid_scope\)"),
        (400, {"error": "interaction_required"}, {}, ConsentRequired, r"\(interaction_required\)"),
        (400, {"error": "invalid_request"}, {}, Temporary, r"\(invalid_request\)"),
        (400, {"error": "nobody_knows"}, {"Retry-After": "17"}, Temporary, r"\(nobody_knows\)"),
        (400, {"error": "<script>"}, {}, Temporary, r"\(400\)"),
        (400, {"error": 1}, {}, Temporary, r"\(400\)"),
        (403, b"<html>", {}, Temporary, r"\(403\)"),
        (404, b"<html>", {}, Temporary, r"\(404\)"),
        (400, {"error": "unauthorized_client"}, {}, ConsentRequired, "client id and secret"),
        (401, {"error": "invalid_client"}, {}, ConsentRequired, "client id and secret"),
        (400, {"error": "invalid_grant"}, {}, ConsentRequired, "revoked or has expired"),
    ],
)
def test_every_answer_of_an_issuer_means_one_of_our_errors(
    parts: Parts,
    grants: Grants,
    elsewhere: Elsewhere,
    org: str,
    status: int,
    body: Any,
    headers: dict[str, str],
    kind: type[ZalionError],
    text: str,
) -> None:
    elsewhere.reply = Reply(status, body, headers)
    token = refreshable(parts, grants, org, token_url=f"{elsewhere.url}/t")
    with pytest.raises(kind, match=text) as caught:
        grants.credential(org, "m1", "imap")
    assert type(caught.value) is kind
    assert token not in str(caught.value)
    if isinstance(caught.value, Temporary) and "Retry-After" in headers:
        assert caught.value.retry_after == min(float(headers["Retry-After"]), 3600)
    assert parts.records.find(org, RefreshLease, "m1!imap") is None


def test_the_request_is_that_of_rfc_6749_and_public_clients_send_no_secret(
    parts: Parts, grants: Grants, elsewhere: Elsewhere, org: str
) -> None:
    elsewhere.reply = Reply(200, {"access_token": "at", "token_type": "Bearer", "expires_in": "60"})
    token = refreshable(
        parts, grants, org, token_url=f"{elsewhere.url}/t", client_secret=None, scopes=("a", "b")
    )
    assert token_of(grants.credential(org, "m1", "imap")) == "at"
    assert elsewhere.form == {
        "grant_type": "refresh_token",
        "refresh_token": token,
        "client_id": parts.issuer.client_id,
        "scope": "a b",
    }


@pytest.mark.parametrize("expires_in", [10**18, -(10**18)])
def test_a_life_beyond_all_times_is_not_believed(
    parts: Parts, grants: Grants, elsewhere: Elsewhere, org: str, expires_in: int
) -> None:
    elsewhere.reply = Reply(200, {"access_token": "at", "expires_in": expires_in})
    refreshable(parts, grants, org, token_url=f"{elsewhere.url}/t")
    assert token_of(grants.credential(org, "m1", "imap")) == "at"


def test_an_issuer_that_does_not_rotate_keeps_its_refresh_token(
    parts: Parts, grants: Grants, elsewhere: Elsewhere, org: str, clock: Clock
) -> None:
    elsewhere.reply = Reply(200, {"access_token": "at", "token_type": "Bearer"})
    token = refreshable(parts, grants, org, token_url=f"{elsewhere.url}/t")
    for _ in range(2):
        grants.credential(org, "m1", "imap")
        clock.now += timedelta(hours=1)
    assert elsewhere.calls["POST", "/t"] == 2
    assert elsewhere.form["refresh_token"] == token


def test_a_consent_given_anew_while_the_old_token_is_refused_is_used(
    parts: Parts, grants: Grants, make: Callable[..., Grants], org: str
) -> None:
    class Reconnecting(Elsewhere):
        """While it refuses the old refresh token, its owner connects the mailbox again."""

        def answer(self, request: Request) -> Reply:
            refreshable(parts, make(), org)
            return Reply(400, {"error": "invalid_grant"})

    server = Reconnecting(tls=parts.authority.server_context())
    refreshable(parts, grants, org, token_url=f"{server.url}/t")
    assert parts.issuer.address_of(token_of(grants.credential(org, "m1", "imap"))) == ANN
    assert server.calls["POST", "/t"] == 1
    server.stop()


def test_a_token_url_into_a_private_network_is_not_asked(
    parts: Parts, make: Callable[..., Grants], elsewhere: Elsewhere, org: str
) -> None:
    grants = make(frozenset())
    refreshable(parts, grants, org, token_url=f"{elsewhere.url}/t")
    with pytest.raises(ConsentRequired, match="host we may use"):
        grants.credential(org, "m1", "imap")
    assert not elsewhere.calls


def test_an_issuer_that_is_down_is_temporary(
    parts: Parts, grants: Grants, elsewhere: Elsewhere, org: str
) -> None:
    refreshable(parts, grants, org, token_url=f"{elsewhere.url}/t")
    elsewhere._server.server_close()
    with pytest.raises(Temporary):
        grants.credential(org, "m1", "imap")


def test_an_issuer_whose_certificate_is_not_trusted_gets_no_token(
    parts: Parts, grants: Grants, elsewhere: Elsewhere, org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    refreshable(parts, grants, org, token_url=f"{elsewhere.url}/t")
    with pytest.raises(Temporary, match="cannot be reached"):
        grants.credential(org, "m1", "imap")
    assert not elsewhere.form


# Refused


@pytest.mark.parametrize("renewed", [False, True], ids=["before it is renewed", "after"])
def test_one_refused_token_is_given_up_once_for_all_sessions_that_signed_in_with_it(
    parts: Parts, grants: Grants, org: str, clock: Clock, renewed: bool
) -> None:
    refreshable(parts, grants, org)
    one, two, three = (grants.signing_in(org, "m1", "imap") for _ in range(3))
    old = {token_of(session.credential()) for session in (one, two, three)}
    assert one.refused()
    fresh = token_of(one.credential()) if renewed else ""
    assert two.refused()
    clock.now += timedelta(minutes=10)
    assert three.refused()
    asked = parts.issuer.calls["POST", "/oauth/token"]
    assert len(old) == 1
    assert token_of(two.credential()) not in old
    assert not renewed or token_of(two.credential()) == fresh
    assert parts.issuer.calls["POST", "/oauth/token"] == asked + (not renewed)
    assert not two.refused(), "a third token would not help"


def test_nothing_was_refused_where_there_was_nothing_to_sign_in_with(grants: Grants, org: str) -> None:
    session = grants.signing_in(org, "m1", "imap")
    with pytest.raises(ConsentRequired):
        session.credential()
    assert not session.refused()


def test_a_refused_password_is_asked_for_again_only_where_it_was_changed(grants: Grants, org: str) -> None:
    grants.store_password(org, "m1", "imap", ANN, "old")
    session = grants.signing_in(org, "m1", "imap")
    session.credential()
    assert not session.refused()
    grants.store_password(org, "m1", "imap", ANN, "new")
    assert session.refused()
    assert session.credential() == Password(ANN, "new")


# For settings that are not in force yet


def test_a_spare_token_signs_in_with_the_commit_that_puts_it_in_place_and_not_before(
    parts: Parts, make: Callable[..., Grants], org: str
) -> None:
    grants, spare = make(), spare_of("imap")
    grants.store_password(org, "m1", "imap", ANN, "old")
    given = {
        "refresh_token": parts.issuer.grant(ANN),
        "token_url": f"{parts.issuer.url}/oauth/token",
        "client_id": parts.issuer.client_id,
        "client_secret": parts.issuer.client_secret,
    }
    grants.store_token(org, "m1", spare, ANN, **given)
    token = token_of(grants.credential(org, "m1", spare))  # redeemed, and rotated, where it lies
    writes = grants.put_in_place(org, "m1", {"imap": spare})
    assert make().credential(org, "m1", "imap") == Password(ANN, "old")
    parts.records.commit(org, *writes)
    assert token_of(make().credential(org, "m1", "imap")) == token
    assert grants.spares(org, "m1") == {spare}
    before = len(parts.key_vault.secrets)
    grants.sweep(org, "m1", {spare})
    assert len(parts.key_vault.secrets) == before - 1
    assert grants.spares(org, "m1") == set()
    assert token_of(grants.credential(org, "m1", "imap")) == token
    assert {*grants.destroy(org, "m1")} == {"imap client secret", "imap access token", "imap refresh token"}


# The end


def test_destroying_leaves_no_secret_and_no_grant_of_the_mailbox_and_says_what_there_was(
    parts: Parts, grants: Grants, org: str
) -> None:
    grants.store_password(org, "m1", "smtp", ANN, "hunter2")
    refreshable(parts, grants, org, access_token="at")
    grants.store_password(org, "m10", "imap", ANN, "other mailbox")
    before = len(parts.key_vault.secrets)
    destroyed = grants.destroy(org, "m1")
    assert destroyed == ("imap client secret", "imap access token", "imap refresh token", "smtp password")
    assert len(parts.key_vault.secrets) == before - 2
    assert grants.destroy(org, "m1") == ()
    for provider in ("imap", "smtp"):
        with pytest.raises(ConsentRequired):
            grants.credential(org, "m1", provider)
    assert grants.credential(org, "m10", "imap") == Password(ANN, "other mailbox")


def test_another_kind_of_grant_leaves_nothing_of_the_first(parts: Parts, grants: Grants, org: str) -> None:
    refreshable(parts, grants, org)
    grants.store_password(org, "m1", "imap", ANN, "hunter2")
    assert f"m-{digest(org, 'm1', 'imap', 'client_secret')}" not in parts.key_vault.secrets
    assert stored(parts, org).sealed == {}
    refreshable(parts, grants, org)
    assert f"m-{digest(org, 'm1', 'imap', 'password')}" not in parts.key_vault.secrets


def test_a_destruction_that_the_vault_interrupts_can_be_repeated(
    parts: Parts, grants: Grants, org: str
) -> None:
    grants.store_password(org, "m1", "imap", ANN, "hunter2")
    parts.key_vault.fail_next(1, 503)
    with pytest.raises(Temporary):
        grants.destroy(org, "m1")
    assert grants.destroy(org, "m1") == ("imap password",)
