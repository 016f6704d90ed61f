"""What it costs to read a mail grows with the mail, not with its square, whatever is repeated in it.

The mails are read by a process that the system ends when one of them is too much work (its own: a busy machine
is none). The cap is three times what the worst of them takes, and what was quadratic took more than the cap.
"""

import itertools
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mime.test_fuzz import read_everything

pytestmark = pytest.mark.fast

CAP = 4
"""Seconds of work for one mail."""

MEMORY = 2_000_000_000
"""Octets of address space for all of them."""

LONG = 30_000
HEADERS = [b"From", b"To", b"Cc", b"Bcc", b"Reply-To", b"Subject", b"Date", b"Message-ID", b"References", b"In-Reply-To",
           b"Received", b"Content-Type", b"Content-Disposition", b"Authentication-Results", b"Auto-Submitted",
           b"X-Auto-Response-Suppress", b"X-Failed-Recipients", b"Original-Message-ID", b"Final-Recipient", b"Diagnostic-Code"]  # fmt: skip
FILLINGS = [b" ", b"\t", b"\r\n ", b"\n\t", b"@", b" @", b"@\t", b"<", b"<@", b"<a@b> ", b"(", b"(a)", b'"', b'"" ', b"\\", b",", b";", b"a=b;",
            b"=?", b"=?a?q?", b"?= ", b"a"]  # fmt: skip
FORMATTING = b"".join(b"<b title=%d>" % n for n in range(490))
BOUNCE = b"From: MAILER-DAEMON@x.example\r\nReturn-Path: <>\r\nContent-Type: "
OTHERS = {
    "a long name for many": (b"To: (=?" + b"a" * LONG + b")" + b"<@>" * (LONG // 3) + b"\r\n") * 4 + b"\r\nx",
    "combining marks": b"".join(
        name + b": a" + "\u0315\u0316".encode() * 15_000 + b"\r\n"
        for name in (b"Subject", b"Date", b"From", b"To")
    ),
    "strays between headers": b"X: y\r\nstray\r\n" * 300_000,
    "strays after headers": b"X: y\r\n" * 60_000 + b"stray\r\n" * 300_000,
    "names of headers below many": b"X: y\r\n" * 60_000 + (b"a" * 300 + b"\r\n") * 10_000,
    "a name before tabs below many": b"X: y\r\n" * 60_000 + (b"a" + b"\t" * LONG + b"\r\n") * 60,
    "a header that goes on below many": b"X: y\r\n" * 60_000 + b"References: " + b"<a@b>\r\n " * 200_000,
    "a boundary of tabs": BOUNCE + b"multipart/mixed\r\n\r\n--" + b"\t" * 2_000_000,
    "lines of at signs": BOUNCE + b"text/plain\r\n\r\n" + (b"<" + b"@" * 578 + b"\n") * 3_400,
    "hard spaces": BOUNCE + b"text/html; charset=latin1\r\n\r\n" + b"\xa0" * 1_900_000,
    "attributes": BOUNCE + b"text/html\r\n\r\n<p " + b" ".join(b"a%d" % n for n in range(250_000)) + b">",
    "attributes behind a comment that looks like an element": BOUNCE
    + b'text/html\r\n\r\n<!-- <a b="--><p '
    + b" ".join(b"a%d" % n for n in range(250_000))
    + b'> <!-- " -->',
    "formatting that begins again": BOUNCE
    + b"text/html\r\n\r\n<p>"
    + FORMATTING
    + b"</p>"
    + b"<p>x" * 40_000,
    "formatting that is open": BOUNCE + b"text/html\r\n\r\n<p>" + FORMATTING + b"<div>x</div>" * 40_000,
    "formatting that a cell cannot close": BOUNCE
    + b"text/html\r\n\r\n<div>%s<table><td>%s</table></div>" % (FORMATTING, b"</b>" * 490)
    + b"<p>x" * 40_000,
    "end tags of nothing": BOUNCE + b"text/html\r\n\r\n" + b"<div></zz>" * 150_000,
    "end tags in attributes": BOUNCE + b"text/html\r\n\r\n" + b'<div title="</div>">' * 90_000,
    "end tags in comments": BOUNCE + b"text/html\r\n\r\n" + b"<div><!--</div>-->" * 100_000,
    "end tags in scripts": BOUNCE
    + b"text/html\r\n\r\n"
    + b"<div><script><!--<script></script></div></script>" * 40_000,
    "items and terms in each other": BOUNCE + b"text/html\r\n\r\n" + b"<li><dd>" * 40_000,
    "text between cells": BOUNCE + b"text/html\r\n\r\n<table>" + b"x<i></i>" * 200_000,
    "blanks in many elements": BOUNCE + b"text/html\r\n\r\n" + b"<a " * 1000 + b" " * 1_900_000,
    "elements in each other's names": BOUNCE + b"text/html\r\n\r\n" + b"<p" * 900_000,
}


def mails() -> Iterator[tuple[str, bytes]]:
    """Four long headers a mail; and others."""
    for filling in FILLINGS:
        values = b": a" + filling * (LONG // len(filling)) + b"b\r\n"
        for headers in itertools.batched(HEADERS, 4, strict=True):
            yield f"{headers} of {filling!r}", b"".join(name + values for name in headers) + b"\r\nx"
    yield from OTHERS.items()


@pytest.mark.long
def test_mails_made_to_hurt_are_little_work():
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, f"ended in: {done.stdout.splitlines()[-1]}\n{done.stderr}"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name, raw in mails():
        print(name, flush=True)
        signal.setitimer(signal.ITIMER_VIRTUAL, CAP)  # the signal ends the process, whatever it is in
        read_everything(raw)
