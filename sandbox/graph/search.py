"""KQL, as far as mail clients go: words, and from: to: subject: hasAttachments: joined by AND.

https://learn.microsoft.com/graph/search-query-parameter
"""

from collections.abc import Mapping
from typing import Any

from sandbox.graph.problems import GraphError


def matches(shown: Mapping[str, Any], search: str) -> bool:
    """Whether a mail's JSON matches a $search. Raises GraphError where it stands in no quotes."""
    if len(search) < 3 or not (search[0] == search[-1] == '"'):
        raise GraphError(400, "BadRequest", "Syntax error in $search: the clause must stand in quotes.")
    text = " ".join(
        (shown["subject"], shown["bodyPreview"], str(shown["from"]), shown["body"]["content"])
    ).lower()
    fields = {"from": str(shown["from"]), "to": str(shown["toRecipients"]), "subject": shown["subject"]}
    for term in search[1:-1].split(" AND "):
        name, colon, value = term.strip().partition(":")
        if colon and name == "hasAttachments":
            if str(shown["hasAttachments"]).lower() != value.lower():
                return False
        elif colon and name in fields:
            if value.lower() not in fields[name].lower():
                return False
        elif term.strip().lower() not in text:
            return False
    return True
