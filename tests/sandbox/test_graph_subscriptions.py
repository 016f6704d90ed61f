"""Subscriptions at Graph: the handshake, what is told and how it goes wrong, lifecycle events."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.sandbox.outlook import IMMUTABLE


def until(**delta):
    return f"{datetime.now(UTC) + timedelta(**delta):%Y-%m-%dT%H:%M:%S.0000000Z}"


def wish(bell, resource="me/messages", **more):
    return {
        "changeType": "created",
        "notificationUrl": f"{bell.url}/rang",
        "lifecycleNotificationUrl": f"{bell.url}/lifecycle",
        "resource": resource,
        "expirationDateTime": until(days=2),
        "clientState": "s" * 128,
        **more,
    }


@pytest.fixture
def notifier(world):
    return world.graph.notifier


@pytest.fixture
def made(outlook, bell):
    return outlook.post("/subscriptions", wish(bell))


def rang(notifier, bell):
    notifier.settle()
    return bell.rang


class TestMaking:
    def test_both_urls_shake_hands_before_it_is_made(self, outlook, bell):
        made = outlook.post("/subscriptions", wish(bell))
        assert bell.shook_hands == ["/rang", "/lifecycle"]
        assert made["clientState"] == "s" * 128

    def test_a_url_that_does_not_echo_the_token_makes_none(self, outlook, bell):
        bell.token_suffix = "!"
        assert outlook.refused("POST", "/subscriptions", 400, json=wish(bell)) == "ValidationError"
        assert outlook.get("/subscriptions")["value"] == []

    @pytest.mark.parametrize(
        "spoilt",
        [
            {"clientState": "s" * 129},
            {"expirationDateTime": until(minutes=10_090)},
            {"expirationDateTime": until(minutes=-1)},
            {"notificationUrl": "http://plain.example/"},
            {"notificationUrl": "https://localhost:1/"},
            {"resource": "me/events"},
        ],
        ids=["long clientState", "too long", "over", "no TLS", "nobody there", "no messages"],
    )
    def test_what_is_wrong_makes_none(self, outlook, bell, spoilt):
        assert outlook.refused("POST", "/subscriptions", 400, json=wish(bell, **spoilt)) == "ValidationError"

    def test_less_than_45_minutes_are_raised_to_them(self, outlook, bell):
        made = outlook.post("/subscriptions", wish(bell, expirationDateTime=until(minutes=5)))
        assert made["expirationDateTime"] > until(minutes=44)

    def test_a_second_one_to_the_same_is_refused(self, outlook, bell, made):
        assert outlook.refused("POST", "/subscriptions", 409, json=wish(bell)) == "Conflict"
        outlook.post("/subscriptions", wish(bell, "me/mailFolders('inbox')/messages"))

    def test_a_mailbox_has_a_thousand_at_most(self, outlook, bell, made):
        outlook.world.graph.faults.subscriptions = 1
        assert outlook.refused(
            "POST", "/subscriptions", 403, json=wish(bell, "me/mailFolders/inbox/messages")
        )


class TestKeeping:
    def test_a_list_holds_ones_own_and_no_secret(self, office, outlook, bell, made):
        (listed,) = outlook.get("/subscriptions")["value"]
        assert (listed["id"], listed["clientState"]) == (made["id"], None)
        assert office.outlook(name="other").get("/subscriptions")["value"] == []
        assert [one["id"] for one in office.daemon().get("/subscriptions")["value"]] == [made["id"]]

    def test_it_is_renewed_reauthorized_and_ended(self, outlook, notifier, made):
        path = f"/subscriptions/{made['id']}"
        later = outlook.call("PATCH", path, json={"expirationDateTime": until(days=6)}).json()
        assert later["expirationDateTime"] > made["expirationDateTime"]
        outlook.call("POST", f"{path}/reauthorize", 204)
        assert notifier.subscriptions[made["id"]].reauthorized == 2
        outlook.call("DELETE", path, 204)
        assert (
            outlook.refused("PATCH", path, 404, json={"expirationDateTime": until(days=6)})
            == "ResourceNotFound"
        )

    def test_its_lifecycle_url_cannot_be_changed(self, outlook, made):
        body = {"lifecycleNotificationUrl": "https://x.example/"}
        assert outlook.refused("PATCH", f"/subscriptions/{made['id']}", 400, json=body) == "ValidationError"

    def test_it_ends_by_itself(self, outlook, notifier, bell, made):
        notifier.subscriptions[made["id"]].until = datetime.now(UTC) - timedelta(seconds=1)
        outlook.take("unheard")
        assert rang(notifier, bell) == []
        assert outlook.refused("GET", f"/subscriptions/{made['id']}", 404) == "ResourceNotFound"


class TestTelling:
    def test_a_new_mail_is_told_without_its_content(self, outlook, notifier, bell, made):
        item = outlook.take("Secret subject")
        (told,) = rang(notifier, bell)
        assert (told["subscriptionId"], told["clientState"], told["changeType"]) == (
            made["id"],
            "s" * 128,
            "created",
        )
        assert told["tenantId"] == outlook.office.tenant.id
        assert told["resourceData"]["id"] == item.id
        assert "Secret" not in str(told)

    def test_ids_are_of_the_kind_it_was_made_with(self, outlook, notifier, bell):
        outlook.post("/subscriptions", wish(bell), headers={"Prefer": ""})
        item = outlook.take("x")
        (told,) = rang(notifier, bell)
        assert told["resourceData"]["id"] == item.moving_id

    def test_a_moved_mail_is_told_as_created(self, outlook, notifier, bell, made):
        item = outlook.take("x")
        outlook.post(f"/me/messages/{item.id}/move", {"destinationId": "archive"})
        assert [one["changeType"] for one in rang(notifier, bell)] == ["created", "created"]

    def test_other_changes_are_told_to_who_asked_for_them(self, outlook, notifier, bell):
        outlook.post("/subscriptions", wish(bell, changeType="updated,deleted"))
        item = outlook.take("x")
        outlook.call("PATCH", f"/me/messages/{item.id}", json={"isRead": True})
        outlook.call("DELETE", f"/me/messages/{item.id}", 204)
        assert [one["changeType"] for one in rang(notifier, bell)] == ["updated", "deleted"]

    def test_of_one_folder_only_where_it_names_one(self, outlook, notifier, bell):
        outlook.post(
            "/subscriptions", wish(bell, f"users/{outlook.address}/mailFolders('sentitems')/messages")
        )
        outlook.take("unheard")
        sent = outlook.take("heard", "sentitems", sent=True)
        assert [one["resourceData"]["id"] for one in rang(notifier, bell)] == [sent.id]

    def test_a_url_that_fails_is_tried_again(self, outlook, notifier, bell, made):
        bell.status = 503
        outlook.take("x")
        while not notifier.answers or notifier.answers[-1] != 503:
            pass
        bell.status = 202
        assert len(rang(notifier, bell)) == 1

    def test_many_go_together(self, outlook, notifier, bell, made):
        notifier.faults.hold = True
        for number in range(30):
            outlook.take(str(number))
        before = len(notifier.answers)
        notifier.release()
        assert len(rang(notifier, bell)) == 30
        assert len(notifier.answers) - before < 10


class TestFaults:
    """What may go wrong, each on its switch."""

    def ids(self, notifier, bell):
        return [one["resourceData"]["id"] for one in rang(notifier, bell)]

    def test_lost(self, outlook, notifier, bell, made):
        notifier.faults.lose = 1.0
        outlook.take("x")
        assert rang(notifier, bell) == []

    def test_some_lost(self, outlook, notifier, bell, made):
        notifier.faults.lose = 0.5
        for number in range(40):
            outlook.take(str(number))
        assert 5 < len(rang(notifier, bell)) < 35

    def test_doubled(self, outlook, notifier, bell, made):
        notifier.faults.duplicate = 3
        item = outlook.take("x")
        assert self.ids(notifier, bell) == [item.id] * 3

    def test_late(self, outlook, notifier, bell, made):
        notifier.faults.hold = True
        item = outlook.take("x")
        assert rang(notifier, bell) == []
        notifier.release()
        assert self.ids(notifier, bell) == [item.id]

    def test_in_another_order(self, outlook, notifier, bell, made):
        notifier.faults.reorder = True
        items = [outlook.take(str(number)).id for number in range(10)]
        notifier.release()
        found = self.ids(notifier, bell)
        assert sorted(found) == sorted(items)
        assert found != items

    def test_the_first_about_a_sent_mail_names_what_is_not_there(self, outlook, notifier, bell, made):
        notifier.faults.sent_404 = True
        item = outlook.take("x", "sentitems", sent=True)
        first, second = self.ids(notifier, bell)
        assert second == item.id
        assert outlook.refused("GET", f"/me/messages/{first}", 404) == "ErrorItemNotFound"

    @pytest.mark.parametrize("event", ["missed", "reauthorizationRequired", "subscriptionRemoved"])
    def test_events_of_its_life_come_to_their_own_url(self, outlook, notifier, bell, made, event):
        notifier.lifecycle(notifier.subscriptions[made["id"]], event)
        (told,) = rang(notifier, bell)
        assert (told["lifecycleEvent"], told["subscriptionId"], told["clientState"]) == (
            event,
            made["id"],
            "s" * 128,
        )
        assert "resourceData" not in told
        gone = event == "subscriptionRemoved"
        outlook.call("GET", f"/subscriptions/{made['id']}", 404 if gone else 200)

    def test_one_to_a_shared_mailbox_is_valid_and_silent(self, office, outlook, notifier, bell):
        team = office.outlook(name="team")
        team.box.grant_access(outlook.address, "full_access")
        made = outlook.post("/subscriptions", wish(bell, f"users/{team.address}/messages"))
        team.take("x")
        assert rang(notifier, bell) == []
        outlook.get(f"/subscriptions/{made['id']}")

    def test_or_it_is_refused(self, office, outlook, bell):
        team = office.outlook(name="team")
        outlook.world.graph.faults.silent_shared = False
        body = wish(bell, f"users/{team.address}/messages")
        assert outlook.refused("POST", "/subscriptions", 403, json=body) == "ExtensionError"

    def test_the_app_itself_hears_of_every_mailbox(self, office, outlook, notifier, bell):
        office.daemon().post(
            "/subscriptions", wish(bell, f"users/{outlook.address}/messages"), headers=IMMUTABLE
        )
        item = outlook.take("x")
        assert self.ids(notifier, bell) == [item.id]
