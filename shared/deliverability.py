"""Whether what a mailbox sends will be believed: MX and its TLS, SPF, DKIM, DMARC, and the record to publish.

We are not the receiving server: what it will make of a mail is up to it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shared import proofs
from shared.app import App
from shared.contract import CheckResource
from shared.errors import InvalidRequest, Temporary, ZalionError
from shared.model import Mailbox
from shared.providers import wording

CLOUD_MX = (".mail.protection.outlook.com", ".mx.microsoft", ".google.com", ".googlemail.com")
"""Their TLS is known, and port 25 is closed on the way out of most clouds."""

SPF_OF = {"microsoft": "include:spf.protection.outlook.com", "google": "include:_spf.google.com"}
"""What must be allowed to send for a domain whose mail these take."""

PROBED = 2
"""MX hosts whose TLS is looked at."""

PATIENCE = 20.0
"""Seconds for the DNS: a domain may name hundreds of places, and somebody waits for the answer."""

MOST_REPORTED = 10
"""Places that reports go to; receivers need to serve two (RFC 9990 §4)."""

_ALLOWS = re.compile(r"(?i) \+?((include|a|mx|ptr|ip4|ip6|exists)\b(?!=)|redirect=)")
"""What lets somebody send (RFC 7208 §5, §6.1); a library's tree lacks what cannot be resolved just now."""

_SELECTOR = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
AGAIN = "Test again in a few minutes."


