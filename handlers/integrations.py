"""/integrations: IT's approval of providers."""

from handlers.answers import Answer
from handlers.calls import Call
from handlers.http import Routes
from shared import integrating, views
from shared.contract import Checks, IntegrationResource, Items, PutIntegration
from shared.providers import registry

bp = Routes()


@bp.endpoint("GET", "integrations", who="admin", answer=Items[IntegrationResource])
def list_integrations(call: Call[None]) -> Answer:
    """All providers, with their state and settings form."""
    shown = [integrating.show(call.app, call.caller, name) for name in registry.names()]
    return Answer(Items(items=[views.integration(*pair) for pair in shown]))


@bp.endpoint("GET", "integrations/{provider}", who="admin", answer=IntegrationResource)
def get_integration(call: Call[None]) -> Answer:
    """One provider's state and settings."""
    return Answer(views.integration(*integrating.show(call.app, call.caller, call.path("provider"))))


@bp.endpoint("PUT", "integrations/{provider}", who="admin", body=PutIntegration, answer=IntegrationResource)
def put_integration(call: Call[PutIntegration]) -> Answer:
    """Approve a provider, or withdraw the approval; replaces its shared settings."""
    pair = integrating.put(call.app, call.caller, call.path("provider"), call.body)
    return Answer(views.integration(*pair))


@bp.endpoint("POST", "integrations/{provider}/test", who="admin", answer=Checks)
def check_integration(call: Call[None]) -> Answer:
    """Try what your administrator entered at the provider: the listed mailboxes, and no other."""
    return Answer(Checks(checks=integrating.check(call.app, call.caller, call.path("provider"))))


@bp.endpoint("DELETE", "integrations/{provider}", who="admin", answer=IntegrationResource)
def delete_integration(call: Call[None]) -> Answer:
    """Withdraw the approval and disconnect every mailbox of this provider."""
    pair = integrating.disconnect(call.app, call.caller, call.path("provider"))
    return Answer(views.integration(*pair))
