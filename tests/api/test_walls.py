"""Every route, and everybody who must not get through it."""

import base64
import json
import re
import time

import jwt
import pytest
import requests

from tests.api.conftest import Client, client, connection, draft, key, open_office, until
from tests.scenes import someone, write

EMAIL = "1763943000123-0123456789ab"
HELD = "1763943000123-ba9876543210"


def routes(office):
    """Method, path and body of every route that names something of the organisation."""
    box = f"/mailboxes/{office.mailbox_id}"
    return [
        ("GET", box, None),
        ("PATCH", box, {"name": "x"}),
        ("DELETE", box, None),
        ("POST", f"{box}/sync", None),
        ("POST", f"{box}/test", None),
        ("GET", f"{box}/folders", None),
        ("GET", f"{box}/search?q=x", None),
        ("GET", f"{box}/reviews", None),
        ("POST", f"{box}/reviews/{HELD}", {"action": "dismiss"}),
        ("POST", "/cases/C-1/emails", draft(office)),
        ("POST", "/cases/C-1/drafts", draft(office)),
        ("POST", f"/cases/C-1/drafts/{EMAIL}/send", None),
        ("GET", "/cases/C-1/emails", None),
        ("GET", f"/cases/C-1/emails/{EMAIL}", None),
        ("GET", f"/cases/C-1/emails/{EMAIL}/raw", None),
        ("GET", f"/cases/C-1/emails/{EMAIL}/attachments/0", None),
        ("POST", f"/cases/C-1/emails/{EMAIL}/move", {"caseId": "C-2"}),
        ("POST", "/cases/C-1/links", {"mailboxId": office.mailbox_id, "ref": "x"}),
    ]


EVERY = range(18)
LISTS = [
    ("GET", "/integrations", None),
    ("GET", "/integrations/imap", None),
    ("PUT", "/integrations/imap", {"approved": False}),
    ("DELETE", "/integrations/imap", None),
    ("POST", "/integrations/microsoft/consent", {}),
    ("POST", "/integrations/microsoft/test", None),
    ("GET", "/mailboxes", None),
    ("POST", "/mailboxes", {"address": "x@imap.example"}),
    ("POST", "/mailboxes/autodetect", {"address": "x@imap.example"}),
    ("GET", "/domains", None),
    ("PUT", "/domains/imap.example", None),
    ("POST", "/domains/imap.example/verify", None),
    ("GET", "/audit", None),
    ("PUT", "/cases/C-9", {"members": []}),
]
OPEN = [
    ("GET", "/health"),
    ("GET", "/openapi.json"),
    ("GET", "/consent/*/callback"),
    ("GET", "/oauth/*/callback"),
    ("POST", "/oauth/*/answer"),
    ("POST", "/notifications/*"),
    ("POST", "/notifications/*/lifecycle"),
]
"""Routes without a token of ours: what they take is proven otherwise, each in its own tests."""


def test_the_list_of_routes_is_complete(office, api):
    document = requests.get(f"{api}/openapi.json", timeout=20).json()
    known = {
        (method.upper(), re.sub(r"\{\w+\}", "*", path))
        for path, item in document["paths"].items()
        for method in item
    }
    tested = set(OPEN)
    for method, path, _ in [*routes(office), *LISTS]:
        path = path.partition("?")[0].replace(office.mailbox_id, "*").replace(EMAIL, "*").replace(HELD, "*")
        path = re.sub(r"/cases/[^/]+", "/cases/*", path)
        path = re.sub(r"/(integrations|domains)/[^/]+", r"/\1/*", path)
        tested.add((method, re.sub(r"/attachments/0", "/attachments/*", path)))
    assert tested == known


@pytest.mark.parametrize("number", EVERY)
def test_another_organisations_token_finds_nothing(office, stranger, number):
    method, path, body = routes(office)[number]
    if path.startswith("/cases"):
        path = path.replace("C-1", "C-only-here")
        office.platform("PUT", "/cases/C-only-here", {"members": [stranger.alice.address]})
    for who in (stranger.alice_, stranger.admin):
        answer = who(method, path, body, headers=key())
        assert answer.status_code == 404, (method, path, answer.text)


def naming(office, box, case):
    """Requests that name a mailbox and a case, in the path or in the body."""
    return [
        ("GET", f"/mailboxes/{box}", None),
        ("POST", f"/mailboxes/{box}/sync", None),
        ("POST", f"/mailboxes/{box}/reviews/{HELD}", {"action": "file"}),
        ("GET", f"/cases/{case}/emails", None),
        ("POST", f"/cases/{case}/emails/{EMAIL}/move", {"caseId": case}),
        ("POST", "/cases/C-1/links", {"mailboxId": box, "ref": "x"}),
        ("POST", "/cases/C-1/emails", draft(office, mailboxId=box)),
    ]


