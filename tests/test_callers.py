"""Who calls, by a token of the sandbox's issuer."""

import pytest

from sandbox.issuer import AUDIENCE, Issuer
from shared.callers import Tokens

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def issuer():
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.mark.parametrize(
    ("claim", "email"),
    [
        ("Anna@IMAP.Example", "anna@imap.example"),
        ("Anna@Müller.example", "anna@xn--mller-kva.example"),
        ("anna@xn--mller-kva.example", "anna@xn--mller-kva.example"),
        ("", ""),
        ("Nobody", "nobody"),
        ("Jörg@x.example", "jörg@x.example"),
        ("a@b@..\r\n\ud800", "a@b@..\r\n\ud800"),
    ],
)
def test_an_address_has_the_spelling_of_members_and_owners_and_what_is_none_stays(issuer, claim, email):
    tokens = Tokens(issuer.url, AUDIENCE, f"{issuer.url}/jwks.json")
    assert tokens.caller(f"Bearer {issuer.issue('org-1', claim)}").email == email
