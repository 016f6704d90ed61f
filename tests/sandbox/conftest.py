"""Clients that are not ours, speaking to the sandbox's parts; and a fresh account for every test."""

import smtplib
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import imapclient
import pytest

from sandbox.wire import Wire
from sandbox.world import World
from tests.sandbox.outlook import Bell, Office, Outlook


@dataclass
class Account:
    """An account of the mail server, and a plain mail program for it."""

    world: World
    address: str
    password: str

    @property
    def context(self) -> ssl.SSLContext:
        return self.world.authority.client_context()

    def imap(self, port: int | None = None) -> imapclient.IMAPClient:
        client = imapclient.IMAPClient(
            "localhost", port or self.world.ports["imaps"], ssl_context=self.context, timeout=15
        )
        client.login(self.address, self.password)
        return client

    def inbox(self) -> list[bytes]:
        with self.imap() as client:
            client.select_folder("INBOX", readonly=True)
            found = client.fetch(client.search(), ["BODY.PEEK[]"])
            return [found[uid][b"BODY[]"] for uid in sorted(found)]

    def smtp(self) -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", self.world.ports["smtp"], timeout=15)
        client.starttls(context=self.context)
        client.login(self.address, self.password)
        return client


def mail(sender: str, text: str = "Good day", **headers: str) -> bytes:
    lines = {
        "From": sender,
        "Subject": "Offer",
        "Message-ID": f"<{uuid.uuid4().hex}@here.example>",
        **headers,
    }
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"{head}\r\n{text}\r\n".encode()


def _account(world: World, name: str) -> Account:
    address = f"{name}-{uuid.uuid4().hex[:8]}@parts.example"
    world.add_user(address, "pass:word")
    return Account(world, address, "pass:word")


@pytest.fixture
def ann(world: World) -> Account:
    return _account(world, "ann")


@pytest.fixture
def ben(world: World) -> Account:
    return _account(world, "ben")


@pytest.fixture
def wire(world: World) -> Iterator[Wire]:
    with Wire(world.authority, world.ports["imap"]) as wire:
        yield wire


@pytest.fixture
def office(world: World) -> Office:
    return Office.of(world)


@pytest.fixture
def outlook(office: Office) -> Outlook:
    """Anna, who may everything in her own mailbox."""
    return office.outlook()


@pytest.fixture
def bell(world: World) -> Iterator[Bell]:
    bell = Bell(world)
    yield bell
    bell.stop()
