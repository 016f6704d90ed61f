"""What Entra ID knows: directories (tenants), their people, app registrations, and who consented to what."""

import secrets
import uuid
from dataclasses import dataclass, field

EXTRA = frozenset({"openid", "profile", "email", "offline_access"})
"""Scopes of OpenID Connect, which are of no resource."""

GRAPH = "https://graph.microsoft.com/"
NEVER = float("inf")

COMMON = {"common", "organizations"}
"""Names that stand for whatever directory the user is of."""


class Refusal(Exception):
    """An AADSTS error: OAuth's word for it, the number, and Entra's kind of sentence."""

    def __init__(self, code: int, words: str, *, error: str = "invalid_grant", suberror: str = "") -> None:
        super().__init__(f"AADSTS{code}: {words}")
        self.code, self.error, self.suberror = code, error, suberror


@dataclass
class Tenant:
    """A directory. `user_consent` is closed, as Microsoft's default is since 2025."""

    id: str
    domain: str
    has_exchange: bool = True
    user_consent: bool = False
    blocked: int = 0


@dataclass
class User:
    """Somebody in a directory. `blocked` is an AADSTS code that every sign-in is refused with."""

    oid: str
    address: str
    password: str
    tenant: Tenant
    admin: bool = False
    shared_mailbox: bool = False
    enabled: bool = True
    blocked: int = 0
    generation: int = 0

    @property
    def name(self) -> str:
        """What is shown."""
        return self.address.partition("@")[0].title()


@dataclass
class Application:
    """An app registration."""

    client_id: str
    name: str
    tenant: Tenant
    redirect_uris: tuple[str, ...]
    multi_tenant: bool
    delegated: frozenset[str]
    application: frozenset[str]
    disabled: bool = False
    secrets: dict[str, float] = field(default_factory=dict)
    certificates: list[str] = field(default_factory=list)

    def add_secret(self, value: str | None = None, expires_at: float = NEVER) -> str:
        """Register a client secret; `expires_at` in seconds since 1970."""
        value = value or f"{secrets.token_urlsafe(24)}~secret"
        self.secrets[value] = expires_at
        return value

    def add_certificate(self, pem: str) -> None:
        """Register a certificate (PEM)."""
        self.certificates.append(pem)


@dataclass
class Directory:
    """Everything Entra knows."""

    tenants: dict[str, Tenant] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    applications: dict[str, Application] = field(default_factory=dict)
    consents: dict[tuple[str, str], tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    before: dict[tuple[str, str], tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    personal: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    def add_tenant(self, domain: str) -> Tenant:
        """Add a directory; its id is made of the domain."""
        tenant = Tenant(_guid("tenant", domain), domain)
        return self.tenants.setdefault(domain, tenant)

    def add_user(
        self, address: str, password: str, *, admin: bool = False, shared_mailbox: bool = False
    ) -> User:
        """Add somebody to the directory of the address's domain."""
        address = address.lower()
        tenant = self.add_tenant(address.rpartition("@")[2])
        user = User(_guid("user", address), address, password, tenant, admin, shared_mailbox)
        return self.users.setdefault(address, user)

    def add_application(
        self,
        tenant: Tenant,
        *,
        name: str,
        redirect_uris: tuple[str, ...],
        multi_tenant: bool,
        delegated: frozenset[str],
        application: frozenset[str] = frozenset(),
    ) -> Application:
        """Register an app in a directory, with the permissions it may ask for."""
        made = Application(
            _guid("app", tenant.domain, name),
            name,
            tenant,
            redirect_uris,
            multi_tenant,
            delegated,
            application,
        )
        return self.applications.setdefault(made.client_id, made)

    def consent(
        self,
        tenant: Tenant,
        application: Application,
        *,
        delegated: frozenset[str] | None = None,
        application_permissions: frozenset[str] | None = None,
    ) -> None:
        """What an administrator does on the page; without names, everything the registration lists."""
        self.consents[tenant.id, application.client_id] = (
            application.delegated if delegated is None else delegated,
            application.application if application_permissions is None else application_permissions,
        )

    def consent_besides(
        self,
        tenant: Tenant,
        application: Application,
        delegated: frozenset[str],
        application_permissions: frozenset[str],
    ) -> None:
        """Add to what was consented to before; `before` tells what that was."""
        key = tenant.id, application.client_id
        old = self.consents.get(key, (frozenset(), frozenset()))
        self.before[key] = old
        self.consents[key] = old[0] | delegated, old[1] | application_permissions

    def revoke_consent(self, tenant: Tenant, application: Application) -> None:
        """Withdraw everything that was consented to in a directory, by administrators and by users."""
        self.personal = {
            (address, app): scopes
            for (address, app), scopes in self.personal.items()
            if app != application.client_id or self.users[address].tenant is not tenant
        }
        self.consents.pop((tenant.id, application.client_id), None)

    def find_tenant(self, key: str) -> Tenant:
        """Return a directory by id or domain. Raises Refusal."""
        for tenant in self.tenants.values():
            if key.lower() in {tenant.id, tenant.domain}:
                return tenant
        raise Refusal(90002, f"Tenant '{key[:60]}' not found.", error="invalid_request")

    def tenant_of(self, name: str) -> Tenant | None:
        """Return the directory an endpoint's path names, None where any will do. Raises Refusal."""
        return None if name in COMMON else self.find_tenant(name)

    def application(self, client_id: str, tenant: Tenant | None) -> Application:
        """Return an app that may be used in a directory. Raises Refusal."""
        app = self.applications.get(client_id)
        if app is None or (tenant and tenant is not app.tenant and not app.multi_tenant):
            raise Refusal(700016, "Application not found in the directory.", error="unauthorized_client")
        if app.disabled:
            raise Refusal(7000112, "Application is disabled.", error="unauthorized_client")
        if tenant is None and not app.multi_tenant:
            raise Refusal(50194, "Application is not configured as multi-tenant.", error="invalid_request")
        return app

    def find_user(self, tenant_id: str, key: str) -> User | None:
        """Return somebody of a directory by id or address."""
        key = key.lower()
        return next(
            (u for u in self.users.values() if u.tenant.id == tenant_id and key in {u.oid, u.address}), None
        )

    def granted(
        self, user: User | None, tenant: Tenant, application: Application, *, late: bool = False
    ) -> frozenset[str]:
        """Return the permissions in force: of the app itself, or with a user the delegated ones.

        Where the last consent is `late` to take effect, those before it.
        """
        known = self.before if late else self.consents
        delegated, own = known.get((tenant.id, application.client_id), (frozenset(), frozenset()))
        if user is None:
            return own
        return delegated | self.personal.get((user.address, application.client_id), frozenset())


def resource_scopes(text: str) -> frozenset[str]:
    """Return the scopes of Graph in a list of scopes, without their resource."""
    return frozenset(scope.removeprefix(GRAPH) for scope in text.split() if scope not in EXTRA)


def _guid(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "https://sandbox.example/" + "/".join(parts)))
