"""/consent and /oauth: where a provider sends browsers back to. HTML for people, never JSON.

Nobody is signed in here: the `state` in the query or form is what proves who began it (`flows`).
"""

from collections.abc import Callable, Mapping

from handlers import browser
from handlers.answers import Answer
from handlers.calls import Call, Query
from handlers.http import Reply, Routes
from shared import authorizing, logs, pages, returning
from shared.app import App
from shared.contract import AskConsent, ConsentLink
from shared.flows import Refused
from shared.returning import Outcome

bp = Routes()

STATE = Query("state", "What proves who began it.")
ERROR = Query("error", "Why the provider refused.")
CONSENTED = (
    STATE,
    Query("tenant", "The directory that approved."),
    Query("admin_consent", "True where it did."),
    ERROR,
)
SIGNED_IN = (STATE, Query("code", "What is exchanged for the tokens."), ERROR)
ASKED = (STATE, Query("answer", "yes or no."))
ONWARDS = (Reply(302, headers=("Location",)),)
"""To the provider's sign-in, which proves who approved."""


@bp.endpoint("POST", "integrations/{provider}/consent", who="admin", body=AskConsent, answer=ConsentLink)
def ask_consent(call: Call[AskConsent]) -> Answer:
    """Make the personal link by which your administrator approves Zalion at the provider."""
    url, expires_at = authorizing.ask_consent(call.app, call.caller, call.path("provider"), call.body)
    return Answer(ConsentLink(url=url, expires_at=expires_at))


@bp.endpoint("GET", "consent/{provider}/callback", who="browser", answer=str, query=CONSENTED, also=ONWARDS)
def consent_callback(call: Call[None]) -> Answer:
    """Come back from the provider's consent page."""
    return _shown(call, returning.consented, call.request.params)


@bp.endpoint("GET", "oauth/{provider}/callback", who="browser", answer=str, query=SIGNED_IN)
def oauth_callback(call: Call[None]) -> Answer:
    """Come back from the provider's sign-in page."""
    return _shown(call, returning.signed_in, call.request.params)


@bp.endpoint("POST", "oauth/{provider}/answer", who="browser", answer=str, form=ASKED)
def oauth_answer(call: Call[None]) -> Answer:
    """Say whether to go on with what somebody else asked for (the form of the page after a sign-in)."""
    return _shown(call, returning.answered, call.form())


def _shown(
    call: Call[None], finish: Callable[[App, str, Mapping[str, str]], Outcome], given: Mapping[str, str]
) -> Answer:
    """Finish what the browser comes back with, and show what came of it; refusals are shown by the edge."""
    try:
        outcome = finish(call.app, call.path("provider"), given)
    except Refused as refused:
        logs.log("sign_in.refused", code=refused.error.reason or refused.error.code)
        html = browser.refusal(call.request, refused.error, refused.return_url)
        return Answer(html, status=refused.error.status, headers=pages.HEADERS)
    if outcome.url and outcome.after is None:
        return Answer(b"", status=302, headers={"Location": outcome.url, "Referrer-Policy": "no-referrer"})
    return Answer(browser.success(call.request, outcome), headers=pages.HEADERS)
