"""What a bounce says about a mail of ours, and how that is told. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from shared.mime import Report
from shared.model import Message, Problem, Undelivered

MOST_TOLD = 50
"""Recipients of a bounce whose failure is told: it may go on for ever, a record may not."""

LONGEST_TOLD = 40_000
"""Characters of what all bounces of a mail say together."""


def undelivered(report: Report) -> tuple[Undelivered, ...]:
    """Return whom the mail did not reach (RFC 3464 §2.3)."""
    failed = {one.address: one for one in report.recipients if one.action == "failed"}
    return tuple(Undelivered(one.address, one.status, one.diagnostic) for one in failed.values())


def bounced(message: Message, told: Sequence[Undelivered]) -> Message | None:
    """Return the mail that a bounce reports on, as failed.

    None where we did not send it, or not to a recipient of whom the bounce says so.
    """
    if message.direction != "out":
        return None
    sent_to = {*message.envelope_to, *(person.address for person in (*message.to, *message.cc))}
    failed = [one for one in told if one.address in sent_to][:MOST_TOLD]
    if not failed:
        return None
    words = "; ".join(f"{one.address}: {one.status} {one.diagnostic}".strip() for one in failed)
    problem = Problem(
        failed[0].status or "bounced", _with_earlier(message, words), "Correct the address and send again."
    )
    return replace(message, state="failed", error=problem)


def _with_earlier(message: Message, words: str) -> str:
    """Add them to what is told of other recipients: refused as the mail left, or bounced earlier."""
    told = message.error.detail if message.error and message.state in {"sent", "failed"} else ""
    new = "" if f"; {words}" in f"; {told}" else words
    return "; ".join(filter(None, [told, new]))[-LONGEST_TOLD:]
