"""Cryptography, nothing else: sealed text, derived keys, short signatures and signed cursors. Pure.

AES-256-GCM (NIST SP 800-38D) with a fresh random 96-bit nonce, HKDF (RFC 5869) and HMAC (RFC 2104),
both with SHA-256.
"""

import base64
import hashlib
import hmac
import json
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import InvalidRequest

NONCE = 12
SIGNATURE = 16
"""Hex digits: 64 bits, enough against guessing online, short enough for a Message-ID."""


def seal(key: bytes, plain: str, *, kid: str, aad: tuple[str, ...]) -> str:
    """Encrypt and return `v1.<kid>.<nonce>.<ciphertext>`, the last two in unpadded base64url.

    `key` has 32 octets and `kid` names it, without dots. `aad` says where the text belongs
    (organisation, mailbox, field ...); it opens only with the same.
    """
    nonce = os.urandom(NONCE)
    ciphertext = AESGCM(key).encrypt(nonce, plain.encode(), _joined(*aad, kid))
    return f"v1.{kid}.{_encode(nonce)}.{_encode(ciphertext)}"


def kid_of(sealed: str) -> str:
    """Return which key opens a sealed text. Raises ValueError."""
    version, kid, _, _ = sealed.split(".")
    if version != "v1":
        raise ValueError("This is not text sealed by version 1.")
    return kid


def unseal(key: bytes, sealed: str, *, aad: tuple[str, ...]) -> str:
    """Decrypt. Raises ValueError for text that was changed, moved elsewhere, or sealed with another key."""
    kid = kid_of(sealed)
    _, _, nonce, ciphertext = sealed.split(".")
    try:
        return AESGCM(key).decrypt(_decode(nonce), _decode(ciphertext), _joined(*aad, kid)).decode()
    except InvalidTag:
        raise ValueError("The sealed text does not belong here, or its key is another one.") from None


def derive(key: bytes, purpose: str) -> bytes:
    """Return 32 octets for one purpose, from which neither the key nor another purpose's can be learnt."""
    return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(key)


def sign(key: bytes, *parts: str) -> str:
    """Return 16 hex digits that only a holder of the key can make for these parts."""
    return _mac(key, *parts).hex()[:SIGNATURE]


def verify(key: bytes, signature: str, *parts: str) -> bool:
    """Tell whether `sign` made the signature, in constant time."""
    return hmac.compare_digest(sign(key, *parts).encode(), signature.encode("utf-8", "surrogatepass"))


def pack_cursor(key: bytes, purpose: str, org: str, value: dict[str, Any]) -> str:
    """Return an opaque cursor; only the same purpose and organisation can read it back."""
    body = _encode(json.dumps(value, separators=(",", ":")).encode())
    return f"{body}.{_encode(_mac(key, purpose, org, body))}"


def unpack_cursor(key: bytes, purpose: str, org: str, cursor: str) -> dict[str, Any]:
    """Return what was packed. Raises InvalidRequest (`cursor`) for anything that is not ours."""
    body, _, signature = cursor.partition(".")
    expected = _encode(_mac(key, purpose, org, body))
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass")):
        raise InvalidRequest("This cursor is not one that this list gave out.", field="cursor")
    value: dict[str, Any] = json.loads(_decode(body))
    return value


def _mac(key: bytes, *parts: str) -> bytes:
    return hmac.digest(key, _joined(*parts), hashlib.sha256)


def _joined(*parts: str) -> bytes:
    """Length before each part, so that ("ab", "c") is not ("a", "bc")."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
