"""Proposals by DNS and autoconfiguration: what a domain publishes, and what a hostile one does."""

import secrets
import socket
import time
from dataclasses import replace

import pytest

from sandbox.web import Reply
from shared import detecting
from shared.contract import Proposal
from shared.errors import InvalidRequest, NotAllowed, Temporary
from shared.lookups import Lookups
from shared.providers import autoconfig
from shared.providers.registry import names
from tests.providers.scripted import DRIP, Scripted
from tests.scenes import caller

BOMB = b'<!DOCTYPE a [<!ENTITY b "boom"><!ENTITY c "&b;&b;">]><clientConfig><emailProvider>&c;</emailProvider></clientConfig>'
CODECS = ("rot13", "hex", "zlib", "idna", "big5", "no-such-one")
"""What Python knows by these names is no encoding of a file, or none that the parser takes."""

OUTSIDE = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><clientConfig>&b;</clientConfig>'


@pytest.fixture
def domain(world):
    """A domain that publishes nothing yet, and is well again afterwards."""
    yield f"d{secrets.token_hex(4)}.example"
    world.dns.heal()


@pytest.fixture
def detect(app, domain):
    def detect(found=app, who=None):
        return detecting.detect(found, who or caller("org", "a@b.example"), f"Ann@{domain}")

    return detect


def statuses(detected):
    return {source.name.split("/")[0]: source.status for source in detected.sources}


def test_srv_records_give_hosts_ports_and_security_best_first(world, detect, domain):
    world.dns.put(f"_imap._tcp.{domain}", "SRV", ("imap.other.example", 143))
    world.dns.put(f"_imaps._tcp.{domain}", "SRV", ("imap.other.example", 993))
    world.dns.put(f"_submission._tcp.{domain}", "SRV", ("smtp.other.example", 587))
    world.dns.put(f"_pop3s._tcp.{domain}", "SRV", (".", 0))
    found = detect()
    assert (found.address, found.receives_with, found.sends_with) == (f"ann@{domain}", "imap", "smtp")
    assert found.settings == {
        "imap": {"host": "imap.other.example", "port": 993, "security": "tls"},
        "smtp": {"host": "smtp.other.example", "port": 587, "security": "starttls"},
    }
    assert [one.provider for one in found.proposals] == ["imap", "imap", "smtp"]


def test_an_autoconfiguration_file_is_read_and_plain_text_is_never_proposed(world, detect, domain):
    servers = [
        ("imap", "mail.%EMAILDOMAIN%", 143, "plain"),
        ("pop3", "pop.%EMAILDOMAIN%", 995, "SSL"),
        ("exchange", "x.example", 443, "SSL"),
        ("pop3", "bad host", 995, "SSL"),
        ("pop3", "pop.example", 99999, "SSL"),
        ("smtp", "smtp.%EMAILDOMAIN%", 587, "STARTTLS"),
    ]
    world.autoconfig.publish(domain, *servers)
    found = detect()
    assert found.settings == {
        "pop3": {"host": f"pop.{domain}", "port": 995, "security": "tls"},
        "smtp": {"host": f"smtp.{domain}", "port": 587, "security": "starttls"},
    }
    assert {one.source for one in found.proposals} == {"autoconfig"}


@pytest.mark.parametrize(
    "port", ["000993" + "0" * 5000, "0009930000", "0", "65536", "-1", "9e2", "²", "٩٩٣", ""]
)
def test_what_is_no_port_is_left_out_and_costs_nothing_else(world, detect, domain, port):
    world.autoconfig.publish(
        domain, ("imap", "odd.example", port, "SSL"), ("pop3", "pop.example", 995, "SSL")
    )
    world.dns.put(f"_imaps._tcp.{domain}", "SRV", ("mail.example", 993))
    found = [(one.source, one.settings["host"]) for one in detect().proposals]
    assert found == [("srv", "mail.example"), ("autoconfig", "pop.example")]


def test_what_both_say_is_said_once_and_another_user_name_is_kept(world, detect, domain):
    world.dns.put(f"_imaps._tcp.{domain}", "SRV", ("mail.example", 993))
    world.autoconfig.publish(domain, ("imap", "mail.example", 993, "SSL"))
    assert [one.source for one in detect().proposals] == ["srv"]
    file = world.autoconfig.files[domain].replace(b"%EMAILADDRESS%", b"%EMAILLOCALPART%")
    world.autoconfig.files[domain] = file
    assert [one.settings.get("username") for one in detect().proposals] == [None, "ann"]


