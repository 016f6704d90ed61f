"""What the parts of Google's sign-in share."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.google.directory import Directory
from sandbox.google.faults import Faults
from sandbox.google.grants import Grants
from sandbox.google.keys import Keys


@dataclass
class Accounts:
    """People, what they granted, and Google's signature.

    Attributes:
        issuer: `iss` of everything signed.
        now: the simulator's clock, in seconds since 1970.
        auto_sign_in: answer `authorize` at once: for the `login_hint`, or for this address whatever it is.
    """

    url: str
    issuer: str
    directory: Directory
    grants: Grants
    keys: Keys
    faults: Faults
    now: Callable[[], float]
    auto_sign_in: bool | str = False

    def identity(self, claims: dict[str, Any], seconds: int = 3600) -> str:
        """Return a signed token that says who somebody is; `claims` may replace the usual ones."""
        now = int(time.time())
        return self.keys.sign({"iss": self.issuer, "iat": now, "exp": now + seconds, **claims})
