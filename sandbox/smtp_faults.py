"""What can go wrong at the post office, on a switch."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["MAIL", "RCPT", "DATA"]
"""DATA is the moment after the final dot."""


@dataclass
class Faults:
    """The switches; all are off. Counted ones switch themselves off.

    Attributes:
        refusing: close every new connection before the greeting.
        hanging: say nothing any more at this stage, until it is None again.
        refused: address -> reply; these recipients are refused, the others are taken.
        rewriting: replace the Message-ID as some relays do; `announced` says the new one in the 250.
    """

    refusing: bool = False
    hanging: Stage | None = None
    refused: dict[str, str] = field(default_factory=dict)
    rewriting: Literal["silent", "announced"] | None = None
    _replies: dict[str, deque[str]] = field(default_factory=dict)
    _drops: deque[bool] = field(default_factory=deque)

    def defer(
        self, stage: Stage, times: int = 1, reply: str = "451 4.3.0 Try again later, says the sandbox"
    ) -> None:
        """Answer the next `times` commands of a stage with this reply; any code will do."""
        self._replies.setdefault(stage, deque()).extend([reply] * times)

    def refuse(self, address: str, reply: str = "550 5.7.1 Refused, says the sandbox") -> None:
        """Refuse this recipient from now on."""
        self.refused[address.lower()] = reply

    def drop_after_dot(self, times: int = 1, *, delivered: bool) -> None:
        """Close the connection instead of answering the final dot; the mail was delivered, or was not."""
        self._drops.extend([delivered] * times)

    def clear(self) -> None:
        """Switch everything off."""
        self.__init__()  # type: ignore[misc]  # as new

    def next_reply(self, stage: Stage) -> str | None:
        """Return and use up the planned reply, if any."""
        replies = self._replies.get(stage)
        return replies.popleft() if replies else None

    def next_drop(self) -> bool | None:
        """Return and use up the planned drop: whether to deliver before it, or None for no drop."""
        return self._drops.popleft() if self._drops else None
