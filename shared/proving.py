"""Proving that a domain is the organisation's: its administrator publishes what only we told them.

The record is `_zalion-challenge.<domain>` with our token (as RFC 8659's and ACME's proofs, a name of its
own that nobody else writes). The proof is kept; asking again takes it back where the record is gone.
"""

import secrets
from contextlib import suppress
from dataclasses import replace

from shared import audit, relaying, rules
from shared.app import App
from shared.callers import Caller
from shared.errors import Conflict, NotFound, Raced
from shared.model import DomainProof
from shared.storage.base import Add, Move, Stored, every


def listed(app: App, caller: Caller) -> list[DomainProof]:
    """Return the organisation's domains, proven and waiting."""
    caller.need("admin")
    return [stored.value for stored in every(app.records, caller.org_id, DomainProof)]


def ask(app: App, caller: Caller, text: str) -> DomainProof:
    """Return the domain with the record to publish; the same one however often it is asked for."""
    caller.need("admin")
    return _asked(app, caller.org_id, rules.domain(text, "domain"), caller.email).value


def verify(app: App, caller: Caller, text: str) -> DomainProof:
    """Look the record up and keep what it proves.

    Raises NotFound for a domain that nobody asked for, Conflict where the record is not there (an older
    proof ends with it), Temporary where the DNS does not answer (an older proof stays).
    """
    caller.need("admin")
    domain = rules.domain(text, "domain")
    stored = app.records.find(caller.org_id, DomainProof, domain)
    if stored is None:
        fix = f"Begin with PUT /domains/{domain}."
        raise NotFound("This domain was not asked for.", field="domain", fix=fix)
    _proven(app, caller.org_id, stored, caller.email, "domain", f"call POST /domains/{domain}/verify again")
    return app.records.get(caller.org_id, DomainProof, domain).value


def insist(app: App, org_id: str, domain: str, actor: str, field: str) -> None:
    """Have a domain proven now, whatever was proven before: something is about to depend on it.

    Raises Conflict naming `field` and the record to publish, Temporary where the DNS does not answer.
    """
    _proven(app, org_id, _asked(app, org_id, domain, actor), actor, field, "save this again")


def _asked(app: App, org_id: str, domain: str, actor: str) -> Stored[DomainProof]:
    stored = app.records.find(org_id, DomainProof, domain)
    if stored:
        return stored
    proof = DomainProof(domain, secrets.token_urlsafe(24))
    with suppress(Raced):  # somebody asked at the same moment
        app.records.commit(org_id, Add(proof), audit.entry(app, "domain.asked", actor=actor, detail=domain))
    return app.records.get(org_id, DomainProof, domain)


def _proven(app: App, org_id: str, stored: Stored[DomainProof], actor: str, field: str, then: str) -> None:
    """Look the record up and keep what was found. Raises Conflict where it is not there."""
    proof = stored.value
    found = app.lookups.txt(proof.name)
    there = proof.text in [text.strip() for text in found]
    _keep(app, org_id, stored, actor, there=there)
    if not there:
        seen = f"{len(found)} other TXT records are there." if found else "No TXT record is there."
        fix = f'Publish a TXT record at {proof.name} with the text "{proof.text}", wait, and {then}.'
        raise Conflict(f"The domain {proof.domain} is not proven. {seen}", field=field, fix=fix)


def _keep(app: App, org_id: str, stored: Stored[DomainProof], actor: str, *, there: bool) -> None:
    now, old = app.clock(), stored.value
    proven_at = (old.proven_at or now) if there else None
    new = replace(old, state="proven" if there else "waiting", proven_at=proven_at, checked_at=now)
    outcome = "proven" if there else "not_found"
    event = audit.entry(app, "domain.verified", actor=actor, outcome=outcome, detail=old.domain)
    app.records.commit(org_id, Move(stored, new), event)
    relaying.forget(app, org_id)
