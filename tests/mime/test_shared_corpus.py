"""Real mail of seven public projects, which lies beside the checkout in CI only."""

from pathlib import Path

import pytest

from shared import mime

pytestmark = [pytest.mark.fast, pytest.mark.shared_data]

FOLDER = Path(__file__).parents[3] / "shared" / "corpus"


@pytest.fixture(scope="module")
def mails() -> list[Path]:
    found = sorted(FOLDER.rglob("*.eml"))
    if not found:
        pytest.skip(f"no mails in {FOLDER}: this test needs the corpus beside the checkout")
    return found


def test_every_real_mail_can_be_read(mails):
    for path in mails:
        raw = path.read_bytes()
        parsed, envelope = mime.parse(raw), mime.envelope(raw, ref=path.name)
        assert parsed.subject == envelope.subject, path
        for listed in parsed.attachments:
            _, content = mime.attachment(raw, listed.index)
            assert len(content) == listed.size, path
        mime.sanitise(parsed.html or "")
        mime.authentication(envelope, None)
        mime.report(raw)


def test_every_real_bounce_names_its_mail_and_its_recipients(mails):
    bounces = [path for path in mails if mime.classify(mime.envelope(path.read_bytes(), ref="")) == "bounce"]
    for path in bounces:
        found = mime.report(path.read_bytes())
        assert found.message_ids, path
        assert all("@" in recipient.address for recipient in found.recipients), path
        assert {recipient.action for recipient in found.recipients} <= {"failed", "delayed"}, path
    assert len(bounces) >= 7
