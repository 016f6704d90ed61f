"""Addresses a user typed, and addresses in headers."""

import pytest

from shared import mime
from shared.errors import InvalidRequest
from shared.model import Address

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Alice@IMAP.Example", "alice@imap.example"),
        (" alice@imap.example ", "alice@imap.example"),
        ("first.last+tag@sub.imap.example", "first.last+tag@sub.imap.example"),
        ("o'neil@imap.example", "o'neil@imap.example"),
        ("info@straße.example", "info@xn--strae-oqa.example"),
        ("info@MÜNCHEN.example", "info@xn--mnchen-3ya.example"),
        ("info@例え。テスト", "info@xn--r8jz45g.xn--zckzah"),
        ("info@xn--mnchen-3ya.example", "info@xn--mnchen-3ya.example"),
        (f"{'l' * 64}@x.example", f"{'l' * 64}@x.example"),
    ],
)
def test_a_good_address_is_normalised(typed, kept):
    assert mime.check_address(typed, "to") == kept


@pytest.mark.parametrize(
    ("typed", "key", "spelled"),
    [
        ("Reply+AbC9xQ@Supplier.Example", "reply+abc9xq@supplier.example", "Reply+AbC9xQ@supplier.example"),
        ("Info@MÜNCHEN.example", "info@xn--mnchen-3ya.example", "Info@xn--mnchen-3ya.example"),
        ("info@Supplier.Example", "info@supplier.example", ""),
    ],
)
def test_the_part_before_the_at_sign_is_kept_as_it_was_written_beside_what_is_compared(typed, key, spelled):
    [read] = mime.parse(f"To: Ann <{typed}>\r\n\r\n".encode()).to
    checked = mime.check_person(typed, "to", "Ann")
    for person in (read, checked, mime.envelope(f"From: Ann <{typed}>\r\n\r\n".encode(), ref="1").sender):
        assert (person.address, person.spelled, person.shown) == (key, spelled, spelled or key)
        assert person == Address(key, "Ann")


@pytest.mark.parametrize(
    "typed",
    [
        "", "alice", "@x.example", "alice@", "alice@localhost", "a@b@", "a b@x.example", "alice@x..example",
        "alice@-x.example", "alice@x-.example", "alice@x.example.", "alice@[127.0.0.1]", "alice@127.0.0.1", ".a@x.example",
        "a..b@x.example", '"a b"@x.example', "Alice <alice@x.example>", "alice@x.example, bob@x.example",
        "alice@x.example\r\nBcc: e@x.example", "alice@x.example\n", "al\x00ice@x.example", "müller@x.example",
        "alice@x_y.example", f"{'l' * 65}@x.example", f"a@{'d' * 64}.example", f"a@{'d.' * 130}example", "a@ex\u200dample.example",
        f"{'l' * 60}@{'.'.join(['d' * 60] * 4)}",
    ],
)  # fmt: skip
def test_a_bad_address_is_refused_and_named(typed):
    with pytest.raises(InvalidRequest) as caught:
        mime.check_address(typed, "to[3].address")
    assert caught.value.field == "to[3].address"


def test_letters_before_the_at_sign_are_refused_with_the_reason():
    with pytest.raises(InvalidRequest, match="SMTPUTF8"):
        mime.check_address("müller@x.example", "to")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("a@x.example, b@y.example", ["a@x.example", "b@y.example"]),
        ('"Last, First" <a@x.example>', ["a@x.example"]),
        ("a@x.example (A (nested) comment, with comma)", ["a@x.example"]),
        ("a@x.example b@y.example", ["a@x.example", "b@y.example"]),
        ("Name <a@x.example> <b@y.example>", ["a@x.example", "b@y.example"]),
        ("<<a@x.example>>", ["a@x.example"]),
        ("a @ x.example", ["a@x.example"]),
        ("a  @\t x.example   b\t@y.example", ["a@x.example", "b@y.example"]),
        ("no address here", []),
        ("", []),
        ("mailto:a@x.example", ["a@x.example"]),
        ("a@x.example;b@y.example", ["a@x.example", "b@y.example"]),
        ("=?utf-8?q?a=40evil=2Eexample?= <b@y.example>", ["b@y.example"]),
        ("=?utf-8?q?x=40evil=2Eexample=2C?= <b@y.example>", ["b@y.example"]),
    ],
)
def test_address_headers_are_read_tolerantly(header, found):
    parsed = mime.parse(f"To: {header}\r\n\r\n".encode())
    assert [person.address for person in parsed.to] == found


