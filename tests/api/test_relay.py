"""Rules, proven domains, proposals and abilities, as the frontend sees them."""

from tests.api.conftest import connection, draft, key
from tests.scenes import someone


def put(office, **settings):
    body = {"approved": True, "settings": settings}
    return office.admin("PUT", "/integrations/smtp", body)


def test_rules_are_in_the_form_and_a_wrong_one_is_named(office):
    form = {field["name"] for field in office.admin("GET", "/integrations/smtp").json()["form"]}
    assert {"allowedRecipients", "allowedSenders", "maxRecipients", "maxPerHour", "host"} <= form
    receiving = {field["name"] for field in office.admin("GET", "/integrations/imap").json()["form"]}
    assert "maxPerHour" not in receiving
    answer = put(office, allowedRecipients=["supplier.example", "not a domain"])
    assert (answer.status_code, answer.json()["field"]) == (400, "settings.allowedRecipients[1]")


def test_what_the_rules_forbid_is_422_with_field_and_fix(office):
    assert put(office, allowedRecipients=["elsewhere.example"]).status_code == 200
    try:
        answer = office.alice_("POST", "/cases/C-1/emails", draft(office), headers=key())
    finally:
        put(office)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "against_rules", "to[0].address")
    assert "allowedRecipients" in problem["fix"]


def test_a_domain_is_asked_for_published_and_proven(office, world):
    answer = office.admin("PUT", "/domains/Proof.example")
    assert answer.status_code == 200
    asked = answer.json()
    assert (asked["domain"], asked["state"], asked["record"]["type"]) == ("proof.example", "waiting", "TXT")
    missing = office.admin("POST", "/domains/proof.example/verify")
    assert missing.status_code == 409
    assert asked["record"]["value"] in missing.json()["fix"]
    world.dns.put(asked["record"]["name"], "TXT", asked["record"]["value"])
    assert office.admin("POST", "/domains/proof.example/verify").json()["state"] == "proven"
    assert [one["domain"] for one in office.admin("GET", "/domains").json()["items"]] == ["proof.example"]


def test_what_is_no_domain_is_named(office):
    for name in ("localhost", "a..b", "-x.example", "a@b.example"):
        answer = office.admin("PUT", f"/domains/{name}")
        assert (answer.status_code, answer.json()["field"]) == (400, "domain"), name


def test_proposals_can_be_connected_with_as_they_are(office, world):
    person = someone(world, "dora", "imap.example")
    found = office.alice_("POST", "/mailboxes/autodetect", {"address": person.address}).json()
    assert (found["receivesWith"], found["sendsWith"]) == ("imap", "smtp")
    body = connection(
        world,
        person,
        settings=found["settings"],
        receivesWith=found["receivesWith"],
        sendsWith=found["sendsWith"],
    )
    answer = office.alice_("POST", "/mailboxes", body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["can"] == ["receive", "send", "copy", "sent", "search"]
    assert [limit["power"] for limit in answer.json()["limits"]] == ["draft", "push"]


def test_the_doctor_names_a_selector_that_is_none(office):
    answer = office.alice_("POST", f"/mailboxes/{office.mailbox_id}/test?dkimSelector=a%20b")
    assert (answer.status_code, answer.json()["field"]) == (400, "dkimSelector")


def test_an_address_that_is_none_is_named(office):
    answer = office.alice_("POST", "/mailboxes/autodetect", {"address": "nobody"})
    assert (answer.status_code, answer.json()["field"]) == (400, "address")


def test_a_mailbox_that_only_sends_says_what_it_cannot(office, world):
    person = someone(world, "sender", "imap.example")
    body = connection(world, person, receivesWith=None)
    del body["settings"]["imap"]
    made = office.alice_("POST", "/mailboxes", body).json()
    assert made["can"] == ["send"]
    assert "replies" in made["limits"][0]["detail"]
    answer = office.alice_("POST", f"/mailboxes/{made['id']}/sync")
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported")
