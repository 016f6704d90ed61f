"""Who is asking: Basic, or real NTLMv2, which proves the connection and not the request.

pyspnego does NTLM's server side; it reads its accounts from the file that a variable names.
"""

import base64
import binascii
import hashlib
import os
import secrets
import ssl
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from sandbox.web import Reply, Request

_environment = threading.Lock()
"""The variable is the whole process's, and several Exchanges may live in it."""

SCHEMES = ("NTLM", "Basic")


@dataclass
class Accounts:
    """The users of one Exchange, by address, and by NetBIOS domain and name.

    Attributes:
        schemes: what is offered.
        attempts: sign-ins tried, by outcome.
        certificate: the server's, for Extended Protection: NTLM must name it then.
    """

    schemes: tuple[str, ...] = SCHEMES
    certificate: Path | None = None
    attempts: dict[str, int] = field(default_factory=lambda: {"good": 0, "bad": 0})
    _passwords: dict[str, str] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)
    _lines: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="zalion-exchange-", ignore_cleanup_errors=True)
        self._file = Path(self._folder.name) / "users"
        self._file.touch(mode=0o600)

    def add(self, address: str, password: str) -> None:
        """Add a user, or change the password."""
        address = address.lower()
        name, _, domain = address.partition("@")
        netbios = domain.partition(".")[0]
        for known, line in ((address, f":{address}"), (f"{netbios}\\{name}", f"{netbios}:{name}")):
            self._passwords[known], self._addresses[known] = password, address
            self._lines[known] = f"{line}:{password}\n"
        text = "".join(self._lines.values())
        new = self._file.with_name(secrets.token_hex(8))
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(self._file)

    def close(self) -> None:
        """Remove the file with the passwords."""
        self._folder.cleanup()

    def identify(self, request: Request) -> str | Reply:
        """Return the user's address, or what to answer instead."""
        state = request.client.state
        scheme, _, proof = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic" and "Basic" in self.schemes:
            return self._basic(proof)
        if scheme.upper() == "NTLM" and "NTLM" in self.schemes:
            return self._ntlm(state, proof)
        return state.get("user") or self._challenge()

    def _basic(self, proof: str) -> str | Reply:
        try:
            name, _, password = base64.b64decode(proof).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return self._refusal()
        if self._passwords.get(name.lower()) != password:
            return self._refusal()
        self.attempts["good"] += 1
        return self._addresses[name.lower()]

    def _ntlm(self, state: dict[str, Any], proof: str) -> str | Reply:
        """Three messages on one connection: negotiate, our challenge, authenticate."""
        with _environment:
            os.environ["NTLM_USER_FILE"] = str(self._file)
            try:
                said = base64.b64decode(proof)
                if said[8:9] == b"\x01":  # its first message begins anew
                    state["ntlm"] = self._context()
                context = state["ntlm"]
                token = context.step(said)
            except (SpnegoError, KeyError, ValueError):
                state.pop("ntlm", None)
                return self._refusal()
        if not context.complete:
            return self._challenge(f"NTLM {base64.b64encode(token or b'').decode()}")
        self.attempts["good"] += 1
        del state["ntlm"]
        state["user"] = self._addresses[str(context.client_principal).removeprefix("\\").lower()]
        return str(state["user"])

    def _context(self) -> Any:
        binding = None
        if self.certificate:
            end = "-----END CERTIFICATE-----"
            der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text().partition(end)[0] + end)
            hashed = hashlib.sha256(der).digest()  # RFC 5929 section 4
            binding = GssChannelBindings(application_data=b"tls-server-end-point:" + hashed)
        return spnego.server(hostname="localhost", service="http", protocol="ntlm", channel_bindings=binding)

    def _refusal(self) -> Reply:
        self.attempts["bad"] += 1
        return self._challenge()

    def _challenge(self, ntlm: str = "") -> Reply:
        realm = {"NTLM": "NTLM", "Basic": 'Basic realm="localhost"'}
        offered = (ntlm,) if ntlm else tuple(realm[scheme] for scheme in self.schemes)
        return Reply(401, b"", {"Content-Type": "text/plain"}, offered)
