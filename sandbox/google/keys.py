"""Google's signing key: published as JWKS and as X.509 certificates, used for id_tokens and push tokens."""

import json
import secrets
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.ca import self_signed


class Keys:
    """What Google signs with. The first key is made on first use: it takes a while."""

    def __init__(self) -> None:
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self._lock = threading.Lock()

    def rotate(self) -> None:
        """Sign with a new key from now on; the one before stays published."""
        fresh = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._keys = dict(list(self._keys.items())[-1:]) | {secrets.token_hex(20): fresh}

    def sign(self, claims: dict[str, Any]) -> str:
        """Return an RS256 JWT."""
        kid, key = list(self._published().items())[-1]
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid, "typ": "JWT"})

    def _published(self) -> dict[str, rsa.RSAPrivateKey]:
        with self._lock:
            if not self._keys:
                self.rotate()
            return self._keys

    def jwks(self) -> dict[str, Any]:
        """Return /oauth2/v3/certs."""
        shown = {
            kid: json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
            for kid, key in self._published().items()
        }
        return {
            "keys": [
                {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": one["n"], "e": one["e"]}
                for kid, one in shown.items()
            ]
        }

    def certificates(self) -> dict[str, str]:
        """Return /oauth2/v1/certs: key id -> certificate as PEM."""
        return {kid: _certificate(key) for kid, key in self._published().items()}


def _certificate(key: rsa.RSAPrivateKey) -> str:
    now = datetime.now(UTC)
    name = "federated-signon.sandbox.example"
    return self_signed(key, name, now - timedelta(days=1), now + timedelta(days=15))
