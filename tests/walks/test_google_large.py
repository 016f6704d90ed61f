"""Mails as large as Gmail takes, through the whole of it: each ends filed, sent, or refused before the promise."""

import base64
import email
import email.policy
import random
from dataclasses import replace

import pytest

from shared.contract import NewAttachment
from shared.errors import InvalidRequest
from shared.providers.google.sending import LARGEST
from tests.google import build
from tests.scenes import write

FILE = random.Random(25).randbytes(25_000_000)
"""Gmail takes 25 MB of files: 34 MB as a mail."""


@pytest.fixture
def stage(world, app, clock):
    return build(world, app, clock)


def attachment(octets):
    return NewAttachment(name="drawing.bin", content_base64=base64.b64encode(octets).decode())


@pytest.mark.long
def test_25_mb_of_files_are_sent(stage):
    assert stage.sent(attachments=[attachment(FILE)]).state == "sent"
    [arrived] = stage.supplier.inbox()
    assert len(arrived) > 34_000_000
    last_line = FILE[-(len(FILE) % 57) :]
    assert base64.b64encode(last_line) in arrived


def test_an_answer_of_25_mb_is_filed(stage):
    stage.sent()
    file = FILE[:18_500_000]
    asked = email.message_from_bytes(stage.supplier.inbox()[0])["Message-ID"]
    told = {"In-Reply-To": asked, "References": asked}
    answer = write(stage.supplier.address, stage.alice.address, "Re: Offer 4711", "See the file", **told)
    answer.add_attachment(file, "application", "octet-stream", filename="drawing.bin")
    raw = answer.as_bytes(policy=email.policy.SMTP)
    assert len(raw) > 25_000_000
    stage.supplier.submit(raw, [stage.alice.address])
    stage.settle()
    assert stage.timeline()[-1].attachments[0].size == len(file)


def test_more_than_gmail_takes_is_refused_before_it_is_promised(stage):
    ours = replace(stage.app, max_mail_bytes=2 * LARGEST)
    with pytest.raises(InvalidRequest) as caught:
        stage.send(ours, attachments=[attachment(FILE + FILE[: LARGEST // 10])])
    assert (caught.value.field, bool(caught.value.fix)) == ("attachments", True)
    assert stage.timeline() == []
