"""A mailbox's life: polls, changes, a password that stops working, disconnect and return, OAuth tokens."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared import connecting, delivering, disconnecting, looking, reviewing, scheduling
from shared.contract import ConnectMailbox, PatchMailbox
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotFound, Temporary, Unsupported
from shared.jobs import Job
from shared.model import Grant, Mailbox, SyncState
from shared.providers.base import Query
from shared.storage.base import Due, Save
from tests.scenes import PASSWORD, caller, connect, imap, someone


def due(scene, kind="poll"):
    found = scene.app.schedule.until(scene.clock().replace(year=2100))
    return [entry for entry in found if entry.org_id == scene.org_id and entry.kind == kind]


def state(scene):
    return scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value


def pass_time(scene, **by):
    scene.clock.advance(**by)
    scheduling.tick(scene.app)
    return scene.work()


def patch(scene, **changes):
    return connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(**changes))


def synced_at(scene):
    return scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value.synced_at


def test_a_connected_mailbox_is_looked_at_at_once_and_then_by_its_interval(scene):
    scene.work()
    first = synced_at(scene)
    pass_time(scene, minutes=4)
    second = synced_at(scene)
    assert second > first
    pass_time(scene, minutes=5)
    assert synced_at(scene) == second
    pass_time(scene, minutes=6)
    assert synced_at(scene) > second
    assert len(due(scene)) == 1


def test_after_a_long_night_one_poll_makes_up_for_all_missed_ones(scene):
    scene.work()
    pass_time(scene, hours=8)
    assert len(due(scene)) == 1
    assert due(scene)[0].at > scene.clock() - timedelta(minutes=1)  # kept to the minute


def test_an_outage_does_not_bring_all_polls_into_the_same_minute(scene):
    scene.work()
    [before] = due(scene)
    pass_time(scene, minutes=257)
    [after] = due(scene)
    assert timedelta() < after.at - scene.clock() < timedelta(seconds=before.every)
    assert (after.at - before.at) % timedelta(seconds=before.every) == timedelta()


def test_a_changed_interval_starts_a_new_chain_and_the_old_one_is_cut(scene):
    scene.work()
    patch(scene, poll_seconds=3600)
    for _ in range(4):
        pass_time(scene, minutes=11)
    [only] = due(scene)
    assert only.every == 3600
    assert only.token == state(scene).schedule


def test_a_mailbox_that_waits_for_its_sign_in_cannot_be_paused_without_one(scene):
    """It was answered as if done, and the mailbox was active once it was connected again."""
    scene.app.records.commit(scene.org_id, Save(replace(scene.mailbox, state="needs_consent")))
    with pytest.raises(Conflict) as caught:
        patch(scene, paused=True)
    assert "then pause it" in caught.value.fix
    assert patch(scene, paused=True, secret={"password": PASSWORD}).state == "paused"


def test_a_paused_mailbox_is_not_looked_at_until_it_goes_on(scene):
    scene.work()
    patch(scene, paused=True)
    for _ in range(3):
        pass_time(scene, minutes=11)
    assert due(scene) == []
    before = synced_at(scene)
    assert patch(scene, paused=False).state == "active"
    scene.work()
    assert synced_at(scene) > before
    assert len(due(scene)) == 1


def test_a_look_now_is_refused_with_the_way_out_where_nothing_would_be_looked_at(scene):
    patch(scene, paused=True)
    with pytest.raises(Conflict) as caught:
        looking.soon(scene.app, scene.caller, scene.mailbox.id)
    assert "paused" in (caught.value.fix or "")
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    with pytest.raises(Conflict, match="disconnected"):
        looking.soon(scene.app, scene.caller, scene.mailbox.id)


def test_the_tick_repeated_after_a_crash_doubles_a_poll_and_ends_no_chain(scene):
    scene.work()
    scene.clock.advance(minutes=12)
    [entry] = due(scene)
    scheduling.tick(scene.app)
    scene.app.schedule.put(entry)  # it died before it removed the entry
    scheduling.tick(scene.app)
    scene.work()
    assert len(due(scene)) == 1


def test_a_chain_of_a_mailbox_that_never_came_to_be_is_cut(scene):
    ghost = replace(scene.mailbox, id="f" * 16, schedule="ghost")
    scheduling.plan_polls(scene.app, scene.org_id, ghost)
    pass_time(scene, minutes=4)
    assert [entry for entry in due(scene) if entry.id == ghost.id] == []


def test_a_refused_password_ends_the_polls_and_says_what_to_do(scene):
    scene.sent()
    scene.work()
    scene.world.dovecot.add_user(scene.alice.address, "changed")
    scene.clock.advance(minutes=2)
    try:
        with pytest.raises((ConsentRequired, Temporary)):
            scene.sync()
        scene.work()
        scene.clock.advance(minutes=2)
        if state(scene).state == "active":
            with pytest.raises(ConsentRequired):
                scene.sync()
        broken = state(scene)
        assert broken.state == "needs_consent"
        assert broken.problem
        assert broken.problem.fix
        with pytest.raises(ConsentRequired):
            scene.send()
        with pytest.raises(ConsentRequired):
            patch(scene, secret={"password": "wrong"})
        assert state(scene).state == "needs_consent"

        arrived = scene.supplier.inbox()[0]
        answer = scene.supplier.reply(arrived)
        assert patch(scene, secret={"password": "changed"}).state == "active"
        scene.work()
        assert answer["Message-ID"] in [message.message_id for message in scene.timeline()]
    finally:
        scene.world.dovecot.add_user(scene.alice.address, PASSWORD)


def test_an_outdated_password_in_memory_is_not_held_against_a_reconnected_mailbox(scene):
    scene.sync()
    scene.sync()  # now it comes from memory
    scene.world.dovecot.add_user(scene.alice.address, "changed")
    try:
        other = type(scene.app.grants)(scene.app.records, scene.app.vault, scene.app.keys, scene.clock)
        other.store_password(scene.org_id, scene.mailbox.id, "imap", scene.alice.address, "changed")
        with pytest.raises(Temporary):
            scene.sync()
        scene.sync()
        assert state(scene).state == "active"
    finally:
        scene.world.dovecot.add_user(scene.alice.address, PASSWORD)


def test_a_disconnected_mailbox_has_no_secret_no_poll_and_no_held_headers(scene):
    scene.held()
    waiting = scene.send()
    receipt = disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    assert {"imap password", "smtp password"} <= set(receipt.destroyed)
    assert "Zalion deletes none of them" in receipt.kept
    assert scene.reviews() == []
    assert scene.app.records.range(scene.org_id, Grant) == []
    pass_time(scene, minutes=11)
    assert due(scene) == []
    failed = scene.email(waiting.id)
    assert (failed.state, failed.error.code) == ("failed", "disconnected")
    again = disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    assert again.destroyed == []


def test_what_came_while_it_was_disconnected_is_filed_after_the_return(scene):
    arrived = scene.sent() and scene.supplier.inbox()[0]
    scene.sync()
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    answer = scene.supplier.reply(arrived)
    assert sum(scene.sync().values()) == 0
    body = ConnectMailbox(
        address=scene.alice.address,
        receives_with="imap",
        sends_with="smtp",
        settings={name: dict(values) for name, values in scene.mailbox.settings.items()},
        secret={"imap": {"password": PASSWORD}, "smtp": {"password": PASSWORD}},
    )
    connecting.connect(scene.app, scene.caller, body)
    scene.work()
    assert answer["Message-ID"] in [message.message_id for message in scene.timeline()]


def test_a_mailbox_on_oauth_tokens_reads_sends_and_keeps_the_rotated_token(scene, world):
    person = someone(world, "oauth", "imap.example")
    secret = {name: tokens(world, person) for name in ("imap", "smtp")}
    box = connect(world, scene.app, scene.org_id, person, secret=secret)
    first = scene.app.records.get(scene.org_id, Grant, f"{box.id}!imap").value
    assert set(first.sealed) == {"access_token", "refresh_token"}
    scene.sync(box)
    scene.clock.advance(hours=2)
    scene.sync(box)
    second = scene.app.records.get(scene.org_id, Grant, f"{box.id}!imap").value
    assert second.sealed["refresh_token"] != first.sealed["refresh_token"]
    assert secret["imap"]["refreshToken"] not in str(second)
    world.issuer.revoke(person.address)
    scene.clock.advance(hours=2)
    with pytest.raises(ConsentRequired):
        scene.sync(box)


def tokens(world, person):
    """A consent of its own for one side, as the token endpoint gave it."""
    return {
        "refreshToken": world.issuer.grant(person.address),
        "tokenUrl": f"{world.issuer.url}/oauth/token",
        "clientId": world.issuer.client_id,
        "clientSecret": world.issuer.client_secret,
    }


def test_one_refresh_token_for_two_sides_is_refused_because_it_rotates(scene, world):
    person = someone(world, "oauth", "imap.example")
    with pytest.raises(InvalidRequest) as caught:
        connect(world, scene.app, scene.org_id, person, secret=tokens(world, person))
    assert caught.value.field == "secret"


def test_an_access_token_alone_serves_until_it_ends(scene, world):
    person = someone(world, "oauth", "imap.example")
    secret = {"accessToken": world.issuer.access_token(person.address), "expiresIn": 3000}
    box = connect(world, scene.app, scene.org_id, person, secret=secret)
    scene.sync(box)
    scene.clock.advance(hours=2)
    with pytest.raises(ConsentRequired):
        scene.sync(box)


def test_search_pages_through_the_own_mailbox(scene):
    for number in range(3):
        scene.supplier.send(scene.alice.address, f"Findable {number}")
    first, cursor = looking.search(
        scene.app, scene.caller, scene.mailbox.id, Query(subject="Findable", limit=2), None
    )
    assert len(first) == 2
    assert cursor
    second, end = looking.search(
        scene.app, scene.caller, scene.mailbox.id, Query(subject="Findable", limit=2), cursor
    )
    assert len(second) == 1
    assert end is None
    assert {hit.ref for hit in first}.isdisjoint({hit.ref for hit in second})


def test_a_review_that_is_decided_or_gone_cannot_be_decided_again(scene):
    with pytest.raises(NotFound):
        reviewing.decide(scene.app, scene.caller, scene.mailbox.id, "nothing", "file")
    scene.held()
    [(review, case_id)], end = reviewing.held(scene.app, scene.caller, scene.mailbox.id, limit=1, cursor=None)
    assert end is None
    assert case_id == "C-1"
    reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "dismiss")
    with pytest.raises(Conflict):
        reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")


@pytest.mark.every_provider
def test_folders_are_chosen_only_where_they_are_followed(scene):
    if scene.mailbox.receives_with in {"imap", "ews"}:
        if scene.mailbox.receives_with == "ews":
            scene.alice.box.add_folder("Projects")
        else:
            with imap(scene.world, scene.alice.address) as client:
                client.create_folder("Projects")
        assert patch(scene, folders=["Projects"]).folders == ("Projects",)
        return
    with pytest.raises(Unsupported) as caught:
        patch(scene, folders=["Projects"])
    assert caught.value.field == "folders"
    assert patch(scene, folders=[]).folders == ()


def test_held_mails_come_in_pages(scene):
    answer = scene.supplier.reply(scene.sent() and scene.supplier.inbox()[0])
    scene.sync()
    stranger = someone(scene.world, "stranger", "supplier.example")
    for number in range(3):
        stranger.send(scene.alice.address, f"Re: Offer {number}", **{"In-Reply-To": answer["Message-ID"]})
    scene.sync()
    seen, cursor = [], None
    for _ in range(2):
        page, cursor = reviewing.held(scene.app, scene.caller, scene.mailbox.id, limit=2, cursor=cursor)
        seen += [review.id for review, _ in page]
    assert (sorted(seen), cursor) == (sorted({review.id for review in scene.reviews()}), None)
    assert len(seen) == 3


def test_only_known_domains_connect_where_it_says_so(scene):
    from shared import integrating
    from shared.contract import PutIntegration

    admin = caller(scene.org_id, "admin@imap.example", "admin")
    integrating.put(scene.app, admin, "imap", PutIntegration(approved=True, domains=["elsewhere.example"]))
    with pytest.raises(InvalidRequest) as caught:
        scene.colleague()
    assert caught.value.field == "address"


def test_a_domain_with_umlauts_is_the_same_one_however_it_is_typed(scene):
    from shared import integrating
    from shared.contract import PutIntegration

    admin, domain = caller(scene.org_id, "it@imap.example", "admin"), "xn--mller-kva.example"
    person = someone(scene.world, "anna", domain)
    for name in ("imap", "smtp"):
        body = PutIntegration(approved=True, domains=[" Müller.example "])
        assert integrating.put(scene.app, admin, name, body)[0].domains == (domain,)
    typed = person.address.replace(domain, "müller.example")
    box = connect(scene.world, scene.app, scene.org_id, person, address=typed, owner=typed)
    assert (box.address, box.owner) == (person.address, person.address)


def test_a_delivery_of_nothing_does_nothing(scene):
    delivering.deliver(scene.app, Job("deliver", scene.org_id, "1763943000123-0123456789ab"))


def test_a_kept_sync_state_survives_an_entry_for_nothing(scene):
    entry = Due(scene.clock(), "poll", scene.org_id, "nothing", 600, "x")
    scene.app.schedule.put(entry)
    pass_time(scene, minutes=1)
    scene.app.records.commit(scene.org_id, Save(SyncState("nothing")))
    assert scene.app.records.get(scene.org_id, SyncState, "nothing").value.cursor is None


@pytest.mark.every_provider
@pytest.mark.only("imap", "ews")
def test_a_folder_that_is_not_there_cannot_be_chosen_and_all_stays_as_it_was(scene):
    with pytest.raises(InvalidRequest) as caught:
        connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(folders=["Tpyo"]))
    assert caught.value.field == "folders[0]"
    assert scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value.folders == ()
