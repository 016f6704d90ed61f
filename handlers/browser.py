"""What people see in a browser: a page in their language, for what went well and for what did not."""

import azure.functions as func

from shared import explaining, logs, pages
from shared.errors import Temporary, ZalionError
from shared.explaining import Explanation
from shared.returning import Outcome


def success(request: func.HttpRequest, outcome: Outcome) -> bytes:
    """Render how a consent or sign-in ended, or that it is waited for."""
    language = _language(request)
    people = {"address": outcome.address, "actor": outcome.actor, "owner": outcome.owner}
    explanation = explaining.explain(outcome.key, language, **people)
    html = pages.page(
        explanation,
        language=language,
        mood="waiting" if outcome.after or outcome.ask else "good",
        correlation_id=logs.correlation_id(),
        return_url=outcome.return_url,
        retry_url=outcome.url,
        retry_after=outcome.after,
        ask=outcome.ask,
    )
    return html.encode()


def refusal(request: func.HttpRequest, error: ZalionError, return_url: str | None = None) -> bytes:
    """Render why it came to nothing, and what to do next."""
    language = _language(request)
    html = pages.page(
        _explained(error, language),
        language=language,
        mood="bad",
        correlation_id=logs.correlation_id(),
        return_url=return_url,
    )
    return html.encode()


def _language(request: func.HttpRequest) -> str:
    return explaining.language_of(request.headers.get("accept-language"))


def _explained(error: ZalionError, language: str) -> Explanation:
    """The explanation in the user's language; our own words, which are English, only to who reads English."""
    if error.reason:
        return explaining.explain(error.reason, language, **error.facts)
    general = explaining.explain("try_later" if isinstance(error, Temporary) else "unexpected", language)
    if language != "en" or isinstance(error, Temporary):
        return general
    return Explanation(general.key, general.title, error.detail, error.fix or general.fix)
