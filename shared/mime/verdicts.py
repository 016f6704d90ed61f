"""Did the receiving system find the sender genuine? Authentication-Results, read with suspicion. Pure.

We are not the receiving server, and whoever mails us can write such a header: only the writer the
mailbox is pinned to (RFC 8601 section 5) can say "pass". "fail" is believed from anybody, since a
stranger who adds it harms only himself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from shared.mime.addresses import claimed, read
from shared.model import Envelope, Verdict

NAMELESS = "-"
"""Stands for a receiving system that puts a header without its name above all others: Exchange Online.

What a sender wrote lies below it, so only the topmost counts, and only if it is nameless
(https://github.com/emersion/go-msgauth/issues/64, 2024; microsoft learn message-headers-eop-mdo).
"""

_MOST = 20
_LONGEST = 4096
_FAILED = {"fail", "hardfail"}
_EXCUSES = {"arc", "compauth"}
"""With these the writer says that it knows why DMARC failed: a forwarder, a list.

https://learn.microsoft.com/defender-office-365/email-authentication-arc-configure (compauth=pass reason=130)
"""


@dataclass(frozen=True, slots=True)
class _Result:
    """One result of one writer: `dkim=pass` and the domains it is about."""

    method: str
    word: str
    domains: tuple[str, ...]


def authentication(envelope: Envelope, authserv_id: str | None) -> Verdict:
    """Return the verdict on the From address.

    Args:
        envelope: its headers; not exactly one From address is a fail. So is one that other readers may not
            find, but where it passes: then the receiving system found the mail to be its domain's.
        authserv_id: the only writer believed to say pass, or NAMELESS; None: a pass is no more than unknown.
    """
    person = claimed(envelope)
    verdict = _verdict(envelope, person.address.rpartition("@")[2], authserv_id) if person else "fail"
    return verdict if envelope.sender or verdict == "pass" else "fail"


def as_judged(envelope: Envelope, authserv_id: str | None) -> Envelope:
    """Name the sender whom other readers may not find where the verdict, as above, is a pass."""
    if envelope.sender or authentication(envelope, authserv_id) != "pass":
        return envelope
    return replace(envelope, sender=claimed(envelope))


def _verdict(envelope: Envelope, domain: str, authserv_id: str | None) -> Verdict:
    believed: list[_Result] = []
    headers = _headers(envelope)
    for writer, results in islice(headers, 1) if authserv_id == NAMELESS else headers:
        if authserv_id is None and _fails(results, domain):
            return "fail"
        if authserv_id is not None and writer == authserv_id.lower():
            believed += _first_of_each(results, believed)
    if _fails(believed, domain):
        return "unknown" if any(r.method in _EXCUSES and r.word == "pass" for r in believed) else "fail"
    return "pass" if _passes(believed, domain) else "unknown"


def _fails(results: list[_Result], domain: str) -> bool:
    """DMARC failed, or both signature and path of this domain did."""
    said = {
        result.method
        for result in results
        if result.word in _FAILED and (_about(result, domain) or not result.domains)
    }
    passed = any(result.word == "pass" and _about(result, domain) for result in results)
    return "dmarc" in said or ({"dkim", "spf"} <= said and not passed)


def _passes(results: list[_Result], domain: str) -> bool:
    """DMARC decides where it was checked; else a signature or path of the very domain."""
    dmarc = [result for result in results if result.method == "dmarc" and result.word != "none"]
    if dmarc:
        return any(result.word == "pass" and domain in result.domains for result in dmarc)
    return any(r.method in {"dkim", "spf"} and r.word == "pass" and _about(r, domain) for r in results)


def _about(result: _Result, domain: str) -> bool:
    """Whether a result is about the From domain: the same for DMARC, the same or a parent for the others."""
    if result.method == "dmarc":
        return domain in result.domains
    return any(one == domain or ("." in one and domain.endswith(f".{one}")) for one in result.domains)


def _first_of_each(results: list[_Result], believed: list[_Result]) -> Iterator[_Result]:
    """Of one writer the topmost header counts, method by method: servers prepend (RFC 8601 section 4)."""
    known = {result.method for result in believed}
    return (result for result in results if result.method not in known)


def _headers(envelope: Envelope) -> Iterator[tuple[str, list[_Result]]]:
    """Yield (writer in lower case, its results), topmost first; what cannot be read says nothing."""
    from authres import all_features  # only mails that may be ours come this far
    from authres.core import AuthenticationResultsHeader, AuthResError

    features = all_features()  # type: ignore[no-untyped-call]
    for value in envelope.headers.get("authentication-results", ())[:_MOST]:
        text = " ".join(value[:_LONGEST].split())
        if "=" in text.partition(";")[0]:
            text = f"{NAMELESS}; {text}"
        try:
            header = AuthenticationResultsHeader.parse_value(features, text)  # type: ignore[no-untyped-call]
        except (AuthResError, RecursionError):
            yield "", []  # nothing can be concluded from a header that is none
            continue
        yield str(header.authserv_id).lower(), [_result(result) for result in header.results]


def _result(result: object) -> _Result:
    properties = getattr(result, "properties", ())
    names = {"dmarc": {"from"}, "dkim": {"d", "i", "from"}, "spf": {"mailfrom", "from"}}
    method = str(getattr(result, "method", "")).lower()
    wanted = names.get(method, set())
    domains = tuple(_domain(str(p.value)) for p in properties if p.name in wanted and p.value)
    return _Result(method, str(getattr(result, "result", "")).lower(), domains)


def _domain(value: str) -> str:
    """Return the A-label domain of a domain or an address."""
    found = read((value if "@" in value.strip("@") else f"x@{value.strip('@')}",))
    return found[0].address.rpartition("@")[2] if found else ""
