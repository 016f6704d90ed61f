"""The sandbox's private CA: nothing outside trusts it, and only the app's environment is told about it."""

import ssl
from datetime import datetime
from pathlib import Path

import certifi
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1", "*.example", "*.imap.example", "*.imap2.example", "*.supplier.example")


class Authority:
    """A CA kept in a directory, so that a restarted sandbox is still trusted by clients that trusted it.

    Attributes:
        pem: the CA's certificate, for a client's `verify`.
        bundle: certifi's roots and the CA, for clients that take one file for everything.
        certificate, key: the servers' certificate chain and private key (localhost and 127.0.0.1).
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.pem = directory / "ca.pem"
        self.bundle = directory / "bundle.pem"
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        if not self.bundle.exists():
            self._create(directory / "ca.key")

    def _create(self, ca_key: Path) -> None:
        ca = trustme.CA(organization_name="Zalion sandbox")
        server = ca.issue_cert(*NAMES, common_name="localhost")
        ca_key.touch(mode=0o600)
        self.key.touch(mode=0o600)
        ca.private_key_pem.write_to_path(ca_key)
        ca.cert_pem.write_to_path(self.pem)
        server.private_key_pem.write_to_path(self.key)
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in server.cert_chain_pems))
        self.bundle.write_bytes(Path(certifi.where()).read_bytes() + ca.cert_pem.bytes())

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS context for a server of the sandbox."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a TLS context for a client that trusts the sandbox alone."""
        return ssl.create_default_context(cafile=self.pem)

    def environment(self) -> dict[str, str]:
        """Return the variables that make a process trust the sandbox.

        requests prefers REQUESTS_CA_BUNDLE over a session's `verify` where a machine sets it already,
        so the variables are what works everywhere. Those that are loaded anew for each connection name the
        CA alone: who reads them speaks to the sandbox, and all of certifi's roots take 18 ms.
        """
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPLIB2_CA_CERTS", "NODE_EXTRA_CA_CERTS")
        return {**dict.fromkeys(names, str(self.pem)), "SSL_CERT_FILE": str(self.bundle)}


def self_signed(key: rsa.RSAPrivateKey, name: str, begins: datetime, ends: datetime) -> str:
    """Return a certificate of this key that nobody else vouches for, as PEM."""
    names = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(names, names, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()
