"""What every Sender promises in `providers/base.py`, whatever it speaks."""

import pytest

from shared.errors import ConsentRequired, OutcomeUnknown, Raced, Rejected, Temporary
from shared.providers.registry import names, provider
from tests.contracts.stages import SENDING
from tests.providers.parts import id_of, mail


@pytest.fixture(params=SENDING)
def stage(request, server):
    return SENDING[request.param](server)


@pytest.fixture
def sender(stage):
    sender = stage.sender()
    yield sender
    sender.close()


@pytest.fixture
def commits():
    return []


def send(stage, sender, commits, *to, raw=None):
    raw = raw or mail(From=stage.address)
    return sender.send(raw, stage.address, list(to or [stage.recipient]), lambda *_: commits.append(1))


def test_every_provider_that_sends_has_a_stage():
    assert {name for name in names() if provider(name).sender} == set(SENDING)


def test_check_signs_in_without_sending(stage, sender):
    sender.check()
    assert stage.arrived() == []


def test_a_refused_sign_in_needs_consent_says_what_to_do_and_commits_nothing(stage, commits):
    sender = stage.sender(stage.wrong)
    for use in (sender.check, lambda: send(stage, sender, commits)):
        with pytest.raises(ConsentRequired) as caught:
            use()
        assert caught.value.fix
    assert commits == []
    sender.close()


def test_a_message_leaves_once_after_one_commit(stage, sender, commits):
    raw = mail("Grüße", "Text\n.\nMore", From=stage.address)
    receipt = send(stage, sender, commits, raw=raw)
    [arrived] = stage.arrived()
    assert id_of(arrived) == (receipt.message_id or id_of(raw))
    assert arrived.endswith(raw.partition(b"\r\n\r\n")[2])
    assert commits == [1]
    assert receipt.refused == {}


def test_what_commit_raises_ends_the_attempt_with_nothing_sent(stage, sender):
    def lost(*_):
        raise Raced

    with pytest.raises(Raced):
        sender.send(mail(From=stage.address), stage.address, [stage.recipient], lost)
    assert stage.arrived() == []


def test_a_recipient_that_is_refused_is_named_or_bounces_and_the_others_get_it(stage, sender, commits):
    receipt = send(stage, sender, commits, stage.recipient, stage.refused)
    assert list(receipt.refused) == [stage.refused] * stage.tells_refused
    assert all(receipt.refused.values())
    assert len(stage.arrived()) == 1


def test_all_refused_is_rejected_and_commits_nothing_where_the_system_tells(stage, sender, commits):
    if stage.tells_refused:
        with pytest.raises(Rejected):
            send(stage, sender, commits, stage.refused)
        assert commits == []
    else:
        assert send(stage, sender, commits, stage.refused).refused == {}
    assert stage.arrived() == []


def test_not_now_is_temporary_and_certain(stage, sender, commits):
    stage.defer()
    with pytest.raises(Temporary):
        send(stage, sender, commits)
    assert stage.arrived() == []


@pytest.mark.parametrize("delivered", [True, False])
def test_a_break_after_the_hand_over_began_is_unknown(stage, sender, commits, delivered):
    stage.lose_answer(delivered=delivered)
    with pytest.raises(OutcomeUnknown):
        send(stage, sender, commits)
    assert commits == [1]
    assert len(stage.arrived()) == delivered


def test_whether_it_files_a_copy_is_known_before_sending(sender):
    assert sender.files_copy in {True, False}


def test_close_never_raises(sender):
    sender.close()
    sender.close()
