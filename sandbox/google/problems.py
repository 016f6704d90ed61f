"""Google's error answers. https://developers.google.com/workspace/gmail/api/guides/handle-errors."""

from typing import Any

from sandbox.web import Reply

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


class Refusal(Exception):
    """An error of OAuth's token endpoint; `page` where the browser sees it instead of the app."""

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
