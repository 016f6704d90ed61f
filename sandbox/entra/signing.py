"""Entra's key: it signs tokens, and reads what an access token allows."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.entra.directory import GRAPH, Application, Tenant


@dataclass(frozen=True, slots=True)
class Access:
    """What an access token allows. `address` is None where the app itself signed in."""

    tenant_id: str
    client_id: str
    oid: str | None
    address: str | None
    permissions: frozenset[str]
    app_only: bool
    expires_at: float


class Signer:
    """Signs for an issuer whose URL is `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kid = uuid.uuid4().hex
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwks(self) -> dict[str, Any]:
        """Return the public key for everybody."""
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**key, "kid": self._kid, "use": "sig"}]}

    def sign(self, app: Application, tenant: Tenant, seconds: int, claims: dict[str, Any]) -> str:
        """Return a token that lives for so many seconds."""
        now = int(time.time())
        standard = {
            "iss": f"{self._url}/{tenant.id}/v2.0",
            "tid": tenant.id,
            "appid": app.client_id,
            "sub": claims.get("oid", app.client_id),
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "ver": "2.0",
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode({**standard, **claims}, self._key, algorithm="RS256", headers={"kid": self._kid})

    def access(self, bearer: str) -> Access:
        """Return what an access token for Graph allows. Raises jwt.PyJWTError."""
        claims = jwt.decode(bearer, self._key.public_key(), algorithms=["RS256"], audience=GRAPH)
        app_only = "roles" in claims
        return Access(
            tenant_id=claims["tid"],
            client_id=claims["appid"],
            oid=claims.get("oid"),
            address=claims.get("upn"),
            permissions=frozenset(claims["roles"] if app_only else claims["scp"].split()),
            app_only=app_only,
            expires_at=claims["exp"],
        )
