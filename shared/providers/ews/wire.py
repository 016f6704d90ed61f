"""The one way to an Exchange server: exchangelib over guarded connections, without its process-wide settings.

exchangelib keeps adapter, user agent and timeout on classes, and one connection pool for each endpoint and
credential for ever. Here each session has its own, which ends with it.
"""

import logging
import ssl
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from exchangelib import BASIC, DELEGATE, IMPERSONATION, NTLM, UTC, Account, Configuration, Credentials
from exchangelib.protocol import Protocol
from exchangelib.transport import DEFAULT_HEADERS, get_auth_instance
from exchangelib.version import EXCHANGE_2016, Version

from shared.errors import ConsentRequired, InvalidRequest, Rejected, ZalionError
from shared.providers import hosts, network, silence, transport
from shared.providers.base import Connection, Password
from shared.providers.ews.refusals import BUSY_PAUSE, Broken, Policy

TITLE = "The Exchange server"
PATH = "/EWS/Exchange.asmx"
PIECE = 32 * 1024
REFUSAL = 64 * 1024
SHORT = 16 * 1024 * 1024
"""Octets of an answer that holds no whole mail: a hundred mails' headers take a megabyte or so."""

MOST_MARKS = 1_000_000
"""Tags and quotes of any answer: XML of nothing else takes thirty times its size in memory."""

USER_AGENT = "Zalion/1 (EWS)"
"""Fixed, so that an administrator can name it in EwsApplicationAccessPolicy."""

ONLINE = (".outlook.com", ".office365.com", ".office.com", ".office365.us", ".outlook.cn", ".outlook.de")
"""Exchange Online, where EWS ends: https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/deprecation-of-ews-exchange-online"""

logging.getLogger("exchangelib").setLevel(logging.CRITICAL)  # its errors quote requests, and those hold mail


class Adapter:
    """What exchangelib's requests go through: judged addresses, limited answers, our own errors.

    Attributes:
        largest: octets of an answer that are read.
    """

    def __init__(self, allowed_hosts: frozenset[str], timeouts: network.Timeouts) -> None:
        self._timeouts, self.largest = timeouts, SHORT
        self._inner = transport.adapter(
            allowed_hosts, ports=transport.PORTS, connect=timeouts.connect, until=timeouts.session
        )

    def send(self, request: Any, **options: Any) -> Any:
        """Make one request. Raises Broken."""
        options |= {"stream": True, "timeout": (self._timeouts.connect, self._timeouts.read)}
        try:
            with transport.translated(TITLE, silence.CHECK):
                response = self._inner.send(request, **options)
                if response.status_code == HTTPStatus.UNAUTHORIZED:
                    _small(response)  # NTLM reads it, after it has looked at the connection's certificate
                else:
                    transport.take(response, TITLE, self.largest)
                    _check_markup(response.content)
                    _in_pieces(response)
        except ZalionError as error:
            raise Broken(_certificate(error) or error) from error
        response.connection = self  # type: ignore[assignment]  # NTLM sends its next message through it
        return response

    def close(self) -> None:
        """End the connection."""
        self._inner.close()


class Link(Protocol):  # type: ignore[misc]  # the library has no types
    """exchangelib's protocol for one session: its own adapter, user agent and timeout."""

    USERAGENT = USER_AGENT
    RETRY_WAIT = BUSY_PAUSE
    """What the library says that a busy server asked for, where that named no pause."""

    def __init__(self, config: Configuration, adapter: Adapter, timeout: float) -> None:
        super().__init__(config=config)
        self._adapter: Any = adapter
        self.TIMEOUT = timeout

    def limit(self, octets: int) -> None:
        """Read answers up to this size from now on."""
        self._adapter.largest = octets

    def raw_session(self, *_: Any, **__: Any) -> Any:
        """Make a session that takes no word from the environment."""
        made = transport.session(frozenset(), over=self._adapter)
        made.headers.update({**DEFAULT_HEADERS, "User-Agent": USER_AGENT})
        return made

    def create_session(self) -> Any:
        """Make a session that says name and password in UTF-8 (RFC 7617); the library's Latin-1 lacks a €.

        What IIS takes is not written down (2026-11): docs/trial-exchange.md.
        """
        made = super().create_session()
        if self.auth_type == BASIC:
            name, password = self.credentials.username.encode(), self.credentials.password.encode()
            made.auth = get_auth_instance(BASIC, username=name, password=password)
        return made