def test_what_is_another_organisations_is_answered_as_what_is_nowhere(office, stranger):
    office.platform("PUT", "/cases/C-theirs", {"members": [stranger.alice.address]})
    pairs = zip(naming(office, office.mailbox_id, "C-theirs"), naming(office, "no", "C-no"), strict=True)
    for both in pairs:
        theirs, nowhere = (stranger.alice_(*route, headers=key()).json() for route in both)
        assert theirs.pop("correlationId") != nowhere.pop("correlationId")
        assert theirs == nowhere, both
        assert (theirs["status"], theirs["field"]) in {(404, "mailboxId"), (404, "caseId")}, both


@pytest.mark.parametrize("number", EVERY)
def test_who_is_neither_owner_nor_member_is_refused(office, number):
    method, path, body = routes(office)[number]
    answer = office.bob(method, path, body, headers=key())
    assert answer.status_code in {403, 404}, (method, path, answer.text)


@pytest.mark.parametrize("roles", [(), ("admin",), ("platform",)])
def test_a_members_address_without_the_role_of_a_member_opens_no_case(office, api, world, roles):
    nominal = client(api, world, office.org_id, office.alice.address, *roles)
    for method, path, body in routes(office):
        if path.startswith("/cases"):
            answer = nominal(method, path, body, headers=key())
            assert answer.status_code == 403, (method, path, answer.text)


@pytest.fixture(scope="module")
def lived_in(api, world):
    """An organisation with a mail with an attachment filed in its case, and one held for Alice's decision."""
    office = open_office(api, world)
    files = [{"name": "a.txt", "contentType": "text/plain", "contentBase64": "YQ=="}]
    office.alice_("POST", "/cases/C-1/emails", draft(office, attachments=files), headers=key())
    until(office.supplier.inbox)
    answer = office.supplier.reply(office.supplier.inbox()[0])
    until(lambda: len(looked(office, "/cases/C-1/emails")) == 2)
    stranger = someone(world, "stranger", "supplier.example")
    quoting = {"In-Reply-To": answer["Message-ID"]}
    office.alice.receive(
        write(stranger.address, office.alice.address, "Re: Offer", "x", **quoting).as_bytes()
    )
    until(lambda: looked(office, f"/mailboxes/{office.mailbox_id}/reviews"))
    return office


def looked(office, path):
    office.alice_("POST", f"/mailboxes/{office.mailbox_id}/sync")
    return office.alice_("GET", path).json()["items"]


def real(office):
    """The routes, naming a mail and a held mail that are there."""
    [email, *_] = office.alice_("GET", "/cases/C-1/emails").json()["items"]
    [review] = office.alice_("GET", f"/mailboxes/{office.mailbox_id}/reviews").json()["items"]
    return [
        (method, path.replace(EMAIL, email["id"]).replace(HELD, review["id"]), body)
        for method, path, body in routes(office)
    ]


def test_whose_domain_has_umlauts_is_the_member_and_owner_whom_others_named(world, office, api):
    person = someone(world, "anna", "xn--mller-kva.example")
    typed = person.address.replace("xn--mller-kva", "Müller")
    office.platform("PUT", "/cases/C-umlaut", {"members": [typed]})
    anna = client(api, world, office.org_id, typed, "member")
    assert anna("GET", "/cases/C-umlaut/emails").status_code == 200
    admins = office.admin("POST", "/mailboxes", connection(world, person, address=typed, owner=typed))
    assert admins.status_code == 201, admins.text
    assert anna("GET", f"/mailboxes/{admins.json()['id']}").status_code == 200


def test_who_may_is_told_in_the_contract_as_it_is(api, world):
    office = open_office(api, world)
    paths = requests.get(f"{api}/openapi.json", timeout=20).json()["paths"]
    told = {
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path))): item[method]["description"]
        for path, item in paths.items()
        for method in item
    }
    for method, path, body in sorted(everything(office), key=lambda route: route[0] == "DELETE"):
        plain = path.partition("?")[0]
        [who] = [words for (verb, known), words in told.items() if verb == method and known.fullmatch(plain)]
        for role, caller in (("platform", office.platform), ("member", office.bob), ("admin", office.admin)):
            allowed = role in re.findall(r"\w+", who.replace("member of the case", "somebody"))
            answer = caller(method, path, body, headers=key())
            assert (answer.status_code != 403) is allowed, (role, method, path, who, answer.text)


