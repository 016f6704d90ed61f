"""/notifications: providers tell that there is news. A hint is checked, enqueued and acknowledged, no more.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks, https://docs.cloud.google.com/pubsub/docs/push
"""

from handlers.answers import Answer
from handlers.calls import Call, Query
from handlers.http import Reply, Routes
from shared import noticing
from shared.contract import Accepted

bp = Routes()

LONGEST_TOKEN = 1024
_PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
QUESTION = (Query("validationToken", "Microsoft's question whether we are there; it is the answer."),)
ANSWERED = (Reply(200, "text/plain", str),)


@bp.endpoint(
    "POST",
    "notifications/{provider}",
    who="provider",
    answer=Accepted,
    status=202,
    query=QUESTION,
    also=ANSWERED,
)
def notify(call: Call[None]) -> Answer:
    """Take a provider's notification of new mail, or answer its question whether we are there."""
    return _taken(call)


@bp.endpoint(
    "POST",
    "notifications/{provider}/lifecycle",
    who="provider",
    answer=Accepted,
    status=202,
    query=QUESTION,
    also=ANSWERED,
)
def notify_lifecycle(call: Call[None]) -> Answer:
    """Take a provider's word about the subscription itself."""
    return _taken(call)


def _taken(call: Call[None]) -> Answer:
    token = call.request.params.get("validationToken")
    if token is not None:  # decoded already; anything but the bare token makes the subscription fail
        return Answer(token[:LONGEST_TOKEN].encode(), headers=_PLAIN)
    authorization = call.request.headers.get("authorization") or ""
    noticing.take(call.app, call.path("provider"), call.request.get_body(), authorization)
    return Answer(Accepted(), status=202)
