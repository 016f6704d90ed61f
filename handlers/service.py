"""GET /health and GET /openapi.json: what anyone may ask."""

from typing import Any

from handlers import openapi
from handlers.answers import Answer
from handlers.calls import Call
from handlers.http import Reply, Routes
from shared import bootstrap, checking
from shared.contract import Health

bp = Routes()


@bp.endpoint("GET", "health", who="anyone", answer=Health, also=(Reply(503, "application/json", Health),))
def health(call: Call[None]) -> Answer:
    """Readiness by part, and what lies in poison queues; 503 where a part does not answer."""
    found = checking.health(call.app, bootstrap.tokens())
    return Answer(found, status=503 if found.status == "failed" else 200)


@bp.endpoint("GET", "openapi.json", who="anyone", answer=dict[str, Any])
def openapi_document(call: Call[None]) -> Answer:
    """This contract, generated from the code."""
    return Answer(openapi.document(call.request.url))
