"""Whether the mailbox's mail will be believed, told by a DNS that publishes what a test says."""

import base64
import secrets
import socket
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime

import dkim
import nacl.signing
import pytest

from sandbox.ports import free
from shared import checking
from shared.contract import CheckResource
from shared.deliverability import Examination
from shared.errors import InvalidRequest
from shared.lookups import Lookups
from shared.model import Mailbox
from tests.providers.scripted import ScriptedSmtp
from tests.scenes import caller, connect, someone, write

KEYS = {}


def keys(bits):
    """A private key and what its record says, made once."""
    if bits not in KEYS:
        made = subprocess.run(
            ["openssl", "genrsa", "-traditional", str(bits)], capture_output=True, check=True
        ).stdout
        public = ["openssl", "rsa", "-pubout", "-outform", "PEM"]
        pem = subprocess.run(public, input=made, capture_output=True, check=True).stdout.decode()
        KEYS[bits] = made, "".join(pem.splitlines()[1:-1])
    return KEYS[bits]


class Domain:
    """A sender domain of its own, published as well as can be; a test spoils it."""

    def __init__(self, app, world, name):
        self.app, self.name, self.dns = app, name, world.dns
        world.add_domain(name)
        ann, now = f"ann@{name}", datetime.now(UTC)
        self.box = Mailbox("1", ann, ann, "imap", "smtp", {}, "active", now, now)
        self.mail = write(ann, ann, "Hello", "Text").as_bytes()
        self.publish("s1._domainkey", f"v=DKIM1; k=rsa; p={keys(2048)[1]}")

    def publish(self, below, *texts):
        self.dns.put(f"{below}.{self.name}".strip("."), "TXT", *texts)

    def signed(self, signer=None, selector="s1", bits=2048):
        key = keys(bits)[0]
        return dkim.sign(self.mail, selector.encode(), (signer or self.name).encode(), key) + self.mail

    def check(self, name, arrived=b"", selector=None) -> CheckResource:
        found = Examination(self.app, self.box, selector, arrived).findings()
        [one] = [check for check in found if check.name == name]
        assert one.fix or one.status in {"ok", "skipped"}
        return one


@pytest.fixture
def domain(app, world):
    yield Domain(app, world, f"d{secrets.token_hex(4)}.example")
    world.dns.heal()


def test_a_well_kept_domain_is_well(domain):
    found = Examination(domain.app, domain.box, None, domain.signed()).findings()
    told = {check.name: (check.status, check.detail) for check in found}
    assert {status for status, _ in told.values()} == {"ok"}, told
    assert set(told) == {"mx", "mx_tls", "spf", "dkim", "dmarc"}
    assert f"s1._domainkey.{domain.name}" in told["dkim"][1]


@pytest.mark.parametrize(
    ("texts", "says", "fix"),
    [
        ([], "does not say who may send", "v=spf1 mx -all"),
        (["another record"], "does not say who may send", "v=spf1 mx -all"),
        (["v=spf1 mx -all", "v=spf1 a -all"], "not valid", "v=spf1 mx -all"),
        (["v=spf1 ipp4:1.2.3.4 -all"], "not valid", "Correct"),
        (
            ["v=spf1 include:nowhere.example include:nothing.example include:no.example -all"],
            "not valid",
            "Correct",
        ),
        (["v=spf1 +all"], "everybody", "-all"),
        (["v=spf1 -all"], "nobody", "v=spf1 mx -all"),
        (["v=spf1 -ip4:192.0.2.1 ~all"], "nobody", "v=spf1 mx -all"),
    ],
)
def test_what_is_wrong_with_spf_is_told_with_the_record_to_publish(domain, texts, says, fix):
    domain.publish("", *texts)
    told = domain.check("spf")
    assert told.status == "warning"
    assert says in told.detail
    assert fix in told.fix
    assert domain.name in told.fix


@pytest.mark.parametrize(("end", "open_"), [("?all", True), ("", True), ("~all", False), ("-all", False)])
def test_an_spf_record_that_leaves_open_who_may_not_send_is_well_with_a_word(domain, end, open_):
    domain.publish("", f"v=spf1 ip4:192.0.2.1 {end}".strip())
    told = domain.check("spf")
    assert (told.status, "others may not" in told.detail) == ("ok", open_)


def test_who_sends_through_microsoft_has_to_allow_its_servers(domain):
    box = replace(domain.box, sends_with="microsoft")
    [told] = [one for one in Examination(domain.app, box).findings() if one.name == "spf"]
    assert told.status == "warning"
    assert "include:spf.protection.outlook.com" in told.fix


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no DMARC record"),
        ("v=DMARC1; p=nonsense", "no DMARC record"),
        ("v=spf1 -all", "no DMARC record"),
    ],
)
def test_what_is_wrong_with_dmarc_is_told_with_the_record_to_publish(domain, text, says):
    domain.publish("_dmarc", *([text] if text else []))
    told = domain.check("dmarc")
    assert told.status == "warning"
    assert says in told.detail
    assert f"_dmarc.{domain.name}" in told.fix
    assert "v=DMARC1" in told.fix


