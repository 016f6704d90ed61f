"""Sealed text, derived keys, signatures and cursors."""

import base64
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import sealing
from shared.errors import InvalidRequest

pytestmark = pytest.mark.fast

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PLACE = ("org", "mailbox", "access_token")


def sealed(text: str = "token", key: bytes = KEY) -> str:
    return sealing.seal(key, text, kid="abc123", aad=PLACE)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_opens_in_its_place(text: str) -> None:
    assert sealing.unseal(KEY, sealed(text), aad=PLACE) == text


def test_the_form_names_version_and_key() -> None:
    assert re.fullmatch(r"v1\.abc123\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]+", sealed())
    assert sealing.kid_of(sealed()) == "abc123"


def test_the_same_text_never_looks_the_same() -> None:
    assert sealed() != sealed()


@pytest.mark.parametrize(
    "place",
    [
        ("org2", "mailbox", "access_token"),
        ("org", "mailbox2", "access_token"),
        ("org", "mailbox", "refresh_token"),
        ("org", "mailboxaccess_token"),
        ("orgm", "ailbox", "access_token"),
    ],
)
def test_it_opens_nowhere_else(place: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="does not belong here"):
        sealing.unseal(KEY, sealed(), aad=place)


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(ValueError, match="does not belong here"):
        sealing.unseal(OTHER, sealed(), aad=PLACE)


def test_a_changed_key_id_does_not_open_it() -> None:
    with pytest.raises(ValueError, match="does not belong here"):
        sealing.unseal(KEY, sealed().replace("abc123", "abc124"), aad=PLACE)


def test_a_changed_octet_does_not_open_it() -> None:
    head, _, body = sealed().rpartition(".")
    octets = bytearray(base64.urlsafe_b64decode(body + "=="))
    octets[0] ^= 1
    with pytest.raises(ValueError, match="does not belong here"):
        sealing.unseal(KEY, f"{head}.{base64.urlsafe_b64encode(octets).decode()}", aad=PLACE)


@pytest.mark.parametrize("text", ["", "v2.a.b.c", "v1.a", "plain"])
def test_what_is_not_sealed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        sealing.unseal(KEY, text, aad=PLACE)


def test_derived_keys_follow_rfc_5869() -> None:
    # Appendix A.3 with the info replaced cannot be used, so: determined, separate, 32 octets
    assert sealing.derive(KEY, "cursor") == sealing.derive(KEY, "cursor")
    assert (
        len(
            {
                sealing.derive(KEY, "cursor"),
                sealing.derive(KEY, "message-id"),
                sealing.derive(OTHER, "cursor"),
            }
        )
        == 3
    )
    assert len(sealing.derive(KEY, "cursor")) == 32


def test_a_signature_is_sixteen_hex_digits_bound_to_key_and_parts() -> None:
    signature = sealing.sign(KEY, "org", "c", "e")
    assert re.fullmatch(r"[0-9a-f]{16}", signature)
    assert sealing.verify(KEY, signature, "org", "c", "e")
    for key, parts in (
        (OTHER, ("org", "c", "e")),
        (KEY, ("org", "ce", "")),
        (KEY, ("orgc", "e")),
        (KEY, ("org", "c")),
    ):
        assert not sealing.verify(key, signature, *parts)


@pytest.mark.parametrize("wrong", ["", "0" * 16, "é", "\udcff", "0" * 15])
def test_a_forged_signature_is_refused(wrong: str) -> None:
    assert not sealing.verify(KEY, wrong, "org", "c", "e")


def test_a_cursor_comes_back() -> None:
    value = {"after": "C-1!00012-ž", "n": 3}
    cursor = sealing.pack_cursor(KEY, "timeline", "org", value)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", cursor)
    assert sealing.unpack_cursor(KEY, "timeline", "org", cursor) == value


@pytest.mark.parametrize(
    ("key", "purpose", "org"), [(OTHER, "timeline", "org"), (KEY, "audit", "org"), (KEY, "timeline", "org2")]
)
def test_a_cursor_of_another_list_or_organisation_is_the_caller_s_mistake(
    key: bytes, purpose: str, org: str
) -> None:
    cursor = sealing.pack_cursor(KEY, "timeline", "org", {"after": "x"})
    with pytest.raises(InvalidRequest) as caught:
        sealing.unpack_cursor(key, purpose, org, cursor)
    assert caught.value.field == "cursor"


@given(st.text(max_size=60))
def test_no_text_of_a_caller_is_taken_for_a_cursor(text: str) -> None:
    with pytest.raises(InvalidRequest):
        sealing.unpack_cursor(os.urandom(32), "timeline", "org", text)
