"""Who calls, by a token of the sandbox's issuer."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.issuer import AUDIENCE, Issuer
from shared import callers
from shared.callers import Tokens, Unauthenticated
from shared.errors import Temporary

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def issuer():
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.fixture
def faulty():
    """An issuer of its own for a test that breaks it."""
    issuer = Issuer()
    yield issuer
    issuer.heal()
    issuer.stop()


JWKS = ("GET", "/jwks.json")


def asked(tokens, *shown):
    """Show all tokens at once: for each, whose it is or what it is refused with, and after how many seconds."""

    def ask(token):
        began = time.monotonic()
        try:
            found = tokens.caller(f"Bearer {token}").email
        except (Temporary, Unauthenticated) as error:
            found = type(error)
        return found, time.monotonic() - began

    with ThreadPoolExecutor(len(shown)) as pool:
        return list(pool.map(ask, shown))


def checker(issuer):
    return Tokens(issuer.url, AUDIENCE, f"{issuer.url}/jwks.json")


def test_callers_do_not_queue_up_behind_an_issuer_that_hangs(faulty, monkeypatch):
    monkeypatch.setattr(callers, "TIMEOUT", 0.5)
    tokens, token = checker(faulty), faulty.issue("org-1", "anna@imap.example")
    faulty.hang = 2
    for found, seconds in asked(tokens, *[token] * 6):
        assert (found, seconds < 0.9) == (Temporary, True)
    [(found, seconds)] = asked(tokens, token)
    assert (found, seconds < 0.2) == (Temporary, True), "asked again at once"
    assert faulty.calls[JWKS] == 1


def test_while_keys_are_fetched_in_vain_the_known_ones_serve_and_a_new_one_is_not_called_invalid(
    faulty, monkeypatch
):
    monkeypatch.setattr(callers, "TIMEOUT", 0.5)
    monkeypatch.setattr(callers, "AGAIN", 0)
    tokens, known = checker(faulty), faulty.issue("org-1", "anna@imap.example")
    assert asked(tokens, known)[0][0] == "anna@imap.example"
    faulty.rotate()
    new, faulty.hang = faulty.issue("org-1", "anna@imap.example"), 2
    monkeypatch.setattr(callers, "FRESH", 0)
    found = asked(tokens, new, *[known] * 5)
    assert [who for who, _ in found] == [Temporary, *["anna@imap.example"] * 5]
    assert sum(seconds > 0.3 for _, seconds in found[1:]) <= 1, "all waited with the one that fetches"
    monkeypatch.setattr(callers, "KEPT", 0)
    assert asked(tokens, known)[0][0] == Temporary, "what is too old serves no more"


def test_a_new_key_is_fetched_and_a_key_that_nobody_has_asks_the_issuer_no_more_often(faulty, monkeypatch):
    tokens, old = checker(faulty), faulty.issue("org-1", "anna@imap.example")
    assert asked(tokens, old)[0][0] == "anna@imap.example"
    faulty.rotate(forget=True)
    new = faulty.issue("org-1", "anna@imap.example")
    assert asked(tokens, new)[0][0] == Unauthenticated, "the keys were fetched a moment ago"
    monkeypatch.setattr(callers, "AGAIN", 0)
    assert [who for who, _ in asked(tokens, new)] == ["anna@imap.example"]
    monkeypatch.undo()
    for _ in range(3):
        assert asked(tokens, old)[0][0] == Unauthenticated
    assert faulty.calls[JWKS] == 2


@pytest.mark.parametrize(
    "document",
    [b"<html>maintenance</html>", b"\xff", b"[]", {"keys": []}, {"keys": [1]}, {"error": "x"}],
)
def test_an_issuer_that_answers_with_something_else_than_keys_is_the_one_that_fails(faulty, document):
    faulty.fail_next(1, 200, body=document)
    assert asked(checker(faulty), faulty.issue("org-1", "anna@imap.example"))[0][0] == Temporary


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