def test_whose_mail_microsoft_takes_is_proposed_microsoft(world, detect, domain):
    world.dns.put(domain, "MX", f"{domain.replace('.', '-')}.mail.protection.outlook.com")
    world.dns.put(f"_imaps._tcp.{domain}", "SRV", ("outlook.office365.com", 993))
    world.dns.put(f"_submission._tcp.{domain}", "SRV", ("smtp.office365.com", 587))
    found = detect()
    assert (found.receives_with, found.sends_with, found.settings) == ("microsoft", "microsoft", {})
    world.dns.put(domain, "MX", "mail.protection.outlook.com.evil.example")
    assert detect().receives_with == "imap"


def test_every_provider_can_be_proposed_and_the_registry_says_which_comes_first():
    found = [Proposal(provider=name, settings={}, source="srv") for name in reversed(names())]
    assert [one.provider for one in detecting._distinct(found)] == [*names()]
    assert {*detecting.CLOUDS, *(name for name, _ in detecting.SERVICES.values())} <= {*names()}


def test_a_domain_that_publishes_nothing_says_where_was_looked(detect):
    found = detect()
    assert (found.receives_with, found.sends_with, found.proposals) == (None, None, [])
    assert set(statuses(found).values()) == {"nothing"}
    assert len(found.sources) == 8


@pytest.mark.parametrize(
    "text", ["", "ann", "ann@", "ann@localhost", "a b@c.example", "ann@[127.0.0.1]", "ann@127.0.0.1"]
)
def test_what_is_no_address_is_named(app, text):
    with pytest.raises(InvalidRequest) as caught:
        detecting.detect(app, caller("org", "a@b.example"), text)
    assert caught.value.field == "address"


def test_it_is_for_people_of_the_organisation(detect):
    with pytest.raises(NotAllowed):
        detect(who=caller("org", "", "platform"))


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>", b"", BOMB, OUTSIDE, b"\xff\xfe", b"x" * 70_000, b"<a>" * 20_000,
        Reply(302, b"", {"Location": "https://localhost/elsewhere"}), Reply(500), Reply(200, b"<clientConfig/>"),
        *(f'<?xml version="1.0" encoding="{name}"?><clientConfig/>'.encode() for name in CODECS),
    ],
    ids=lambda answer: str(answer)[:30],
)  # fmt: skip
def test_a_file_that_is_none_or_hostile_costs_nothing_but_itself(world, detect, domain, answer):
    world.autoconfig.files[domain] = answer
    world.dns.put(f"_imaps._tcp.{domain}", "SRV", ("mail.example", 993))
    found = detect()
    assert [one.source for one in found.proposals] == ["srv"]
    assert statuses(found)["https:"] in {"failed", "nothing"}
    assert "passwd" not in str(found)
    assert world.autoconfig.calls["GET", "/elsewhere"] == 0


def test_a_host_that_resolves_to_our_own_network_is_not_spoken_to(app, detect, domain, monkeypatch):
    """The second look-up of a name, by the system, may answer what the domain's owner likes."""
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inside)
    found = detect(replace(app, autoconfig_urls=("https://autoconfig.{domain}/x",)))
    [source] = [source for source in found.sources if source.name.startswith("https:")]
    assert (source.status, source.detail) == ("failed", "This host or port cannot be used.")


def test_a_silent_dns_has_a_deadline_and_the_rest_is_told(world, app, detect, domain):
    world.dns.silent.add(domain)
    world.autoconfig.publish(domain, ("imap", "mail.example", 993, "SSL"))
    begun = time.monotonic()
    found = detect(replace(app, lookups=Lookups(world.dns.address, 0.5)))
    assert time.monotonic() - begun < 20
    assert found.receives_with == "imap"
    assert statuses(found) == {"https:": "found"} | dict.fromkeys(
        ["MX", *(f"SRV {name}" for name in detecting.SERVICES)], "failed"
    )


def test_a_web_server_that_says_one_byte_after_the_other_is_left_in_time(world):
    with Dripping(world.authority.server_context(), "") as server, pytest.raises(Temporary):
        autoconfig.fetch(f"https://localhost:{server.port}/x", frozenset({"localhost"}), seconds=0.5)


class Dripping(Scripted):
    def answer(self, line):
        return DRIP


def test_a_dns_that_cannot_answer_is_told_by_source(world, detect, domain):
    world.dns.failing.add(domain)
    told = statuses(detect())
    assert told["MX"] == told["SRV _imaps._tcp"] == "failed"