def test_a_name_in_a_comment_counts():
    assert mime.parse(b"From: a@x.example (Alice)\r\n\r\n").sender.name == "Alice"
    assert mime.parse(b"From: <a@x.example> (=?utf-8?q?Al=C3=ADce?=)\r\n\r\n").sender.name == "Alíce"
    assert len(mime.parse(b"From: a@x.example (" + b"A" * 5000 + b")\r\n\r\n").sender.name) == 320


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("anna@s.example", "anna@s.example"),
        ("\r\n <Anna@S.Example>", "anna@s.example"),
        ("< anna@s.example >", "anna@s.example"),
        ("Anna (Sales (North)) <anna@s.example> (x)", "anna@s.example"),
        ('"Smith, \\"A\\" <a@b>" <o\'neil+t=1@s.example>', "o'neil+t=1@s.example"),
        ("[A] B. | =?utf-8?q?a=40b=2C?= <anna@s.example>", "anna@s.example"),
        ("anna@s.example <anna@s.example>", "anna@s.example"),
        ("'anna@s.example' <Anna@s.example>", "anna@s.example"),
        ("North, Anna <anna@s.example>", "anna@s.example"),
        ("=?utf-8?q?North,_Anna?= <anna@s.example>", "anna@s.example"),
        ("名前 <anna@münchen.example>", "anna@xn--mnchen-3ya.example"),
    ],
)
def test_a_sender_is_one_address_in_plain_form(header, address):
    assert mime.envelope(f"From: {header}\r\n\r\n".encode(), ref="1").sender.address == address


@pytest.mark.parametrize(
    "header",
    [
        "<=?utf-8?q?anna@s.example?=>", "=?utf-8?q?anna@s.example?=", "<=?utf-8?q?anna?=@s.example>", "<anna@s.exa mple>", "anna@s.\r\n example",
        "anna @s.example", "anna@s.exam\x00ple", "anna@s.exam\x01ple", "anna@s.exam\ufeffple", "anna@\uff53.example", "anna@s\u3002example",
        "anna@s.example.", "<anna@s.example(@evil.example)>", "anna(@evil.example)@s.example", "<@evil.example:anna@s.example>",
        "<<anna@s.example>>", "G: anna@s.example;", "evil.example; <anna@s.example>", "\\<anna@s.example>",
        "eve@evil.example <anna@s.example>", "<anna@s.example> eve@evil.example", '<anna@s.example> "eve@evil.example"',
        "=?utf-8?q?eve@evil.example,?= <anna@s.example>", "North, <anna@s.example>, <eve@evil.example>", "a, anna@s.example", f"<anna@s.example>, <eve@{'e' * 400}.example>", "<anna@s.example>,",
        '(") <eve@evil.example> (") <anna@s.example>', "(<) <eve@evil.example> ()) <anna@s.example>", '"anna@s.example',
        '<"> <anna@s.example> "@evil.example>', f"<anna@s.example> {'(x)' * 22_000}, <eve@evil.example>",
    ],
)  # fmt: skip
def test_where_the_receiving_system_may_find_another_sender_there_is_none(header):
    """What it judged was perhaps another domain than ours (RFC 7489 §6.6.1)."""
    raw = f"Authentication-Results: mx; dmarc=none\r\nFrom: {header}\r\n\r\n".encode()
    envelope = mime.envelope(raw, ref="1")
    assert envelope.sender is None
    assert mime.authentication(envelope, "mx") == "fail"


@pytest.mark.parametrize("folded", ["", "\r\n"])
def test_a_second_author_among_very_many_headers_is_seen(folded):
    above, below = "X: y\r\n" * 60_000, "X: y\r\n" * 20_000
    other = f"From:{folded} <eve@evil.example>\r\n"
    for raw in (
        f"{above}{other}{below}From: anna@s.example",
        f"From: anna@s.example\r\n{above}{other}{below}",
    ):
        assert mime.envelope(f"{raw}\r\n\r\n".encode(), ref="1").sender is None
    goes_on = "From: <anna@s.example>" + "\r\n (x)" * 60_000 + "\r\n , <eve@evil.example>\r\n" + below
    assert mime.envelope(f"{goes_on}\r\n".encode(), ref="1").sender is None
