"""KQL, as far as mail clients go: words, and from: to: subject: hasAttachments: joined by AND.

https://learn.microsoft.com/graph/search-query-parameter
"""

from collections.abc import Mapping
from typing import Any


def matches(shown: Mapping[str, Any], search: str) -> bool:
    """Whether a mail's JSON matches a $search."""
    text = " ".join((shown["subject"], shown["bodyPreview"], str(shown["from"]))).lower()
    fields = {"from": str(shown["from"]), "to": str(shown["toRecipients"]), "subject": shown["subject"]}
    for term in search.strip('"').split(" AND "):
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
