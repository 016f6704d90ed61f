"""Delta at Graph: what came, changed or went in a folder, in pages, with its own narrow rules."""

from datetime import UTC, datetime, timedelta

import pytest

DELTA = "/me/mailFolders/inbox/messages/delta"


def read(outlook, link=DELTA, **options):
    """Follow the pages; returns what was told, and the link for the next time."""
    found, page = [], outlook.get(link, **options)
    while "@odata.nextLink" in page:
        found += page["value"]
        page = outlook.get(page["@odata.nextLink"])
    return [*found, *page["value"]], page["@odata.deltaLink"]


def told(entries):
    return [one.get("subject") or one["@removed"]["reason"] for one in entries]


def test_first_everything_then_only_what_is_new(outlook):
    outlook.take("old")
    found, link = read(outlook)
    assert told(found) == ["old"]
    outlook.take("new")
    assert told(read(outlook, link)[0]) == ["new"]
    assert told(read(outlook, link)[0]) == ["new"], "a link can be used again"


def test_it_comes_in_pages_of_the_preferred_size_even_while_mail_arrives(outlook):
    for number in range(5):
        outlook.take(str(number))
    page = outlook.get(
        DELTA, headers={"Prefer": 'IdType="ImmutableId", odata.maxpagesize=2'}, select="subject"
    )
    assert told(page["value"]) == ["0", "1"]
    outlook.take("late")
    rest, link = read(outlook, page["@odata.nextLink"])
    assert told(rest) == ["2", "3", "4"]
    assert told(read(outlook, link)[0]) == ["late"]


def test_what_was_moved_away_and_what_was_deleted_is_told_apart(outlook):
    moved, deleted = outlook.take("moved"), outlook.take("deleted")
    _, link = read(outlook)
    outlook.post(f"/me/messages/{moved.id}/move", {"destinationId": "archive"})
    outlook.call("DELETE", f"/me/messages/{deleted.id}", 204)
    found, _ = read(outlook, link)
    assert {one["id"]: one["@removed"]["reason"] for one in found} == {
        moved.id: "changed",
        deleted.id: "deleted",
    }


def test_change_types_narrow_it(outlook):
    gone = outlook.take("gone")
    links = {kind: read(outlook, changeType=kind)[1] for kind in ("created", "updated", "deleted")}
    old = outlook.take("new")
    outlook.call("PATCH", f"/me/messages/{old.id}", json={"isRead": True})
    outlook.call("DELETE", f"/me/messages/{gone.id}", 204)
    assert {kind: told(read(outlook, link)[0]) for kind, link in links.items()} == {
        "created": ["new"],
        "updated": [],
        "deleted": ["deleted"],
    }


def test_a_filter_is_kept_for_what_comes_but_never_hides_what_goes(outlook):
    old = outlook.take("old", at=datetime.now(UTC) - timedelta(days=3))
    found, link = read(outlook, filter=_since())
    assert found == []
    outlook.take("fresh")
    outlook.call("DELETE", f"/me/messages/{old.id}", 204)
    assert told(read(outlook, link)[0]) == ["fresh", "deleted"]


def _since():
    return f"receivedDateTime ge {datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(
    "options",
    [
        {"filter": "subject eq 'x'"},
        {"orderby": "receivedDateTime"},
        {"search": '"x"'},
        {"changeType": "moved"},
    ],
    ids=["another filter", "another order", "search", "another change"],
)
def test_what_it_does_not_take_is_refused(outlook, options):
    outlook.call("GET", DELTA, 400, **options)


def test_its_options_hold_for_good(outlook):
    _, link = read(outlook, select="subject")
    outlook.take("x")
    assert {*read(outlook, link)[0][0]} == {"@odata.etag", "id", "subject"}


@pytest.mark.parametrize(
    ("planned", "status", "code"),
    [
        ("410", 410, "syncStateNotFound"),
        ("syncStateNotFound", 400, "syncStateNotFound"),
        ("resyncRequired", 400, "resyncRequired"),
    ],
)
def test_a_link_may_be_too_old(outlook, planned, status, code):
    _, link = read(outlook)
    outlook.world.graph.faults.expired_deltas.append(planned)
    answer = outlook.call("GET", link, status)
    assert answer.json()["error"]["code"] == code
    assert ("Location" in answer.headers) == (status == 410)
    assert read(outlook, link)[0] == []


def test_a_damaged_link_is_refused(outlook):
    assert (
        outlook.refused("GET", f"{outlook.world.graph.base}{DELTA}?$deltatoken=nonsense", 400)
        == "syncStateInvalid"
    )
