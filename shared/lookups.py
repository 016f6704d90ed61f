"""Questions to the DNS about customers' domains, through dnspython: what is published, or nothing.

Answers are whatever a domain's owner wrote: untrusted text, and hosts that go through
`providers.network` like all that users type. https://dnspython.readthedocs.io/
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from shared.errors import InvalidRequest, Temporary

if TYPE_CHECKING:
    from dns.resolver import Resolver


TOO_SLOW = "The DNS is too slow: not all that this domain names could be looked up in time."


class Service(NamedTuple):
    """Where a service of a domain is (RFC 2782)."""

    host: str
    port: int


class Sparing:
    """A resolver that spends so many seconds on all its questions together, and answers none after that."""

    def __init__(self, resolver: "Resolver", seconds: float) -> None:
        self._resolver, self._left, self.lifetime = resolver, seconds, resolver.lifetime

    def resolve(self, name: str, kind: str, **options: Any) -> Any:
        """See dnspython's. Raises Temporary when the time is over: no library takes that for an answer."""
        from dns.exception import Timeout

        began, options["lifetime"] = time.monotonic(), min(self._left, self.lifetime)
        if self._left <= 0:
            raise Temporary(TOO_SLOW)
        try:
            return self._resolver.resolve(name, kind, **options)
        except Timeout as error:
            if self._left < self.lifetime:
                raise Temporary(TOO_SLOW) from error
            raise
        finally:
            self._left -= time.monotonic() - began


@dataclass(frozen=True)
class Lookups:
    """Asks one DNS server, or the system's.

    Every method returns an empty list where nothing is published, and raises Temporary when the DNS does
    not answer or cannot, InvalidRequest for a name that cannot exist.

    Args:
        server: `address` or `address:port`, IPv4; empty for the system's.
        seconds: for one question, tries and all.
        together: seconds for all questions, where these are many; see `within`.
    """

    server: str = ""
    seconds: float = 5.0
    together: float | None = None

    def within(self, seconds: float) -> Self:
        """Return the same, with no more than so many seconds for all that is asked of it."""
        return replace(self, together=seconds)

    def txt(self, name: str) -> list[str]:
        """Return the TXT records, each joined from its strings (RFC 7208 §3.3)."""
        return [b"".join(record.strings).decode("utf-8", "replace") for record in self._ask(name, "TXT")]

    def mx(self, name: str) -> list[str]:
        """Return the hosts that take the domain's mail, best first; `.` alone is none (RFC 7505)."""
        records = sorted(self._ask(name, "MX"), key=lambda record: record.preference)
        return [host for record in records if (host := _host(record.exchange))]

    def srv(self, name: str) -> list[Service]:
        """Return where a service is, best first; `.` says that it is not offered (RFC 2782)."""
        records = sorted(self._ask(name, "SRV"), key=lambda record: (record.priority, -record.weight))
        return [Service(host, record.port) for record in records if (host := _host(record.target))]

    @cached_property
    def resolver(self) -> Any:
        """The resolver of dnspython, or what looks like it to the libraries that take one."""
        from dns.resolver import Resolver

        made = Resolver(configure=not self.server)
        if self.server:
            address, _, port = self.server.partition(":")
            made.nameservers, made.port = [address], int(port or 53)
        made.lifetime, made.timeout = self.seconds, self.seconds / 2
        return made if self.together is None else Sparing(made, self.together)

    def _ask(self, name: str, kind: str) -> list[Any]:
        from dns.exception import DNSException, Timeout
        from dns.name import EmptyLabel, IDNAException, LabelTooLong, NameTooLong
        from dns.resolver import NXDOMAIN, NoAnswer

        try:
            return list(self.resolver.resolve(name.rstrip(".") + ".", kind))
        except (NXDOMAIN, NoAnswer):
            return []
        except (EmptyLabel, LabelTooLong, NameTooLong, IDNAException) as error:
            raise InvalidRequest("This is not a domain name.", field="domain") from error
        except Timeout as error:
            raise Temporary("The DNS does not answer.") from error
        except (DNSException, OSError) as error:
            raise Temporary("The DNS servers of this domain cannot answer.") from error


def _host(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")
