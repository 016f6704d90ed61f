"""/domains: proving that a sender domain is the organisation's."""

from handlers.answers import Answer
from handlers.calls import Call
from handlers.http import Routes
from shared import proving, views
from shared.contract import DomainResource, Items

bp = Routes()


@bp.endpoint("GET", "domains", who="admin", answer=Items[DomainResource])
def list_domains(call: Call[None]) -> Answer:
    """The organisation's sender domains, proven and waiting."""
    return Answer(Items(items=[views.domain(proof) for proof in proving.listed(call.app, call.caller)]))


@bp.endpoint("PUT", "domains/{domain}", who="admin", answer=DomainResource)
def put_domain(call: Call[None]) -> Answer:
    """Ask for the DNS record that proves a domain; the same one however often it is asked for."""
    return Answer(views.domain(proving.ask(call.app, call.caller, call.path("domain"))))


@bp.endpoint("POST", "domains/{domain}/verify", who="admin", answer=DomainResource)
def verify_domain(call: Call[None]) -> Answer:
    """Look the record up now: the domain is proven, or a problem says what to publish."""
    return Answer(views.domain(proving.verify(call.app, call.caller, call.path("domain"))))
