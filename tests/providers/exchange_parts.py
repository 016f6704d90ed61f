"""A mailbox on the Exchange simulator, shared by the tests of the EWS provider."""

import secrets
from contextlib import contextmanager

from shared.providers.base import Connection, Password
from shared.providers.ews.reading import EwsMailbox
from shared.providers.ews.sending import EwsSender
from shared.providers.network import TIMEOUTS
from tests.providers.parts import SINCE, mail, read

PASSWORD = "correct horse"


class Box:
    """A mailbox, and how it is connected to."""

    def __init__(self, exchange, name="alice"):
        self.exchange = exchange
        self.address = f"{name}.{secrets.token_hex(4)}@exchange.example"
        self.mailbox = exchange.add_user(self.address, PASSWORD)

    def connection(self, *, credential=None, hosts=("localhost",), **settings):
        place = {"host": "localhost", "port": self.exchange.port, "auth": "basic", **settings}
        given = credential or Password(self.address, PASSWORD)
        return Connection(self.address, place, lambda: given, frozenset(hosts))

    @contextmanager
    def opened(self, power=EwsMailbox, timeouts=TIMEOUTS, **options):
        session = power(self.connection(**options), timeouts)
        try:
            yield session
        finally:
            session.close()

    def check(self, timeouts=TIMEOUTS, **options):
        with self.opened(EwsMailbox, timeouts, **options) as receiver:
            receiver.check()

    def read(self, cursor=None, since=SINCE, **options):
        with self.opened(**options) as receiver:
            return read(receiver, cursor, since)

    def send(self, raw=None, to=("somebody@imap.example",), commit=lambda: None, timeouts=TIMEOUTS):
        with self.opened(EwsSender, timeouts) as sender:
            return sender.send(raw or mail(From=self.address), self.address, to, commit)

    @contextmanager
    def asked(self):
        """The operations that are asked for in here, and the POSTs it takes."""
        operations, before, posts = [], len(self.exchange.requests), self.exchange.calls.total()
        yield operations
        operations += [name for name, _ in self.exchange.requests[before:]]
        operations.append(self.exchange.calls.total() - posts)
