"""Calls of a provider's API over HTTPS.

Tokens go to the API's own origin only: paging links come back from the far side and are followed
verbatim, so their origin is compared first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import dumps, loads
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import msgspec

from shared.errors import Busy, ConsentRequired, RateLimited, Rejected, Temporary, ZalionError
from shared.providers import transport
from shared.providers.base import Bearer, Connection
from shared.providers.transport import TIMEOUT, NotSent

if TYPE_CHECKING:
    from requests import Response, Session

LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none. Half a character becomes a question mark."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _mended(self.body)

    @property
    def astray(self) -> bool:
        """Whether something on the way answered, and no API: with a redirect, or a page for people.

        Google's 308 names no other place: it asks for the rest of an upload.
        """
        page = self.headers.get("content-type", "").lower().startswith("text/html")
        return page or (self.status >= HTTPStatus.MULTIPLE_CHOICES and "location" in self.headers)

    def pause(self, default: float = 60.0) -> float:
        """Seconds to wait: `Retry-After` (RFC 9110 section 10.2.3), else `default`."""
        return _pause(self.headers.get("retry-after", ""), default)


Refusal = Callable[[Answer], ZalionError]


@dataclass
class Api:
    """One API and who speaks to it.

    Args:
        base: its URL, e.g. `https://graph.microsoft.com/v1.0`.
        title: what errors call it.
        bearer: gives the access token, asked for before every call; may raise ConsentRequired.
        refusal: turns an answer of 400 and above into an error.
        timeout: seconds to connect, and to wait for what comes next.
    """

    base: str
    title: str
    bearer: Callable[[], str]
    refusal: Refusal
    allowed_hosts: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: tuple[float, float] = TIMEOUT
    _session: "Session | None" = field(default=None, init=False, repr=False)

    @classmethod
    def of(
        cls,
        connection: Connection,
        endpoint: str,
        title: str,
        refusal: Refusal,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the API at one of a connection's endpoints, spoken to with the token of its mailbox.

        The token is asked for before each call; that raises ConsentRequired where there is a password.
        """

        def bearer() -> str:
            credential = connection.credential()
            if not isinstance(credential, Bearer):
                raise ConsentRequired(
                    f"{title} takes no passwords.", fix="Connect the mailbox by signing in."
                )
            return credential.token

        base = connection.endpoints[endpoint]
        return cls(base, title, bearer, refusal, connection.allowed_hosts, headers or {})

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one call; `path` is relative to the base, or a link of the API's own origin.

        Raises NotSent (also where there is no token to be had now), Temporary, or what `refusal` makes of
        the answer.
        """
        url = path if path.startswith("https:") else self.base + path
        if not self._is_own(url):
            raise Rejected(f"{self.title} gave a link to another host.")
        try:
            token = self.bearer()
        except (RateLimited, Busy):
            raise
        except Temporary as error:
            raise NotSent.of(error) from error
        sent = {**self.headers, **(headers or {}), "Authorization": f"Bearer {token}"}
        return self._answered(method, url, params, json, body, sent)

    def anonymous(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Call a pre-authenticated URL the API gave us, without any token."""
        return self._answered(method, url, None, None, body, headers)

    def close(self) -> None:
        """End the session; never raises."""
        session, self._session = self._session, None
        if session:
            session.close()

    def _is_own(self, url: str) -> bool:
        ours, theirs = urlsplit(self.base), urlsplit(url)
        return (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)

    def _answered(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        json: Any,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        if self._session is None:
            self._session = transport.session(self.allowed_hosts)
        with transport.translated(self.title):
            response = self._session.request(
                method,
                url,
                params=params,
                json=json,
                data=body,
                headers=headers,
                timeout=self.timeout,
                allow_redirects=False,
                stream=True,
            )
            answer = _read(response, self.title)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise self.refusal(answer)
        if answer.astray:
            raise Temporary(f"{self.title} gave an answer that is none.", retry_after=60)
        return answer


def _read(response: "Response", title: str) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, transport.body(response, title))


def _mended(body: bytes) -> Any:
    """Read JSON with halves of characters, which RFC 8259 (section 8.2) allows and msgspec refuses."""
    try:
        whole = dumps(loads(body), ensure_ascii=False).encode(errors="replace")
        return msgspec.json.decode(whole)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None


def _pause(text: str, default: float) -> float:
    if text.isdecimal():
        return min(float(text), LONGEST_PAUSE)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return default
    return min(max((at - datetime.now(UTC)).total_seconds(), 1.0), LONGEST_PAUSE) if at.tzinfo else default
