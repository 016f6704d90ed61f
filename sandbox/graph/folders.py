"""Who the mailbox belongs to, and its folders.

https://learn.microsoft.com/graph/api/resources/mailfolder
"""

from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.mailbox import Folder
from sandbox.graph.paging import page
from sandbox.graph.permissions import BASIC, WRITE
from sandbox.graph.problems import GraphError
from sandbox.web import Reply


def user(call: Call) -> Reply:
    """Show whose mailbox it is."""
    needed = {"User.Read", "User.ReadBasic.All", "User.Read.All"}
    held = call.access.permissions & (needed if call.own else needed - {"User.Read"})
    if not held:
        raise GraphError(403, "Authorization_RequestDenied", "Insufficient privileges.")
    found = call.graph.identities.find_user(call.access.tenant_id, call.mailbox.address)
    address = call.mailbox.address
    shown = {"id": found.oid, "displayName": found.name, "mail": address, "userPrincipalName": address}
    return Reply(body=shown)


def top(call: Call) -> Reply:
    """List the folders at the top."""
    return _listed(call, call.mailbox.root.id)


def children(call: Call, folder: str) -> Reply:
    """List the folders within one."""
    return _listed(call, call.folder(folder).id)


def one(call: Call, folder: str) -> Reply:
    """Show a folder."""
    call.allow(BASIC)
    return Reply(body=_shown(call, call.folder(folder)))


def create(call: Call, parent: str = "") -> Reply:
    """Make a folder."""
    call.allow(WRITE)
    above = call.folder(parent) if parent else call.mailbox.root
    name = call.request.json["displayName"]
    if any(f.parent == above.id and f.name == name for f in call.mailbox.folders.values()):
        raise GraphError(409, "ErrorFolderExists", "A folder with the specified name already exists.")
    return Reply(201, _shown(call, call.mailbox.add_folder(name, parent=above.id)))


def _listed(call: Call, parent: str) -> Reply:
    call.allow(BASIC)
    found = [folder for folder in call.mailbox.folders.values() if folder.parent == parent]
    return page(call, found, lambda folder: _shown(call, folder))


def _shown(call: Call, folder: Folder) -> dict[str, Any]:
    within = [each for each in call.mailbox.folders.values() if each.parent == folder.id]
    items = call.mailbox.listed(folder.id)
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent or call.mailbox.root.id,
        "childFolderCount": len(within),
        "unreadItemCount": sum(not item.read for item in items),
        "totalItemCount": len(items),
        "isHidden": False,
    }
