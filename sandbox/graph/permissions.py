"""Which scopes a call needs.

https://learn.microsoft.com/graph/permissions-reference
"""

from typing import Any

from sandbox.graph.problems import GraphError

READ = {"Mail.Read", "Mail.ReadWrite"}
BASIC = READ | {"Mail.ReadBasic", "Mail.ReadBasic.All"}
WRITE = {"Mail.ReadWrite"}
SEND = {"Mail.Send"}


def may(access: Any, scopes: set[str], *, own: bool) -> bool:
    """Whether a token holds one of the scopes, for the user's own mailbox or for another's."""
    held = {one.removesuffix(".All") for one in access.permissions} if access.app_only else access.permissions
    if own or access.app_only:
        return bool(scopes & held)
    return bool({f"{one}.Shared" for one in scopes} & held)


def allow(access: Any, scopes: set[str], *, own: bool) -> None:
    """Raise GraphError where the token holds none of them."""
    if not may(access, scopes, own=own):
        raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
