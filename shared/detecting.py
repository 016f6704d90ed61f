"""Proposing servers for an address by what its domain publishes: nothing is tried, nothing is kept.

Sources: the MX records (whose mail Microsoft or Google take needs no server settings), SRV records (RFC
6186, RFC 8314), and autoconfiguration files. All are asked at once, each with a deadline, and a host
that they name is judged again when a mailbox is connected with it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

from shared import mime
from shared.app import App
from shared.callers import Caller
from shared.contract import Detected, Proposal, SourceResource
from shared.errors import ZalionError
from shared.providers import autoconfig, registry
from shared.providers.autoconfig import Place

Source = Literal["mx", "srv", "autoconfig"]

CLOUDS = {
    "microsoft": (".mail.protection.outlook.com", ".mx.microsoft"),
    "google": ("aspmx.l.google.com", ".aspmx.l.google.com", "smtp.google.com", ".googlemail.com"),
}
"""Whose MX hosts these are: https://learn.microsoft.com/microsoft-365/enterprise/external-domain-name-system-records
and https://support.google.com/a/answer/174125 (2026-11)."""

SERVICES = {
    "_imaps._tcp": ("imap", "tls"),
    "_imap._tcp": ("imap", "starttls"),
    "_pop3s._tcp": ("pop3", "tls"),
    "_pop3._tcp": ("pop3", "starttls"),
    "_submissions._tcp": ("smtp", "tls"),
    "_submission._tcp": ("smtp", "starttls"),
}
"""RFC 6186 section 3, RFC 8314 section 5.1; the better ones first."""


class _Found(NamedTuple):
    places: list[Proposal]
    source: SourceResource


def detect(app: App, caller: Caller, text: str) -> Detected:
    """Look in all sources for servers of an address. Raises InvalidRequest naming `address`."""
    caller.need("member", "admin")
    address = mime.check_address(text, "address")
    domain = address.rpartition("@")[2]
    asks: list[tuple[Source, str, Callable[[], list[Proposal]]]] = [
        ("mx", "MX", lambda: _clouds(app, domain))
    ]
    asks += [("srv", f"SRV {name}", _service(app, domain, name)) for name in SERVICES]
    asks += [
        ("autoconfig", url, _published(app, url, address))
        for url in (pattern.replace("{domain}", domain) for pattern in app.autoconfig_urls)
    ]
    with ThreadPoolExecutor(len(asks)) as pool:
        found = list(pool.map(lambda ask: _asked(ask[1], ask[2]), asks))
    proposals = _distinct([proposal for one in found for proposal in one.places])
    return _detected(address, proposals, [one.source for one in found])


def _asked(name: str, ask: Callable[[], list[Proposal]]) -> _Found:
    """Ask one source; that it failed is told, and keeps nobody from the others."""
    try:
        places = ask()
    except ZalionError as error:
        return _Found([], SourceResource(name=name, status="failed", detail=error.detail))
    return _Found(places, SourceResource(name=name, status="found" if places else "nothing"))


def _clouds(app: App, domain: str) -> list[Proposal]:
    hosts = app.lookups.mx(domain)[:1]
    names = [
        n for n, ends in CLOUDS.items() if any(f".{host}".endswith(end) for host in hosts for end in ends)
    ]
    return [Proposal(provider=n, settings={}, source="mx") for n in names]


def _service(app: App, domain: str, name: str) -> Callable[[], list[Proposal]]:
    protocol, security = SERVICES[name]

    def ask() -> list[Proposal]:
        found = app.lookups.srv(f"{name}.{domain}")
        return [_proposal("srv", Place(protocol, one.host, one.port, security)) for one in found if one.port]

    return ask


def _published(app: App, url: str, address: str) -> Callable[[], list[Proposal]]:
    def ask() -> list[Proposal]:
        text = autoconfig.fetch(url, app.allowed_hosts)
        places = autoconfig.read(text, address) if text is not None else []
        return [_proposal("autoconfig", place) for place in places]

    return ask


def _proposal(source: Source, place: Place) -> Proposal:
    settings: dict[str, Any] = {"host": place.host, "port": place.port, "security": place.security}
    if place.username:
        settings["username"] = place.username
    return Proposal(provider=place.protocol, settings=settings, source=source)


def _distinct(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Best first: by provider as the registry has them, then as found; what two sources say is said once."""
    ranked = sorted(proposals, key=lambda proposal: registry.names().index(proposal.provider))
    kept: list[Proposal] = []
    for one in ranked:
        if (one.provider, one.settings) not in [(other.provider, other.settings) for other in kept]:
            kept.append(one)
    return kept


def _detected(address: str, proposals: list[Proposal], sources: list[SourceResource]) -> Detected:
    receiving = _first(proposals, "receiver")
    # who receives at a cloud sends there too, whatever else the domain publishes
    sending = receiving if receiving and receiving.provider in CLOUDS else _first(proposals, "sender")
    best = {one.provider: one.settings for one in (receiving, sending) if one and one.settings}
    return Detected(
        address=address,
        receives_with=receiving.provider if receiving else None,
        sends_with=sending.provider if sending else None,
        settings=best,
        proposals=proposals,
        sources=sources,
    )


def _first(proposals: Sequence[Proposal], power: str) -> Proposal | None:
    return next((one for one in proposals if getattr(registry.provider(one.provider), power)), None)