def account(connection: Connection, timeouts: network.Timeouts) -> Account:
    """Make an account that speaks for one mailbox; nothing is sent yet.

    Raises ConsentRequired for what is no password, InvalidRequest naming the setting that is wrong.
    """
    credential, settings = connection.credential(), connection.settings
    if not isinstance(credential, Password):
        raise ConsentRequired("Exchange takes a name and a password.", fix="Connect with both.")
    _check_sayable(credential, basic=settings.get("auth") == "basic")
    configuration = Configuration(
        credentials=Credentials(credential.username, credential.password),
        service_endpoint=f"https://{_host(connection)}:{settings.get('port') or 443}{PATH}",
        auth_type=BASIC if settings.get("auth") == "basic" else NTLM,
        version=Version(EXCHANGE_2016),
        retry_policy=Policy(),
        max_connections=1,
    )
    made = Account(
        primary_smtp_address=connection.address,
        config=configuration,
        autodiscover=False,
        access_type=IMPERSONATION if settings.get("access") == "impersonation" else DELEGATE,
        locale="en_US",
        default_timezone=UTC,
    )
    with suppress(KeyError):  # another session of this user was faster
        del Protocol[configuration]  # the cache of the process: it would hold the password for ever
    adapter = Adapter(connection.allowed_hosts, timeouts)
    # `type` goes past the metaclass, which keeps what it makes
    made.protocol = type.__call__(Link, configuration, adapter, timeouts.read)
    return made


def _check_sayable(credential: Password, *, basic: bool) -> None:
    """Raise InvalidRequest for what this way of signing in cannot carry."""
    for field, text in (("username", credential.username), ("password", credential.password)):
        lone = any("\ud800" <= letter <= "\udfff" for letter in text)  # half a character: no UTF has it
        if lone or (basic and not text.isprintable()):
            raise InvalidRequest("This has characters that no sign-in can carry.", field=field)
    if basic and ":" in credential.username:
        fix = "Sign in by NTLM, or with another form of the name."
        raise InvalidRequest("Basic cannot carry a name with a colon.", field="username", fix=fix)


def _host(connection: Connection) -> str:
    """Return the server's name. Raises InvalidRequest for Exchange Online."""
    name = hosts.host_name(str(connection.settings.get("host", "")))
    if f".{name}".endswith(ONLINE):
        raise InvalidRequest(
            "Exchange Online has switched Exchange Web Services off.",
            field="host",
            fix="Connect the mailbox as Microsoft 365, which goes through Microsoft Graph.",
        )
    return f"[{name}]" if ":" in name else name


def _small(response: Any) -> None:
    """Have no more than `REFUSAL` octets of the body read, by whoever reads it; more is Broken."""
    whole = response.iter_content

    def iter_content(*args: Any, **options: Any) -> Iterator[bytes]:
        size = 0
        try:
            with transport.translated(TITLE, silence.CHECK):
                for part in whole(*args, **options):
                    size += len(part)
                    if size > REFUSAL:
                        response.close()
                        raise Rejected(f"{TITLE} refuses the sign-in with more than {REFUSAL // 1024} KB.")
                    yield part
        except ZalionError as error:
            raise Broken(error) from error

    response.iter_content = iter_content


def _check_markup(body: bytes) -> None:
    """Raise TooMuch for an answer that has no end of elements or attributes."""
    if any(body.count(mark) > MOST_MARKS for mark in (b"<", b'"', b"'")):
        raise transport.TooMuch(f"{TITLE}'s answer is too large to be read.")


def _in_pieces(response: Any) -> None:
    """Give the body out in pieces: exchangelib asks for single bytes, a minute for a large mail."""
    body = response.content
    response.iter_content = lambda *_, **__: (
        body[start : start + PIECE] for start in range(0, len(body), PIECE)
    )


def _certificate(error: BaseException) -> ZalionError | None:
    """Say what TLS found wrong, where that is why the connection failed."""
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        one = queue.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        if isinstance(one, ssl.SSLError):
            return _explained(one)
        queue += [one.__cause__, one.__context__, getattr(one, "reason", None)]
        queue += [part for part in one.args if isinstance(part, BaseException)]
    return None


def _explained(error: ssl.SSLError) -> ZalionError | None:
    try:
        with network.translated():
            raise error
    except ZalionError as explained:
        return explained if isinstance(explained, InvalidRequest) else None
