"""Who the mailbox belongs to, and its folders.

https://learn.microsoft.com/graph/api/resources/mailfolder
"""

from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.mailbox import Folder
from sandbox.graph.paging import page
from sandbox.graph.permissions import BASIC
from sandbox.web import Reply


def user(call: Call) -> Reply:
    """Show whose mailbox it is."""
    address = call.mailbox.address
    return Reply(body={"id": address, "displayName": address, "mail": address, "userPrincipalName": address})


def top(call: Call) -> Reply:
    """List the folders at the top."""
    return _listed(call, "")


def children(call: Call, folder: str) -> Reply:
    """List the folders within one."""
    return _listed(call, call.folder(folder).id)


def one(call: Call, folder: str) -> Reply:
    """Show a folder."""
    call.allow(BASIC)
    return Reply(body=_shown(call, call.folder(folder)))


def _listed(call: Call, parent: str) -> Reply:
    call.allow(BASIC)
    found = [folder for folder in call.mailbox.folders.values() if folder.parent == parent]
    return page(call, found, lambda folder: _shown(call, folder))


def _shown(call: Call, folder: Folder) -> dict[str, Any]:
    within = [each for each in call.mailbox.folders.values() if each.parent == folder.id]
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent or "root",
        "childFolderCount": len(within),
        "unreadItemCount": 0,
        "totalItemCount": len(call.mailbox.listed(folder.id)),
        "isHidden": False,
    }
