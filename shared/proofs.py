"""What the libraries say about a domain's records, its servers and its signatures; imported when asked for.

SPF and DMARC records: checkdmarc (RFC 7208, RFC 9989). Signatures and keys: dkimpy (RFC 6376).
"""

import smtplib
from collections.abc import Mapping
from contextlib import closing
from email.utils import parseaddr
from typing import Any

from shared import mime
from shared.app import App
from shared.errors import Temporary
from shared.providers import network, sockets

SECONDS = (5.0, 20.0)
"""To connect to an MX host, and for everything with it."""

STRONG = 1024
"""Bits of an RSA key that receivers accept (RFC 8301)."""


class _Mx(smtplib.SMTP):
    """smtplib over the guarded way out."""

    def __init__(self, app: App, host: str) -> None:
        self._app = app
        super().__init__(host, app.mx_port, local_hostname="[127.0.0.1]", timeout=SECONDS[0])

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:  # the library's hook
        sock = network.connect(host, port, timeout, self._app.allowed_hosts, {port})
        sock.end_in(SECONDS[1])
        return sock


def offers_tls(app: App, host: str) -> bool:
    """Return whether an MX host offers STARTTLS, after proving its certificate.

    Raises InvalidRequest for one that proves nothing, Temporary for a host that does not answer.
    """
    with network.translated():
        try:
            with closing(_Mx(app, host)) as smtp:
                smtp.ehlo()
                sockets.let_in(smtp.sock)
                if not smtp.has_extn("starttls"):
                    return False
                smtp.starttls(context=network.tls_context())
                return True
        except smtplib.SMTPException as error:
            raise Temporary(network.SILENT) from error


def spf(domain: str, app: App) -> dict[str, Any]:
    """Return checkdmarc's judgement of the domain's SPF record, with `error` where it is none.

    It asks for each name in the record, however many there are. Raises Temporary where that takes too long.
    """
    from checkdmarc import spf as library
    from checkdmarc import utils

    utils.DNS_CACHE.clear()  # it is the whole process's, and somebody who mends a record looks again
    found: dict[str, Any] = library.check_spf(
        domain, resolver=app.lookups.resolver, timeout=app.lookups.seconds, retries=0
    )
    return found


def includes(parsed: Mapping[str, Any], domain: str) -> bool:
    """Whether a parsed SPF record, or one that it leads to, includes that of a domain."""
    further = [one for one in (*parsed.get("mechanisms", ()), parsed.get("redirect")) if one]
    return any(
        (one.get("mechanism") == "include" and str(one.get("value", "")).lower() == domain)
        or includes(one.get("parsed") or {}, domain)
        for one in further
    )


def dmarc(domain: str, app: App) -> dict[str, Any]:
    """Return checkdmarc's judgement of the DMARC record that counts for the domain: `error` or `tags`.

    It asks for each place that reports go to. Raises Temporary where that takes too long.
    """
    from checkdmarc import dmarc as library
    from checkdmarc import utils

    utils.DNS_CACHE.clear()
    found: Any = library.check_dmarc(
        domain, resolver=app.lookups.resolver, timeout=app.lookups.seconds, retries=0
    )
    return dict(found)


def reports(record: str) -> int:
    """Return to how many places a DMARC record has reports sent."""
    tags = _tags(record)
    return sum(len(list(filter(str.strip, tags.get(tag, "").split(",")))) for tag in ("rua", "ruf"))


def aligned(signer: str, domain: str, *, strict: bool) -> bool:
    """RFC 9989: strict is the same domain, relaxed the same organisational domain."""
    from checkdmarc.utils import get_base_domain

    return signer == domain or (not strict and get_base_domain(signer) == get_base_domain(domain))


def signature(raw: bytes) -> dict[str, str]:
    """Return the tags of the topmost DKIM signature whose domain fits best: the sender's own comes first."""
    return _chosen(raw)[1]


def _chosen(raw: bytes) -> tuple[int, dict[str, str]]:
    """Return which signature it is, from the top, and its tags."""
    if not raw:
        return 0, {}
    envelope = mime.envelope(raw, ref="")
    sender = parseaddr((envelope.headers.get("from") or ("",))[0])[1].rpartition("@")[2].lower()
    found = [_tags(value) for value in envelope.headers.get("dkim-signature", ())]
    own = [(place, tags) for place, tags in enumerate(found) if tags.get("d") == sender]
    return next(iter([*own, *enumerate(found)]), (0, {}))


def _tags(value: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in value.split(";"))
    return {
        name.strip(): "".join(text.split()).lower() if name.strip() in {"d", "s"} else text
        for name, _, text in pairs
    }


def holds(raw: bytes, app: App) -> bool:
    """Whether the signature that `signature` tells proves true; anybody may have added another one."""
    from dkim import DKIM, DKIMException

    def txt(name: bytes, timeout: int = 5) -> bytes | None:  # noqa: ARG001 - the library's hook
        texts = app.lookups.txt(name.decode("ascii", "replace"))
        return texts[0].encode() if texts else None

    place, tags = _chosen(raw)
    try:
        return bool(tags) and DKIM(raw).verify(place, dnsfunc=txt) is True
    except (DKIMException, ValueError):
        return False


def key_problem(place: str, text: str) -> str | None:
    """Say what is wrong with a published DKIM key, if anything is (RFC 6376 §3.6.1)."""
    from dkim import DKIMException, evaluate_pk

    tags = {name: value.strip() for name, value in _tags(text).items()}
    if tags.get("p") == "":
        return "was revoked (its p= is empty), so that every signature made with it fails"
    if "p" not in tags:
        return "is none: its record has no p="
    if tags.get("v", "DKIM1") != "DKIM1":
        return "is of another version than v=DKIM1"
    if tags.get("k", "rsa") not in {"rsa", "ed25519"}:
        return "is neither an RSA nor an Ed25519 key (k=)"
    try:
        _, bits, kind, _ = evaluate_pk(place, text)
    except (DKIMException, ValueError):
        return "cannot be read; it may have been cut off or changed when it was published"
    return (
        f"has {bits} bits only; receivers want {STRONG} or more" if kind == b"rsa" and bits < STRONG else None
    )
