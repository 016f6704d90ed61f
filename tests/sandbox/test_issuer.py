"""The token issuer through PyJWT, azure-identity and plain OAuth requests."""

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential

from sandbox.issuer import AUDIENCE


def claims_of(world, token, **expected):
    key = jwt.PyJWKClient(f"{world.issuer.url}/jwks.json").get_signing_key_from_jwt(token)
    return jwt.decode(token, key, ["RS256"], **{"audience": AUDIENCE, "issuer": world.issuer.url, **expected})


def test_a_callers_token_says_who_and_verifies_against_the_published_key(world):
    claims = claims_of(world, world.issuer.issue(org="o1", email="a@b.example", roles=["admin", "member"]))
    assert (claims["org"], claims["email"], claims["roles"]) == ("o1", "a@b.example", ["admin", "member"])
    assert claims["exp"] - claims["iat"] == 24 * 60 * 60


def test_claims_can_be_wrong_on_purpose(world):
    with pytest.raises(jwt.ExpiredSignatureError):
        claims_of(world, world.issuer.issue(org="o1", exp=1))
    with pytest.raises(jwt.InvalidAudienceError):
        claims_of(world, world.issuer.issue(org="o1", aud="other"))
    assert "org" not in claims_of(world, world.issuer.issue(org=None))


def test_old_tokens_verify_after_a_rotation_until_the_key_is_forgotten(world):
    old = world.issuer.issue(org="o1")
    world.issuer.rotate()
    assert claims_of(world, old)["org"] == "o1"
    assert claims_of(world, world.issuer.issue(org="o2"))["org"] == "o2"
    world.issuer.rotate(forget=True)
    with pytest.raises(jwt.PyJWKClientError):
        claims_of(world, old)


@pytest.mark.parametrize("audience", ["https://vault.azure.net", "https://storage.azure.com"])
def test_the_managed_identity_gets_a_token_for_the_audience_it_asks_for(world, audience):
    token = ManagedIdentityCredential().get_token(f"{audience}/.default").token
    assert claims_of(world, token, audience=audience, issuer=None)["aud"] == audience


def test_the_managed_identity_needs_its_secret_header(world, monkeypatch):
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(ClientAuthenticationError):
        ManagedIdentityCredential().get_token("https://vault.azure.net/.default")


def refresh(world, token, *, secret=None, basic=False):
    client = world.issuer.client_id, secret or world.issuer.client_secret
    form = {"grant_type": "refresh_token", "refresh_token": token}
    form |= {} if basic else {"client_id": client[0], "client_secret": client[1]}
    return requests.post(
        f"{world.issuer.url}/oauth/token", data=form, auth=client if basic else None, timeout=5
    )


@pytest.mark.parametrize("basic", [True, False])
def test_refreshing_gives_a_new_pair(world, basic):
    first = world.issuer.grant("ann@o.example")
    body = refresh(world, first, basic=basic).json()
    assert body["refresh_token"] != first
    assert world.issuer.address_of(body["access_token"]) == "ann@o.example"
    assert refresh(world, body["refresh_token"]).ok


def test_a_refresh_token_used_twice_ends_the_consent(world):
    first = world.issuer.grant("ann@o.example")
    body = refresh(world, first).json()
    assert refresh(world, first).json()["error"] == "invalid_grant"
    assert refresh(world, body["refresh_token"]).json()["error"] == "invalid_grant"
    assert world.issuer.address_of(body["access_token"]) is None


def test_a_revoked_consent_is_invalid_grant(world):
    token = world.issuer.grant("ann@o.example")
    world.issuer.revoke("ann@o.example")
    answer = refresh(world, token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_wrong_client_secret_is_invalid_client_and_costs_no_token(world):
    token = world.issuer.grant("ann@o.example")
    answer = refresh(world, token, secret="wrong")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert refresh(world, token).ok


def test_tokeninfo_knows_valid_tokens_only(world):
    url = f"{world.tokeninfo.url}/tokeninfo"
    token = world.issuer.access_token("ann@o.example")
    assert requests.get(url, {"access_token": token}, timeout=5).json()["email"] == "ann@o.example"
    assert requests.get(url, {"access_token": "other"}, timeout=5).status_code == 401
