"""Authentication-Results: who is believed, and about what."""

import pytest

from shared import mime

pytestmark = pytest.mark.fast

FROM = "From: Sam <sam@supplier.example>\r\n"
MX = "mx.imap.example"


def verdict(*results: str, pinned: str | None = MX, sender: str = FROM) -> str:
    headers = "".join(f"Authentication-Results: {result}\r\n" for result in results)
    return mime.authentication(mime.envelope(f"{headers}{sender}\r\n".encode(), ref="1"), pinned)


@pytest.mark.parametrize(
    ("results", "pinned", "unpinned"),
    [
        (f"{MX}; dmarc=pass header.from=supplier.example", "pass", "unknown"),
        (f"{MX}; dmarc=pass header.from=SUPPLIER.example.", "pass", "unknown"),
        (f"{MX}; dmarc=pass header.from=other.example", "unknown", "unknown"),
        (f"{MX}; dmarc=pass", "unknown", "unknown"),
        (f"{MX}; dmarc=fail (p=reject) header.from=supplier.example", "fail", "fail"),
        (f"{MX}; dmarc=fail header.from=other.example", "unknown", "unknown"),
        (f"{MX}; dkim=pass header.d=supplier.example", "pass", "unknown"),
        (f"{MX}; dkim=pass header.i=@supplier.example header.s=s1", "pass", "unknown"),
        (f"{MX}; dkim=pass header.d=evil.example", "unknown", "unknown"),
        (f"{MX}; dkim=pass header.d=example", "unknown", "unknown"),
        (f"{MX}; spf=pass smtp.mailfrom=bounce@supplier.example", "pass", "unknown"),
        (f"{MX}; spf=fail smtp.mailfrom=supplier.example; dkim=fail header.d=supplier.example", "fail", "fail"),
        (f"{MX}; spf=fail smtp.mailfrom=supplier.example; dkim=none", "unknown", "unknown"),
        (f"{MX}; spf=fail smtp.mailfrom=list.example; dkim=fail header.d=supplier.example", "unknown", "unknown"),
        (f"{MX}; dkim=fail header.d=supplier.example; dkim=pass header.d=supplier.example; spf=fail smtp.mailfrom=supplier.example", "pass", "unknown"),
        (f"{MX}; dmarc=fail header.from=supplier.example; arc=pass (i=1)", "unknown", "fail"),
        (f"{MX} 1; none", "unknown", "unknown"),
        ("evil.example; dmarc=pass header.from=supplier.example", "unknown", "unknown"),
        ("evil.example; dmarc=fail header.from=supplier.example", "unknown", "fail"),
        ("spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=supplier.example; dkim=pass header.d=supplier.example;dmarc=pass action=none header.from=supplier.example;compauth=pass reason=100", "unknown", "unknown"),
        ("spf=fail smtp.mailfrom=supplier.example; dkim=none;dmarc=fail action=oreject header.from=supplier.example", "unknown", "fail"),
        ("((((((", "unknown", "unknown"),
        ("(" * 3000, "unknown", "unknown"),
        (f"{MX}; dmarc=pass (a; header.from=supplier.example", "unknown", "unknown"),
        ("", "unknown", "unknown"),
    ],
)  # fmt: skip
def test_a_header_is_judged_by_its_writer(results, pinned, unpinned):
    assert verdict(results) == pinned
    assert verdict(results, pinned=None) == unpinned


def test_the_pinned_writers_topmost_word_counts():
    """A stranger's header below the server's own cannot change the verdict."""
    real, forged = (
        f"{MX}; dmarc=fail header.from=supplier.example",
        f"{MX}; dmarc=pass header.from=supplier.example",
    )
    assert verdict(real, forged) == "fail"


def test_a_stranger_can_only_harm_himself():
    real, forged = (
        f"{MX}; dmarc=pass header.from=supplier.example",
        "evil; dmarc=fail header.from=supplier.example",
    )
    assert verdict(real, forged) == "pass"
    assert verdict(real, forged, pinned=None) == "fail"


