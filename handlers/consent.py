"""/consent and /oauth: where a provider sends browsers back to. HTML for people, never JSON.

Nobody is signed in here: the `state` in the query is what proves who began it (`authorizing`).
"""

from collections.abc import Callable

import azure.functions as func

from handlers.http import Answer, Call, Routes, correlation
from shared import authorizing, explaining, logs, pages
from shared.app import App
from shared.authorizing import Outcome, Refused
from shared.contract import AskConsent, ConsentLink
from shared.errors import ZalionError

bp = Routes()


@bp.endpoint("POST", "integrations/{provider}/consent", who="admin", body=AskConsent, answer=ConsentLink)
def ask_consent(call: Call[AskConsent]) -> Answer:
    """Make the personal link by which your administrator approves Zalion at the provider."""
    url, expires_at = authorizing.ask_consent(call.app, call.caller, call.path("provider"), call.body)
    return Answer(ConsentLink(url=url, expires_at=expires_at))


@bp.endpoint("GET", "consent/{provider}/callback", who="browser", answer=str)
def consent_callback(call: Call[None]) -> Answer:
    """Come back from the provider's consent page."""
    return _shown(call, authorizing.consented)


@bp.endpoint("GET", "oauth/{provider}/callback", who="browser", answer=str)
def oauth_callback(call: Call[None]) -> Answer:
    """Come back from the provider's sign-in page."""
    return _shown(call, authorizing.signed_in)


def _shown(call: Call[None], finish: Callable[[App, str, dict[str, str]], Outcome]) -> Answer:
    """Finish what the browser comes back with, and show what came of it in its language."""
    language = explaining.language_of(call.request.headers.get("accept-language"))
    try:
        outcome = finish(call.app, call.path("provider"), dict(call.request.params))
    except Refused as refused:
        logs.log("sign_in.refused", code=refused.error.reason or refused.error.code)
        return _page(call.request, language, _explained(refused.error, language), False, refused.return_url)
    if outcome.url and outcome.after is None:
        return Answer(b"", status=302, headers={"Location": outcome.url})
    explanation = explaining.explain(outcome.key, language, address=outcome.address)
    return _page(call.request, language, explanation, True, outcome.return_url, outcome)


def _page(
    request: func.HttpRequest,
    language: str,
    explanation: explaining.Explanation,
    good: bool,
    return_url: str | None,
    outcome: Outcome | None = None,
) -> Answer:
    html = pages.page(
        explanation,
        language=language,
        good=good,
        correlation_id=correlation(request),
        return_url=return_url,
        retry_url=outcome.url if outcome else None,
        retry_after=outcome.after if outcome else None,
    )
    return Answer(html.encode(), headers=dict(pages.HEADERS))


def _explained(error: ZalionError, language: str) -> explaining.Explanation:
    """The explanation in the user's language, or our own words where there is none."""
    if error.reason:
        return explaining.explain(error.reason, language)
    general = explaining.explain("unexpected", language)
    return explaining.Explanation(error.code, general.title, error.detail, error.fix or general.fix)