@pytest.mark.parametrize(
    ("signer", "strict", "status"),
    [
        ("other.example", "r", "warning"),
        ("mail.{}", "r", "ok"),
        ("mail.{}", "s", "warning"),
        ("{}", "s", "ok"),
    ],
)
def test_a_signature_has_to_be_aligned_with_the_sender(domain, signer, strict, status):
    domain.publish("_dmarc", f"v=DMARC1; p=reject; adkim={strict}")
    told = domain.check("dmarc", domain.signed(signer.format(domain.name)))
    assert told.status == status, told
    assert ("alignment" in told.detail) == (status == "warning")


@pytest.mark.parametrize(
    ("record", "below"),
    [
        ("v=spf1 include:spf.protection.outlook.com -all", None),
        ("v=spf1 redirect=_spf.{}", "v=spf1 include:spf.protection.outlook.com -all"),
        ("v=spf1 include:_spf.{} -all", "v=spf1 include:spf.protection.outlook.com ~all"),
    ],
)
def test_microsofts_servers_may_be_allowed_in_a_record_further_on(domain, record, below):
    domain.dns.put("spf.protection.outlook.com", "TXT", "v=spf1 ip4:192.0.2.0/24 -all")
    domain.publish("", record.format(domain.name))
    if below:
        domain.publish("_spf", below)
    box = replace(domain.box, sends_with="microsoft")
    [told] = [one for one in Examination(domain.app, box).findings() if one.name == "spf"]
    assert told.status == "ok", told


def test_below_an_organisational_domain_its_policy_for_subdomains_counts(domain):
    domain.publish("_dmarc", "v=DMARC1; p=none; sp=reject")
    domain.publish("mail", "it exists")
    assert "(p=none)" in domain.check("dmarc").detail
    address = f"ann@mail.{domain.name}"
    found = Examination(domain.app, replace(domain.box, address=address, owner=address)).findings()
    [told] = [one for one in found if one.name == "dmarc"]
    assert "(sp=reject)" in told.detail, told


class TestDkim:
    def test_somebody_elses_good_signature_proves_nothing_of_the_senders(self, domain):
        spoilt = domain.signed().replace(b"Text", b"Other")
        domain.mail = spoilt
        domain.dns.put("s1._domainkey.other.example", "TXT", f"v=DKIM1; k=rsa; p={keys(2048)[1]}")
        told = domain.check("dkim", domain.signed("other.example"))
        assert told.status == "warning"
        assert domain.name in told.detail

    def test_an_ed25519_key_is_as_good_as_another(self, domain):
        seed = nacl.signing.SigningKey.generate()
        public = base64.b64encode(bytes(seed.verify_key)).decode()
        domain.publish("e1._domainkey", f"v=DKIM1; k=ed25519; p={public}")
        assert domain.check("dkim", selector="e1").status == "ok"

    def test_a_selector_that_was_asked_for_is_looked_up(self, domain):
        assert domain.check("dkim", selector="s1").status == "ok"
        told = domain.check("dkim", selector="s2")
        assert (told.status, f"s2._domainkey.{domain.name}" in told.fix) == ("warning", True)

    @pytest.mark.parametrize(
        ("record", "words"),
        [
            ("v=DKIM1; k=rsa; p=", "was revoked"),
            ("v=DKIM1; p=;", "was revoked"),
            ("v=DKIM1; k=rsa; p=AAAA", "cannot be read"),
            ("v=DKIM1; k=ed25519; p=AAAA", "cannot be read"),
            ("v=DKIM1; k=new; p=AAAA", "neither"),
            ("v=DKIM2; p=x", "another version"),
            ("v=DKIM1; p=ü", "cannot be read"),
            ("nonsense", "no p="),
        ],
    )
    def test_a_key_that_is_none_is_told_in_plain_words(self, domain, record, words):
        domain.publish("s1._domainkey", record)
        told = domain.check("dkim", selector="s1")
        assert (told.status, words in told.detail) == ("warning", True), told
        assert "b'" not in told.detail

    def test_a_short_key_is_told(self, domain):
        domain.publish("s1._domainkey", f"v=DKIM1; p={keys(512)[1]}")
        assert "512 bits" in domain.check("dkim", selector="s1").detail

    def test_a_signature_that_does_not_fit_is_told(self, domain):
        changed = domain.signed().replace(b"Text", b"Spam")
        told = domain.check("dkim", changed)
        assert (told.status, "does not fit" in told.detail) == ("warning", True)

    def test_without_signature_and_selector_it_says_how_to_go_on(self, domain):
        told = domain.check("dkim", domain.mail)
        assert (told.status, "dkimSelector" in told.fix) == ("skipped", True)

    @pytest.mark.parametrize("selector", ["", "a b", "-x", "x" * 64, "ü", "a;b"])
    def test_what_is_no_selector_is_named(self, domain, selector):
        with pytest.raises(InvalidRequest) as caught:
            Examination(domain.app, domain.box, selector)
        assert caught.value.field == "dkimSelector"

    def test_a_signature_that_names_nonsense_is_skipped(self, domain):
        forged = (
            b"DKIM-Signature: v=1; d=" + b"a" * 70 + b".example; s=..; b=x; bh=y; h=from; a=rsa-sha256\r\n"
        )
        assert domain.check("dkim", forged + domain.mail).status in {"skipped", "warning"}

    def test_the_doctor_finds_the_selector_in_its_own_mail(self, scene):
        domain = f"s{scene.org_id[4:]}.example"
        person = someone(scene.world, "ann", domain)
        scene.world.post.signing[domain] = ("s9", keys(2048)[0], domain)
        scene.world.dns.put(f"s9._domainkey.{domain}", "TXT", f"v=DKIM1; p={keys(2048)[1]}")
        box = connect(scene.world, scene.app, scene.org_id, person)
        checks = checking.doctor(scene.app, caller(scene.org_id, person.address), box.id)
        told = {check.name: check for check in checks}
        assert told["dkim"].status == "ok"
        assert f"s9._domainkey.{domain}" in told["dkim"].detail


