"""Proving that a domain is the organisation's: its administrator publishes what only we told them.

The record is `_zalion-challenge.<domain>` with our token (as RFC 8659's and ACME's proofs, a name of its
own that nobody else writes). The proof is kept; asking again takes it back where the record is gone.
"""

import secrets
from dataclasses import replace

from shared import audit, relaying, rules
from shared.app import App
from shared.callers import Caller
from shared.errors import Conflict, NotFound, Raced
from shared.model import DomainProof
from shared.storage.base import Add, Move, Stored


def listed(app: App, caller: Caller) -> list[DomainProof]:
    """Return the organisation's domains, proven and waiting."""
    caller.need("admin")
    return [stored.value for stored in app.records.range(caller.org_id, DomainProof)]


def ask(app: App, caller: Caller, text: str) -> DomainProof:
    """Return the domain with the record to publish; the same one however often it is asked for."""
    caller.need("admin")
    domain = rules.domain(text, "domain")
    stored = app.records.find(caller.org_id, DomainProof, domain)
    if stored:
        return stored.value
    proof = DomainProof(domain, secrets.token_urlsafe(24), app.clock())
    event = audit.entry(app, "domain.asked", actor=caller.email, detail=domain)
    try:
        app.records.commit(caller.org_id, Add(proof), event)
    except Raced:
        return app.records.get(caller.org_id, DomainProof, domain).value
    return proof


def verify(app: App, caller: Caller, text: str) -> DomainProof:
    """Look the record up and keep what it proves.

    Raises NotFound for a domain that nobody asked for, Conflict where the record is not there (an older
    proof ends with it), Temporary where the DNS does not answer (an older proof stays).
    """
    caller.need("admin")
    domain = rules.domain(text, "domain")
    stored = app.records.find(caller.org_id, DomainProof, domain)
    if stored is None:
        raise NotFound("This domain was not asked for.", fix=f"Begin with PUT /domains/{domain}.")
    proof = stored.value
    found = app.lookups.txt(proof.name)
    there = proof.text in [text.strip() for text in found]
    _keep(app, caller, stored, there=there)
    if not there:
        seen = f"{len(found)} other TXT records are there." if found else "No TXT record is there."
        fix = f'Publish a TXT record at {proof.name} with the text "{proof.text}", wait, and verify again.'
        raise Conflict(f"The domain is not proven. {seen}", field="domain", fix=fix)
    return app.records.get(caller.org_id, DomainProof, domain).value


def _keep(app: App, caller: Caller, stored: Stored[DomainProof], *, there: bool) -> None:
    now, old = app.clock(), stored.value
    proven_at = (old.proven_at or now) if there else None
    new = replace(old, state="proven" if there else "waiting", proven_at=proven_at, checked_at=now)
    outcome = "proven" if there else "not_found"
    event = audit.entry(app, "domain.verified", actor=caller.email, outcome=outcome, detail=old.domain)
    app.records.commit(caller.org_id, Move(stored, new), event)
    relaying.forget(app, caller.org_id)