def test_a_parent_domain_may_sign_for_its_child():
    assert (
        verdict(f"{MX}; dkim=pass header.d=supplier.example", sender="From: a@mail.supplier.example\r\n")
        == "pass"
    )
    assert verdict(f"{MX}; dkim=pass header.d=mail.supplier.example") == "unknown"


@pytest.mark.parametrize("sender", ["", "From: x\r\n", FROM + FROM, "From: a@x.example, b@y.example\r\n"])
def test_not_exactly_one_from_fails(sender):
    assert verdict(f"{MX}; dmarc=pass header.from=supplier.example", sender=sender) == "fail"
    assert verdict(pinned=None, sender=sender) == "fail"


@pytest.mark.parametrize(
    "name", ["Müller @ Firma", "Shop @ Firma GmbH & Co. KG", "Jira: Einkauf", "a@b.example"]
)
def test_of_a_sender_whom_others_may_not_find_only_a_pass_of_his_own_domain_counts(name):
    sender = f"From: {name} <sam@supplier.example>\r\n"
    for proof in (
        "dmarc=pass header.from=supplier.example",
        "dmarc=none; dkim=pass header.d=supplier.example",
    ):
        assert verdict(f"{MX}; {proof}", sender=sender) == "pass"
        assert verdict(f"{MX}; {proof}", sender=sender, pinned=None) == "fail"
        assert verdict(f"evil.example; {proof}", sender=sender) == "fail"
    for other in ("dmarc=pass header.from=b.example", "dmarc=none header.from=supplier.example", "dkim=pass header.d=b.example",
                  "dmarc=fail header.from=supplier.example; arc=pass", "spf=none"):  # fmt: skip
        assert verdict(f"{MX}; {other}", sender=sender) == "fail"
    for two in (
        "<eve@supplier.example> <sam@supplier.example>",
        "eve@evil.example, <sam@supplier.example>",
        "sam@supplier.example.",
    ):
        assert verdict(f"{MX}; dmarc=pass header.from=supplier.example", sender=f"From: {two}\r\n") == "fail"


EXCHANGE = (
    "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=supplier.example; dkim=pass (signature was verified)"
    " header.d=supplier.example;dmarc=pass action=none header.from=supplier.example;compauth=pass reason=100"
)
FORGED = (
    "spf=fail (sender IP is 192.0.2.9) smtp.mailfrom=supplier.example; dkim=none (message not signed)"
    " header.d=none;dmarc=fail action=oreject header.from=supplier.example;compauth=fail reason=000"
)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ((EXCHANGE,), "pass"),
        ((FORGED,), "fail"),
        ((FORGED, EXCHANGE), "fail"),  # the sender's own words lie below Exchange's
        ((EXCHANGE, FORGED), "pass"),
        ((f"{MX}; dmarc=pass header.from=supplier.example", EXCHANGE), "unknown"),
        ((f"{MX}; dmarc=fail header.from=supplier.example", EXCHANGE), "unknown"),
        (("((((((", EXCHANGE), "unknown"),
        (("-; dmarc=pass header.from=other.example", EXCHANGE), "unknown"),
        ((), "unknown"),
        # a trusted forwarder's ARC seal overrides a DMARC failure
        ((FORGED.replace("compauth=fail reason=000", "compauth=pass reason=130"),), "unknown"),
        ((FORGED.replace("compauth=fail reason=000", "compauth=none reason=452"),), "fail"),
        (("spf=none smtp.mailfrom=supplier.example; dkim=none;dmarc=bestguesspass action=none header.from=supplier.example;compauth=pass reason=109",), "unknown"),
    ],
)  # fmt: skip
def test_of_a_system_that_does_not_name_itself_the_topmost_header_counts(results, expected):
    assert verdict(*results, pinned="-") == expected


def test_a_nameless_header_is_nothing_to_who_is_pinned_to_a_name():
    assert verdict(EXCHANGE) == "unknown"
    assert verdict(EXCHANGE, pinned=None) == "unknown"