class TestMx:
    def test_a_domain_without_a_mail_server_is_told(self, domain):
        domain.dns.put(domain.name, "MX")
        assert f"MX record at {domain.name}" in domain.check("mx").fix
        assert domain.check("mx_tls").status == "skipped"
        domain.dns.put(domain.name, "MX", ".")  # RFC 7505: it wants no mail
        assert domain.check("mx").status == "warning"

    def test_a_server_without_starttls_is_told(self, domain):
        with ScriptedSmtp(None, offers="SIZE 1000") as plain:
            domain.app = replace(domain.app, mx_port=plain.port)
            told = domain.check("mx_tls")
        assert (told.status, "STARTTLS" in told.fix) == ("warning", True)

    def test_a_certificate_for_another_name_is_told(self, domain, monkeypatch):
        domain.dns.put(domain.name, "MX", "mx.elsewhere.example")
        real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, **more: real("127.0.0.1", port, **more))
        domain.app = replace(domain.app, allowed_hosts=frozenset({"mx.elsewhere.example"}))
        told = domain.check("mx_tls")
        assert (told.status, "certificate" in told.detail) == ("warning", True)

    def test_a_server_that_cannot_be_reached_is_skipped_with_the_reason(self, domain):
        domain.app = replace(domain.app, mx_port=free())
        told = domain.check("mx_tls")
        assert (told.status, "port 25" in told.detail) == ("skipped", True)

    def test_a_private_mx_host_is_not_spoken_to(self, domain):
        domain.app = replace(domain.app, allowed_hosts=frozenset())
        told = domain.check("mx_tls")
        assert "cannot be used" in told.detail

    def test_microsofts_servers_are_known(self, domain):
        domain.dns.put(domain.name, "MX", "x-example.mail.protection.outlook.com")
        assert domain.check("mx_tls").status == "ok"


class TestHowLong:
    """A domain may name hundreds of places in the DNS, and have none of them answered."""

    PATIENCE, QUESTION = 1.5, 0.4

    def looked_at(self, domain, below, text):
        domain.dns.silent.add("slow.example")
        domain.publish(below, text)
        app = replace(domain.app, lookups=Lookups(domain.dns.address, self.QUESTION))
        began = time.monotonic()
        found = list(Examination(app, domain.box, "s1", patience=self.PATIENCE).findings())
        return {check.name: check for check in found}, time.monotonic() - began

    @pytest.mark.parametrize(
        ("name", "below", "text"),
        [
            ("spf", "", "v=spf1 {} -all".format(" ".join(f"a:s{n}.slow.example" for n in range(100)))),
            (
                "dmarc",
                "_dmarc",
                "v=DMARC1; p=none; rua=" + ",".join(f"mailto:a@s{n}.slow.example" for n in range(9)),
            ),
        ],
    )
    def test_what_takes_too_long_is_skipped_and_so_is_the_rest(self, domain, name, below, text):
        told, seconds = self.looked_at(domain, below, text)
        assert (told[name].status, "too slow" in told[name].detail) == ("skipped", True)
        assert told[name].fix
        assert told["mx"].status == "ok"
        assert told["dmarc"].status == "skipped"
        assert seconds < self.PATIENCE + 5

    @pytest.mark.parametrize("tag", ["rua", "ruf"])
    def test_a_record_with_an_absurd_number_of_report_addresses_is_refused_unread(self, domain, tag):
        addresses = ",".join(f"mailto:a@{tag}{n}.slow.example" for n in range(100))
        told, seconds = self.looked_at(domain, "_dmarc", f"v=DMARC1; p=none; {tag}={addresses}")
        assert (told["dmarc"].status, "10 places" in told["dmarc"].detail) == ("warning", True)
        assert not any(f"{tag}1.slow.example" in name for name, _ in domain.dns.asked)
        assert seconds < self.PATIENCE + 5


@pytest.mark.parametrize("fault", ["failing", "silent"])
def test_a_dns_that_does_not_answer_is_no_finding(domain, fault):
    getattr(domain.dns, fault).add(domain.name)
    domain.app = replace(domain.app, lookups=Lookups(domain.dns.address, 0.4))
    found = Examination(domain.app, domain.box, "s1", domain.signed()).findings()
    assert {check.status for check in found} == {"skipped"}