FOR_ADMINS = {"", "/sync", "/test"}
"""What IT may do with somebody's mailbox: all but look into it."""


def test_of_a_mail_that_is_there_nothing_is_shown_or_done_to_whom_it_is_none_of_business(lived_in):
    box, refused = f"/mailboxes/{lived_in.mailbox_id}", 0
    for who in (lived_in.bob, lived_in.admin):
        for method, path, body in real(lived_in):
            if who is lived_in.admin and path.startswith(box) and path.removeprefix(box) in FOR_ADMINS:
                continue
            answer = who(method, path, body, headers=key())
            assert answer.status_code == 403, (method, path, answer.text)
            refused += 1
    assert refused == 18 + 18 - 5
    assert len(lived_in.alice_("GET", "/cases/C-1/emails").json()["items"]) == 2
    read = [route for route in real(lived_in) if route[0] == "GET"]
    assert {lived_in.alice_(*route).status_code for route in read} == {200}, "all of it is really there"


def test_another_organisation_with_a_case_of_the_same_name_finds_nothing_of_it(lived_in, stranger):
    for method, path, body in real(lived_in):
        answers = {
            who: stranger.clients[who](method, path, body, headers=key()) for who in ("alice_", "admin")
        }
        assert answers["admin"].status_code == (403 if path.startswith("/cases") else 404), (method, path)
        if (method, path) == ("GET", "/cases/C-1/emails"):
            assert answers["alice_"].json()["items"] == []
        else:
            assert answers["alice_"].status_code == 404, (method, path)


@pytest.mark.parametrize(("method", "path", "body"), LISTS)
def test_administration_is_for_its_roles(office, method, path, body):
    who = office.platform if path in {"/mailboxes", "/integrations"} or "mailboxes" in path else office.bob
    if path == "/mailboxes" and method == "GET":
        who = office.platform
    assert who(method, path, body).status_code == 403, path


def everything(office):
    return [*routes(office), *LISTS]


def test_without_a_token_nothing_answers(office, api):
    for method, path, body in everything(office):
        answer = Client(api, None)(method, path, body, headers=key())
        assert answer.status_code == 401, (method, path)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def bad_tokens(world, office):
    issue = world.issuer.issue
    who = {"org": office.org_id, "email": office.alice.address, "roles": ["member", "admin"]}
    now = int(time.time())
    good = issue(**who)
    header, payload, _ = good.split(".")
    kid = jwt.get_unverified_header(good)["kid"]
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT", "kid": kid}).encode())
    claims = jwt.decode(good, options={"verify_signature": False})
    public = jwt.PyJWKClient(world.environment()["AUTH_JWKS_URL"]).get_signing_keys()[0]
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = public.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "garbage": "abc",
        "expired": issue(**who, exp=now - 3600),
        "wrong audience": issue(**who, aud="someone-else"),
        "wrong issuer": issue(**who, iss="https://evil.example"),
        "not yet valid": issue(**who, nbf=now + 3600),
        "alg none": f"{none.rstrip(b'=').decode()}.{payload}.",
        "HS256 with the public key": hs256(claims, pem, kid),
        "unknown kid": unknown_kid(claims),
        "tampered": f"{header}.{payload[:-4]}AAAA.{good.split('.')[2]}",
        "no organisation": issue(**{**who, "org": ""}),
        "odd organisation": issue(**{**who, "org": "a/b"}),
        "roles are no names": issue(**{**who, "roles": [1]}),
    }


def hs256(claims, secret, kid):
    """Sign by hand: libraries refuse to do this, an attacker does not."""
    import hashlib
    import hmac

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT", "kid": kid}) + b"." + part(claims)
    mac = hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def unknown_kid(claims):
    from cryptography.hazmat.primitives.asymmetric import rsa

    return jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "unknown"})


@pytest.mark.parametrize(
    "name",
    [
        "garbage",
        "expired",
        "wrong audience",
        "wrong issuer",
        "not yet valid",
        "alg none",
        "HS256 with the public key",
        "unknown kid",
        "tampered",
        "no organisation",
        "odd organisation",
        "roles are no names",
    ],
)
def test_a_bad_token_is_refused_on_every_route(world, office, api, name):
    caller = Client(api, bad_tokens(world, office)[name])
    for method, path, body in [("GET", "/mailboxes", None), *everything(office)]:
        answer = caller(method, path, body, headers=key())
        assert answer.status_code == 401, (path, answer.text)
        assert answer.json()["code"] == "unauthenticated"
