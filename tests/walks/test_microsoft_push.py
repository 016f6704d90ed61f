"""Microsoft tells us of new mail: within one notice when it does, within one poll when it does not."""

import pytest

from shared import scheduling
from tests.microsoft import build


@pytest.fixture
def office(world, app, clock):
    """A Microsoft scene whose push is live and whose first mail has left."""
    office = build(world, app, clock)
    office.settle()
    yield office
    office.bell.stop()


@pytest.fixture(autouse=True)
def calm(world):
    """No fault of another test is on."""
    yield
    world.graph.faults.__init__()
    world.graph.notifier.faults.__init__()


@pytest.fixture
def arrived(office):
    office.sent()
    office.settle()
    return office.supplier.inbox()[0]


def poll(office, **by):
    """Let the time of the next poll come."""
    office.clock.advance(**by or {"minutes": 11})
    scheduling.tick(office.app)
    office.work()


def ids(office):
    return [message.message_id for message in office.timeline()]


def test_a_reply_stands_in_the_case_within_one_notice(office, arrived):
    wanted = office.supplier.reply(arrived)["Message-ID"]
    office.settle()
    assert ids(office)[1:] == [wanted]


def test_a_reply_sent_from_outlook_itself_stands_in_the_case_within_one_notice(office, arrived):
    office.supplier.reply(arrived, "Our offer")
    office.settle()
    mail = office.alice.reply(office.alice.inbox()[0], "Too dear")
    office.settle()
    last = office.timeline()[-1]
    assert (last.direction, last.origin, last.text.strip()) == ("out", "mailbox", "Too dear")


def test_with_all_notices_lost_it_stands_there_within_one_dead_man_poll(office, arrived):
    office.world.graph.notifier.faults.lose = 1.0
    wanted = office.supplier.reply(arrived)["Message-ID"]
    office.settle()
    assert ids(office)[1:] == []
    poll(office)
    assert ids(office)[1:] == [wanted]
