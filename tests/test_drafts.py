"""What a caller asks to send, compared for ever with what was promised under its key."""

import msgspec
import pytest

from shared.contract import SendEmail
from shared.drafts import fingerprint

pytestmark = pytest.mark.fast

LEAST = {"mailboxId": "m", "to": [{"address": "a@x.example"}], "text": "Hello"}
FILE = {"name": "a.bin", "contentBase64": "QQ=="}


class Later(SendEmail, frozen=True, kw_only=True):
    """The shape of a later release, with one more field."""

    priority: str = "normal"


def of(shape=SendEmail, **given):
    return fingerprint(msgspec.json.decode(msgspec.json.encode({**LEAST, **given}), type=shape))


def test_a_field_that_a_later_release_adds_changes_nothing_for_who_does_not_give_it():
    assert of(Later) == of() == of(Later, priority="normal")
    assert of(Later, priority="high") != of()


@pytest.mark.parametrize(
    "given",
    [
        {"cc": [], "bcc": [], "subject": "", "html": None, "inReplyTo": None, "attachments": []},
        {"to": [{"name": "", "address": "a@x.example"}]},
    ],
)
def test_a_default_that_is_given_is_the_same_as_one_that_is_left_out(given):
    assert of(**given) == of()
    explicit = {**FILE, "contentType": "application/octet-stream"}
    assert of(attachments=[explicit]) == of(attachments=[FILE])


@pytest.mark.parametrize(
    "given",
    [
        {"subject": "x"},
        {"text": None, "html": "Hello"},
        {"text": ""},
        {"cc": LEAST["to"]},
        {"bcc": LEAST["to"]},
        {"attachments": [FILE]},
        {"to": [{"address": "a@x.example", "name": "A"}]},
        {"mailboxId": "n"},
    ],
)
def test_whatever_else_is_given_is_another_mail(given):
    assert of(**given) != of()
