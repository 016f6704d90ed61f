"""What only Exchange does, in whole walks; the foundation's promises hold by its row in `conftest.ROWS`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared import casework, connecting, integrating, owning
from shared.callers import Caller
from shared.contract import ConnectMailbox, PatchMailbox, PutIntegration
from shared.errors import ConsentRequired, InvalidRequest, NotAllowed, RateLimited, Temporary, Unsupported
from shared.model import AuditRecord, Delivery, Mailbox, SyncState
from shared.providers.base import Cursor
from shared.providers.ews.position import Position
from shared.storage.base import Move
from shared.syncing import PATIENCE
from tests import exchange
from tests.scenes import caller, write


@pytest.fixture
def row():
    return "ews"


@pytest.fixture
def posts(world):
    """How often the Exchange was asked, whatever for."""
    return world.exchange.calls.total


def directions(scene):
    return [message.direction for message in scene.timeline()]


def test_the_story_by_ntlm(world, app, clock):
    scene = exchange.build(world, app, clock, settings={"auth": "ntlm"})
    scene.sent()
    [arrived] = scene.supplier.inbox()
    scene.supplier.reply(arrived)
    scene.alice.reply(arrived, to=scene.supplier.address)  # from Outlook
    scene.sync()
    assert sorted(directions(scene)) == ["in", "out", "out"]
    assert world.exchange.accounts.attempts["good"] > 0


def test_a_wrong_password_is_refused_at_once_and_nothing_is_kept(scene, world, posts):
    carol = exchange.person(world, "carol", scene.domain)
    for auth, most in (("basic", 1), ("ntlm", 3)):
        before = posts()
        with pytest.raises(ConsentRequired):
            exchange.connect(
                world, scene.app, scene.org_id, carol, settings={"auth": auth}, secret={"password": "wrong"}
            )
        assert posts() - before <= most
    assert [box.value.address for box in scene.app.records.range(scene.org_id, Mailbox)] == [
        scene.alice.address
    ]


def test_a_token_is_refused_before_exchange_is_asked(scene, world, posts):
    carol = exchange.person(world, "carol", scene.alice.address.rpartition("@")[2])
    before = posts()
    with pytest.raises(InvalidRequest, match="A password is needed") as caught:
        exchange.connect(world, scene.app, scene.org_id, carol, secret={"accessToken": "x", "expiresIn": 60})
    assert caught.value.field == "secret"
    assert posts() == before


def test_a_mailbox_in_exchange_online_is_shown_the_way_to_graph(scene, world):
    carol = exchange.person(world, "carol", scene.domain)
    place = {"host": "outlook.office365.com", "port": 443}
    with pytest.raises(InvalidRequest) as caught:
        exchange.connect(world, scene.app, scene.org_id, carol, settings=place)
    assert "host" in caught.value.field
    assert "Microsoft 365" in caught.value.fix


def test_it_connects_a_mailbox_through_its_service_account(scene, world):
    service, carol = (exchange.person(world, name, scene.domain) for name in ("service", "carol"))
    settings = {"access": "impersonation", "username": service.address}
    it = caller(scene.org_id, f"it@{scene.domain}", "admin")
    with pytest.raises(NotAllowed):
        exchange.connect(world, scene.app, scene.org_id, carol, settings=settings)
    with pytest.raises(ConsentRequired, match="impersonate"):
        exchange.connect(world, scene.app, scene.org_id, carol, it, settings=settings, owner=carol.address)
    world.exchange.impersonators.add(service.address)
    box = exchange.connect(world, scene.app, scene.org_id, carol, it, settings=settings, owner=carol.address)
    carol.receive(write("x@elsewhere.example", carol.address, "For Carol", "Words").as_bytes())
    assert scene.sync(box)["ignore"] == 1


def test_what_it_alone_may_choose_stays_when_its_owner_changes_another_setting(scene, world):
    service, carol = (exchange.person(world, name, scene.domain) for name in ("service", "carol"))
    world.exchange.impersonators.add(service.address)
    it, owner = caller(scene.org_id, f"it@{scene.domain}", "admin"), caller(scene.org_id, carol.address)
    settings = {"access": "impersonation", "username": service.address}
    box = exchange.connect(world, scene.app, scene.org_id, carol, it, settings=settings, owner=carol.address)

    def change(who, **values):
        body = PatchMailbox(settings={"ews": values})
        return connecting.change(scene.app, who, box.id, body).settings["ews"]

    changed = change(owner, otherFolders="never")
    assert (changed["access"], changed["otherFolders"]) == ("impersonation", "never")
    carol.box.grant_access(service.address, "full_access")
    assert change(owner, access="delegate")["access"] == "delegate"
    with pytest.raises(NotAllowed) as caught:
        change(owner, access="impersonation")
    assert caught.value.field == "settings.ews.access"
    assert change(it, access="impersonation")["access"] == "impersonation"


def test_a_mailbox_that_only_reads_says_why_it_does_not_send(scene, world):
    carol = exchange.person(world, "carol", scene.domain)
    box = exchange.connect(world, scene.app, scene.org_id, carol, sends_with=None)
    assert scene.sync(box) == {}
    with pytest.raises(Unsupported), scene.app.sending(scene.org_id, box):
        pass


def test_a_busy_exchange_is_left_alone_for_as_long_as_it_says(scene, world, posts):
    world.exchange.faults.throttled[scene.alice.address] = 2
    world.exchange.faults.back_off = 240_000
    before = posts()
    with pytest.raises(RateLimited) as caught:
        scene.sync()
    assert caught.value.retry_after == 240
    message = scene.sent()
    assert (message.state, message.error.code) == ("queued", "rate_limited")
    assert (message.next_at - scene.clock()).total_seconds() > 230
    assert posts() - before == 2
    scene.clock.advance(minutes=5)
    scene.deliver(message)
    assert scene.email(message.id).state == "sent"


def test_lost_sync_states_start_over_and_file_nothing_twice(scene):
    scene.sent()
    scene.supplier.reply(scene.supplier.inbox()[0])
    scene.sync()
    scene.alice.box.lose_sync_states()
    scene.supplier.reply(scene.supplier.inbox()[0], "Second")
    scene.sync()
    assert directions(scene) == ["out", "in", "in"]
    events = [row.value.event for row in scene.app.records.range(scene.org_id, AuditRecord)]
    assert events.count("mailbox.restarted") == 1


@pytest.mark.parametrize(("blanks", "folders"), [(345_000, 0), (9_000, 50)])
def test_sync_states_that_are_too_long_to_be_kept_stop_no_answer(scene, blanks, folders):
    scene.alice.box.blanks, names = blanks, [f"Project {number}" for number in range(folders)]
    for name in names:
        scene.alice.box.add_folder(name)
    scene.mailbox = connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(folders=names))
    scene.sent()
    for number in range(2):
        scene.supplier.reply(scene.supplier.inbox()[0], f"Answer {number}")
        assert scene.sync()["file"] == 1
    scene.alice.reply(scene.supplier.inbox()[0], to=scene.supplier.address)
    scene.sync()
    assert directions(scene) == ["out", "in", "in", "out"]
    assert owning.show(scene.app, scene.caller, scene.mailbox.id)[1].problem is None


def test_an_exchange_that_renames_our_mail_is_followed(scene, world):
    world.exchange.faults.rewrite_message_id = world.exchange.faults.rewrite_date = True
    scene.sent()
    world.exchange.faults.clear()
    [arrived] = scene.supplier.inbox()
    assert b"EX01.exchange.sandbox" in arrived
    scene.supplier.reply(arrived, References="")  # names Exchange's id alone
    scene.sync()
    assert directions(scene) == ["out", "in"]


@pytest.mark.parametrize("code", ["ErrorInternalServerError", "ErrorCorruptData", "ErrorAccessDenied"])
def test_an_unrelated_mail_that_exchange_refuses_stops_no_answer_and_is_told(scene, world, code):
    scene.sent()
    bad = scene.alice.box.add(write("x@elsewhere.example", scene.alice.address, "Bad", "x").as_bytes())
    world.exchange.faults.bad_mails[bad.id] = code
    scene.supplier.reply(scene.supplier.inbox()[0])
    assert scene.sync()["file"] == 1
    assert directions(scene) == ["out", "in"]
    told = owning.show(scene.app, scene.caller, scene.mailbox.id)[1]
    assert told.problem.code == "mail_refused"
    assert scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value.state == "active"


@pytest.mark.parametrize("code", ["ErrorInternalServerError", "ErrorAccessDenied"])
def test_a_case_mail_whose_content_exchange_refuses_is_held_and_its_mailbox_goes_on(scene, world, code):
    scene.sent()
    scene.supplier.reply(scene.supplier.inbox()[0])
    [answer] = scene.alice.box.listed(scene.alice.box.place("inbox").id)
    world.exchange.faults.bad_contents[answer.id] = code
    for _ in range(PATIENCE):
        with pytest.raises(Temporary):
            scene.sync()
    assert scene.sync()["lost"] == 1
    scene.supplier.reply(scene.supplier.inbox()[0], "Second")
    assert scene.sync()["file"] == 1


def test_on_the_wire_no_body_is_asked_for_and_each_step_has_its_price(scene, world):
    def asked(act):
        before, mime = len(world.exchange.requests), world.exchange.mime_asked.total()
        act()
        names = [name for name, who in world.exchange.requests[before:] if who == scene.alice.address]
        return names, world.exchange.mime_asked.total() - mime

    scene.sync()
    assert asked(scene.sync) == (["FindFolder", "SyncFolderItems", "SyncFolderItems"], 0)
    for number in range(20):
        scene.alice.receive(
            write(f"s{number}@elsewhere.example", scene.alice.address, "Private", "Words").as_bytes()
        )
    names, mime = asked(scene.sync)
    assert (names.count("GetItem"), mime) == (1, 0)
    assert scene.alice.box.bodies_read.total() == 0
    message = scene.send()
    assert asked(lambda: scene.deliver(message)) == (["GetFolder", "CreateItem"], 0)
    scene.sync()
    scene.supplier.reply(scene.supplier.inbox()[0])
    assert asked(scene.sync) == (
        ["FindFolder", "SyncFolderItems", "SyncFolderItems", "GetItem", "GetItem"],
        1,
    )


def test_where_folders_are_chosen_no_unrelated_mail_in_others_is_shown_and_a_moved_reply_is_filed(scene):
    box = scene.alice.box
    for name in ("Projects", "Suppliers", "Private"):
        box.add_folder(name)
    scene.mailbox = connecting.change(
        scene.app, scene.caller, scene.mailbox.id, PatchMailbox(folders=["Projects"])
    )
    scene.sent()
    scene.sync()
    for number in range(20):
        raw = write(f"s{number}@elsewhere.example", scene.alice.address, "Private", "Words").as_bytes()
        scene.alice.receive(raw, folder="Private")
    scene.supplier.reply(scene.supplier.inbox()[0])
    [reply] = box.listed(box.place("inbox").id)
    box.move(reply, "Suppliers")
    before = {*box.headers_read}
    assert scene.sync() == {"file": 1}
    assert directions(scene) == ["out", "in"]
    assert {*box.headers_read} - before == {reply.id}


def test_where_other_folders_are_never_looked_into_not_even_a_reply_is_seen_there(scene, world):
    box = scene.alice.box
    _, suppliers = (box.add_folder(name) for name in ("Projects", "Suppliers"))
    never = PatchMailbox(folders=["Projects"], settings={"ews": {"otherFolders": "never"}})
    scene.mailbox = connecting.change(scene.app, scene.caller, scene.mailbox.id, never)
    scene.sent()
    scene.sync()
    [asked] = scene.supplier.inbox()
    scene.supplier.reply(asked)
    [reply] = box.listed(box.place("inbox").id)
    box.move(reply, "Suppliers")
    before, requests = {*box.headers_read}, len(world.exchange.requests)
    assert scene.sync() == {}
    assert {*box.headers_read} == before
    assert "FindItem" not in {name for name, _ in world.exchange.requests[requests:]}
    [moved] = box.listed(suppliers.id)
    box.move(moved, "Projects")  # by its owner: that one was chosen
    assert scene.sync() == {"file": 1}
    assert directions(scene) == ["out", "in"]


def test_a_mail_that_leaves_through_an_smtp_server_has_one_copy_in_sent_which_is_no_draft(scene, world):
    admin = caller(scene.org_id, "it@exchange.example", "admin")
    integrating.put(scene.app, admin, "smtp", PutIntegration(approved=True))
    bob = exchange.person(world, "bob", scene.domain)
    world.dovecot.add_user(bob.address, exchange.PASSWORD)
    smtp = {"host": "localhost", "port": world.ports["smtp"], "security": "starttls"}
    ews = {"host": "localhost", "port": world.ports["exchange"], "auth": "basic"}
    scene.alice, scene.mailbox = (
        bob,
        connecting.connect(
            scene.app,
            caller(scene.org_id, bob.address),
            ConnectMailbox(
                address=bob.address,
                receives_with="ews",
                sends_with="smtp",
                settings={"ews": ews, "smtp": smtp},
                secret={"password": exchange.PASSWORD},
            ),
        ),
    )
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-1", "Screws", [bob.address])
    message = scene.sent()
    [copy] = bob.box.listed(bob.box.folder("sentitems").id)
    assert message.deliveries == (Delivery(scene.mailbox.id, copy.moving_id),)
    assert not copy.draft
    scene.sync()
    assert directions(scene) == ["out"]


def test_what_rules_moved_while_other_folders_were_closed_is_found_once_they_are_open(scene):
    def others(value):
        body = PatchMailbox(settings={"ews": {"otherFolders": value}})
        return connecting.change(scene.app, scene.caller, scene.mailbox.id, body)

    suppliers = scene.alice.box.add_folder("Suppliers")
    scene.sent()
    scene.mailbox = others("never")
    scene.sync()
    scene.supplier.reply(scene.supplier.inbox()[0])
    [reply] = scene.alice.box.listed(scene.alice.box.place("inbox").id)
    scene.alice.box.move(reply, suppliers.id)
    assert scene.sync() == {}
    position = Position.of(
        Cursor(scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value.cursor)
    )
    position.sweep_from = position.swept = datetime.now(UTC) + timedelta(days=1)  # as after days of looks
    stored = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id)
    scene.app.records.commit(scene.org_id, Move(stored, replace(stored.value, cursor=position.cursor)))
    assert scene.sync() == {}
    scene.mailbox = others("search")
    assert scene.sync() == {"file": 1}


def test_who_may_read_and_not_write_sends_by_another_server_lacks_the_copy_and_reads_on(scene, world):
    bob = exchange.person(world, "bob", scene.domain)
    world.dovecot.add_user(bob.address, exchange.PASSWORD)
    admin = Caller(scene.org_id, "it@exchange.example", frozenset({"admin"}))
    integrating.put(scene.app, admin, "smtp", PutIntegration(approved=True))
    places = {
        "smtp": {"host": "localhost", "port": world.ports["smtp"], "security": "starttls"},
        "ews": {"host": "localhost", "port": world.ports["exchange"], "auth": "basic"},
    }
    body = ConnectMailbox(
        address=bob.address,
        receives_with="ews",
        sends_with="smtp",
        settings=places,
        secret={"password": exchange.PASSWORD},
    )
    scene.alice = bob
    scene.mailbox = connecting.connect(scene.app, caller(scene.org_id, bob.address), body)
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-1", "Screws", [bob.address])
    world.exchange.faults.errors["CreateItem"] = ["ErrorAccessDenied"]
    assert scene.sent().state == "sent"
    assert "message.copy_missing" in {
        one.value.event for one in scene.app.records.range(scene.org_id, AuditRecord)
    }
    scene.supplier.reply(scene.supplier.inbox()[0])
    assert scene.sync()["file"] == 1


def test_a_folder_at_which_a_colleagues_rights_end_stops_no_mailbox(scene, world):
    private = scene.alice.box.add_folder("Private").id
    world.exchange.faults.closed = {private}
    scene.sent()
    [arrived] = scene.supplier.inbox()
    scene.supplier.reply(arrived)
    scene.alice.box.add(write("x@else.example", scene.alice.address, "Private", "Text").as_bytes(), private)
    assert scene.sync()["file"] == 1
