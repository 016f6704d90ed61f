"""Signed Message-IDs."""

import pytest

from shared import identity
from shared.identity import SignedId

pytestmark = pytest.mark.fast

KEY = b"k" * 32
SIGNED = SignedId("0123456789abcdef", "1763943000123-0123456789ab")


def test_what_was_minted_can_be_read_back():
    message_id = identity.mint(KEY, "org", SIGNED, "imap.example")
    assert message_id.endswith("@imap.example>")
    assert identity.read(KEY, "org", message_id) == SIGNED


def test_the_domain_does_not_matter_when_reading():
    message_id = identity.mint(KEY, "org", SIGNED, "imap.example")
    assert identity.read(KEY, "org", message_id.replace("imap.example", "relay.example")) == SIGNED


@pytest.mark.parametrize(
    ("key", "org"), [(b"x" * 32, "org"), (KEY, "other")], ids=["another key", "another organisation"]
)
def test_it_proves_nothing_elsewhere(key, org):
    assert identity.read(key, org, identity.mint(KEY, "org", SIGNED, "imap.example")) is None


@pytest.mark.parametrize(
    "text", ["", "<>", "<a@b>", "<z.1.2.3@x>", "z.0123456789abcdef@x", "<z." + "0" * 4000 + "@x>"]
)
def test_anything_else_is_not_ours(text):
    assert identity.read(KEY, "org", text) is None
