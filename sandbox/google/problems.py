"""Google's error answers. https://developers.google.com/workspace/gmail/api/guides/handle-errors."""

from typing import Any, override

from sandbox.web import Reply

CHALLENGE = 'Bearer realm="https://accounts.google.com/", error='
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class Problem(Exception):
    """An error of an API."""

    def __init__(
        self,
        status: int,
        reason: str,
        words: str,
        *,
        word: str = "",
        domain: str = "global",
        headers: dict[str, str] | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(words)
        self.status, self.reason, self.words = status, reason, words
        self.word, self.domain = word or STATUS.get(status, "UNKNOWN"), domain
        self.headers, self.details = headers or {}, details

    def reply(self) -> Reply:
        """Return the answer."""
        each = {"message": self.words, "domain": self.domain, "reason": self.reason}
        if self.status == 401:
            each |= {"location": "Authorization", "locationType": "header"}
        error = {"code": self.status, "message": self.words, "errors": [each], "status": self.word}
        if self.details:
            error["details"] = self.details
        headers = {"Content-Type": "application/json; charset=UTF-8", **self.headers}
        return Reply(self.status, {"error": error}, headers)


class Page(Problem):
    """What a machine between us and Google answers in its place."""

    @override
    def reply(self) -> Reply:
        return Reply(self.status, b"<html><title>Blocked</title></html>", {"Content-Type": "text/html"})


class Refusal(Exception):
    """An error of OAuth's endpoints: `error` and `error_description`, and what else is in the answer."""

    def __init__(self, error: str, words: str = "", status: int = 400, **more: str) -> None:
        super().__init__(f"{error}: {words}")
        self.error, self.words, self.status, self.more = error, words, status, more

    def reply(self) -> Reply:
        """Return the answer."""
        body = {"error": self.error, **({"error_description": self.words} if self.words else {}), **self.more}
        return Reply(self.status, body)


def not_found() -> Problem:
    """There is no such thing."""
    return Problem(404, "notFound", "Requested entity was not found.")


def invalid(words: str) -> Problem:
    """The request is wrong."""
    return Problem(400, "invalidArgument", words)


def precondition(words: str) -> Problem:
    """The request is right, and what it is about is not as it has to be."""
    return Problem(400, "failedPrecondition", words, word="FAILED_PRECONDITION")


def withheld(status: int) -> Problem:
    """One mail is refused, in words that could be about the whole account."""
    reasons = {400: ("failedPrecondition", "Precondition check failed."), 403: ("forbidden", "Forbidden.")}
    reason, words = reasons.get(status, ("backendError", "Internal error encountered."))
    return Problem(status, reason, words)


def unauthenticated() -> Problem:
    """The token is missing, expired or revoked."""
    words = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other"
        " valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    return Problem(401, "authError", words, headers={"WWW-Authenticate": f'{CHALLENGE}"invalid_token"'})


def insufficient(method: str) -> Problem:
    """The token's scopes do not cover the method."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "domain": "googleapis.com",
        "metadata": {"service": "gmail.googleapis.com", "method": f"caribou.api.proto.{method}"},
    }
    return Problem(
        403,
        "insufficientPermissions",
        "Request had insufficient authentication scopes.",
        headers={"WWW-Authenticate": f'{CHALLENGE}"insufficient_scope"'},
        details=[detail],
    )
