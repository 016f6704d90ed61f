"""What a fresh sandbox holds, made through the app's API: enough that Alice can tell the story at once."""

from pathlib import Path
from typing import Any

from sandbox.families import FAMILIES, Api, Family, SeedError, places
from sandbox.world import Organisation, World

CASE = "C-1001"
SUPPLIER = "supplier@supplier.example"
SUPPLIER_PASSWORD = "sandbox-supplier"

ROLES = {"admin": ["admin"], "platform": ["platform"]}


def seed(world: World, url: str) -> dict[str, Any]:
    """Fill the world and the app, whose API is at `url`; return what `sandbox.json` holds."""
    world.add_user(SUPPLIER, SUPPLIER_PASSWORD)
    organisations = {
        name: _organisation(world, url, family, Organisation.of(name, family.domain))
        for name, family in FAMILIES.items()
    }
    supplier = {"address": SUPPLIER, "password": SUPPLIER_PASSWORD}
    return {
        "api": url,
        "ca": str(world.authority.pem.resolve()),
        "supplier": {**supplier, **places(world, imap="tls", smtp="starttls")},
        "organisations": organisations,
        "providers": _providers(world),
    }


def _organisation(world: World, url: str, family: Family, organisation: Organisation) -> dict[str, Any]:
    """Give people their mailboxes, approve the providers, open the case, and connect Alice's mailbox."""
    family.people(world, organisation)
    tokens = _tokens(world, organisation)
    admin, uses = Api(url, tokens["admin"]), family.uses(world)
    for name, settings in uses.items():
        body = {"approved": True, "settings": settings, "domains": [organisation.domain]}
        admin.call("PUT", f"/integrations/{name}", body)
    family.approve(world, admin, organisation)
    alice = organisation.address("alice")
    users = dict(organisation.people())
    if family.system:
        world.programs.add(users, family.system(world))
    case = {"title": "Screws for the new hall", "members": [alice]}
    Api(url, tokens["platform"]).call("PUT", f"/cases/{CASE}", case)
    return {
        "org": organisation.org,
        "domain": organisation.domain,
        "case": CASE,
        "address": alice,
        "password": organisation.passwords["alice"],
        "mailboxId": _connected(world, Api(url, tokens["alice"]), family, organisation),
        "tokens": tokens,
        "users": users,
        **({"program": {"url": world.programs.url}} if family.system else {}),
        **{name: place for name, place in uses.items() if "host" in place},
    }


def _connected(world: World, alice: Api, family: Family, organisation: Organisation) -> str:
    """Connect Alice's mailbox, by her browser where it takes one; returns its id."""
    address = organisation.address("alice")
    body = {**family.mailbox(world, organisation, "alice"), "address": address, "pollSeconds": 60}
    mailbox = alice.call("POST", "/mailboxes", body)
    if mailbox.get("authorizeUrl"):
        family.sign_in(world, mailbox["authorizeUrl"], address)
        mailbox = alice.call("GET", f"/mailboxes/{mailbox['id']}")
    if mailbox["state"] != "active":
        raise SeedError(f"The mailbox of {organisation.family} is {mailbox['state']}.")
    return str(mailbox["id"])


def _tokens(world: World, organisation: Organisation) -> dict[str, str]:
    """A day's token for each user, IT's administrator and Zalion's backend."""
    return {
        name: world.issuer.issue(
            org=organisation.org, email=organisation.address(name), roles=ROLES.get(name, ["member"])
        )
        for name in (*organisation.passwords, *ROLES)
    }


def _providers(world: World) -> dict[str, Any]:
    """What a client of each part needs besides the CA."""
    return {
        "mx": {"host": "localhost", "port": world.ports["mx"]},
        "dns": {"address": world.dns.address},
        "autoconfig": {"pattern": world.autoconfig.pattern},
        "storage": {"connectionString": world.azurite.connection_string},
        "keyVault": {"url": world.vault.url},
        "issuer": {"url": world.issuer.url, "jwks": f"{world.issuer.url}/jwks.json"},
        "oauth": {"tokenUrl": f"{world.issuer.url}/oauth/token", "clientId": world.issuer.client_id},
        **{name: family.facts(world) for name, family in FAMILIES.items() if family.facts},
        "front": {"url": world.public_url},
        "logs": {"app": str(Path(world.directory).resolve()), "mail": str(world.dovecot.directory)},
    }