@dataclass(frozen=True)
class Examination:
    """One sender domain, seen from outside.

    Attributes:
        selector: the DKIM selector to look at; else the one in `arrived`.
        arrived: a mail of this mailbox as it arrived, if one did.
        patience: seconds for the DNS, for all findings together.
    """

    app: App
    mailbox: Mailbox
    selector: str | None = None
    arrived: bytes = b""
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        """Raise InvalidRequest for what is no selector."""
        if self.selector is not None and not _SELECTOR.fullmatch(self.selector):
            raise InvalidRequest("This is not a DKIM selector.", field="dkimSelector")

    @property
    def domain(self) -> str:
        """Whose records are looked at."""
        return self.mailbox.address.rpartition("@")[2]

    def findings(self) -> Iterator[CheckResource]:
        """Look at each part; what cannot be looked at is `skipped`, with the reason."""
        hurried = replace(self, app=replace(self.app, lookups=self.app.lookups.within(self.patience)))
        parts: dict[str, Callable[[], CheckResource]] = {
            "mx": hurried.mx,
            "mx_tls": hurried.mx_tls,
            "spf": hurried.spf,
            "dkim": hurried.dkim,
            "dmarc": hurried.dmarc,
        }
        for name, look in parts.items():
            try:
                yield look()
            except ZalionError as error:  # the DNS is silent, or what is published names something impossible
                yield CheckResource(name=name, status="skipped", detail=error.detail, fix=error.fix or AGAIN)

    def mx(self) -> CheckResource:
        """Whether the domain takes mail, so that it can be answered."""
        hosts = self.app.lookups.mx(self.domain)
        if hosts:
            return _ok("mx", f"Mail for {self.domain} goes to {', '.join(hosts[:3])}.")
        fix = f"Publish an MX record at {self.domain} that names its mail server."
        return _warning("mx", f"{self.domain} names no server that takes mail (MX).", fix)

    def mx_tls(self) -> CheckResource:
        """Whether its servers take mail encrypted, with a certificate for their names."""
        hosts = self.app.lookups.mx(self.domain)[:PROBED]
        probed = [host for host in hosts if not f".{host}".endswith(CLOUD_MX)]
        if not probed:
            known = "Microsoft and Google take mail encrypted." if hosts else "There is no server to look at."
            return CheckResource(name="mx_tls", status="ok" if hosts else "skipped", detail=known)
        for host in probed:
            try:
                offered = proofs.offers_tls(self.app, host)
            except InvalidRequest as error:
                return _warning("mx_tls", f"{host}: {error.detail}", error.fix or "Ask who runs this server.")
            except Temporary as error:
                words = f"{host} cannot be reached from here; most clouds close port 25 on the way out."
                raise Temporary(words) from error
            if not offered:
                fix = f"Have STARTTLS switched on at {host}, with a certificate for that name."
                return _warning("mx_tls", f"{host} takes mail in plain text only.", fix)
        return _ok("mx_tls", "Mail to the domain is taken encrypted, and the certificates fit.")

    def spf(self) -> CheckResource:
        """Who may send for the domain."""
        mechanism = SPF_OF.get(self.mailbox.sends_with or "", "mx")
        wanted = f'"v=spf1 {mechanism} -all"'
        fix = f"Publish a TXT record at {self.domain}: {wanted}"
        if mechanism == "mx":
            fix += ", with what your mail provider tells you to put before -all"
        found = self.app.lookups.txt(self.domain)
        records = [text for text in found if re.match(r"(?i)v=spf1( |$)", text)]
        if not records:
            detail = (
                f"{self.domain} does not say who may send for it (SPF), so its mail is easily taken for junk."
            )
            return _warning("spf", detail, f"{fix}.")
        judged = proofs.spf(self.domain, self.app)
        if judged.get("error"):
            words = wording.clean(str(judged["error"])).rstrip(".")
            return _warning("spf", f"The SPF record is not valid: {words}.", f"Correct it. {fix}.")
        return self._allowed(judged.get("parsed") or {}, mechanism, f"{fix}.", wording.clean(records[0]))

    def _allowed(self, parsed: Mapping[str, Any], mechanism: str, fix: str, record: str) -> CheckResource:
        """Judge a valid SPF record by whom it allows to send."""
        if parsed.get("all") == "pass":
            return _warning(
                "spf", "The SPF record allows everybody to send (+all).", f"End it with -all: {fix}"
            )
        if mechanism != "mx" and not proofs.includes(parsed, mechanism.removeprefix("include:")):
            detail = f"The SPF record does not allow the servers that send for you: {mechanism} is missing."
            return _warning("spf", detail, f"Add {mechanism} to it: {fix}")
        if not _ALLOWS.search(record):
            return _warning("spf", f"The SPF record allows nobody to send: {record}.", fix)
        told = f"{self.domain} says who may send for it: {record}."
        if parsed.get("all") == "neutral":
            told += " It does not say that others may not: end it with -all or ~all."
        return _ok("spf", told)

    def dkim(self) -> CheckResource:
        """Whether mail is signed, for a domain that counts as the sender's, with a key that is published."""
        signature = proofs.signature(self.arrived)
        if self.selector is None and signature:
            return self._verified(signature)
        if self.selector is None:
            detail = (
                "The test mail came without a DKIM signature; many servers sign no mail to their own users."
            )
            fix = "Ask your mail provider for the selector and test again with ?dkimSelector=..."
            return CheckResource(name="dkim", status="skipped", detail=detail, fix=fix)
        place = f"{self.selector}._domainkey.{self.domain}"
        return self._key(place) or _ok("dkim", f"A key to check signatures with is published at {place}.")

    def dmarc(self) -> CheckResource:
        """What receivers are asked to do with mail that only pretends to come from the domain."""
        place = f"_dmarc.{self.domain}"
        fix = f'Publish a TXT record at {place}: "v=DMARC1; p=none; rua=mailto:postmaster@{self.domain}"'
        published = self.app.lookups.txt(place)  # says whether the DNS answers at all
        if any(proofs.reports(text) > MOST_REPORTED for text in published):
            detail = f"The DMARC record has reports sent to more than {MOST_REPORTED} places."
            return _warning("dmarc", detail, f"Name one or two of them at {place} (rua=, ruf=).")
        judged = proofs.dmarc(self.domain, self.app)
        if judged.get("error"):
            words = wording.clean(str(judged["error"])).rstrip(".")
            return _warning("dmarc", f"There is no DMARC record that counts: {words}.", f"{fix}.")
        tags = judged["tags"]
        signer = (proofs.signature(self.arrived) or {}).get("d", "")
        if signer and not proofs.aligned(signer, self.domain, strict=tags["adkim"]["value"] == "s"):
            detail = f"Mail is signed for {signer}, which does not count as {self.domain} (DMARC alignment)."
            return _warning("dmarc", detail, f"Have your mail provider sign for {self.domain} itself.")
        # a record of the organisational domain may say something else for what lies below it
        tag = "p" if str(judged.get("location", self.domain)).lower() == self.domain else "sp"
        policy = tags[tag]["value"]
        meaning = {"none": "only reported", "quarantine": "put aside", "reject": "refused"}
        detail = f"Forged mail is to be {meaning.get(policy, policy)} ({tag}={policy})."
        return _ok("dmarc", f"{detail} What we send is aligned: From and sender are {self.domain}.")

    def _verified(self, signature: dict[str, str]) -> CheckResource:
        place = f"{signature.get('s', '')}._domainkey.{signature.get('d', '')}"
        problem = self._key(place)
        if problem:
            return problem
        if not proofs.holds(self.arrived, self.app):
            fix = "Look for what changes mail after it was signed: a footer, a gateway, an old key."
            return _warning("dkim", f"The signature of the test mail does not fit the key at {place}.", fix)
        return _ok("dkim", f"The test mail is signed; the key is published at {place}.")

    def _key(self, place: str) -> CheckResource | None:
        """Return what is wrong with a published key, if anything is."""
        fix = (
            f'Publish a TXT record at {place}: "v=DKIM1; k=rsa; p=<the public key your mail provider shows>"'
        )
        texts = self.app.lookups.txt(place)
        if not texts:
            return _warning(
                "dkim", f"No key is published at {place}, so signatures cannot be checked.", f"{fix}."
            )
        problem = proofs.key_problem(place, texts[0])
        return _warning("dkim", f"The key at {place} {problem}.", f"{fix}.") if problem else None


def _ok(name: str, detail: str) -> CheckResource:
    return CheckResource(name=name, status="ok", detail=detail)


def _warning(name: str, detail: str, fix: str) -> CheckResource:
    return CheckResource(name=name, status="warning", detail=detail, fix=fix)
