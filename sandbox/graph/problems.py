"""Graph's error answers.

https://learn.microsoft.com/graph/errors
"""

import secrets
import time

from sandbox.web import Reply


class GraphError(Exception):
    """An error answer; header names are written with underscores."""

    def __init__(self, status: int, code: str, words: str = "", **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.words = status, code, words or code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def problem(error: GraphError) -> Reply:
    """Make the answer of an error."""
    inner = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "request-id": secrets.token_hex(8),
        "client-request-id": secrets.token_hex(8),
    }
    body = {"error": {"code": error.code, "message": error.words, "innerError": inner}}
    return Reply(error.status, body, error.headers)
