"""Whose a folder is (RFC 2342): LIST shows also what other people share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Namespaces:
    """What a server tells of its namespaces; `others`: prefix -> whether what begins so is another's."""

    others: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, told: Any) -> "Namespaces":
        """Read the library's answer: personal ones, other users', shared ones; each may be None."""
        personal, *theirs = [[prefix for prefix, _ in kind or ()] for kind in told]
        others = dict.fromkeys([prefix for kind in theirs for prefix in kind], True)
        return cls(others | dict.fromkeys(personal, False))

    def is_others(self, folder: str) -> bool:
        """Whether a folder, but the Inbox, is another's: the longest prefix tells, and one may be empty."""
        fitting = [prefix for prefix in self.others if folder.startswith(prefix)]
        return bool(fitting) and self.others[max(fitting, key=len)]
