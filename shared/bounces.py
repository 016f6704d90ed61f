"""What a bounce says about a mail of ours, and how that is told. Pure."""

from dataclasses import replace

from shared.mime import Report
from shared.model import Message, Problem

MOST_TOLD = 50
"""Recipients of a bounce whose failure is told; the bounce itself has them all."""

LONGEST_TOLD = 40_000
"""Characters of what all bounces of a mail say together."""


def bounced(message: Message, report: Report) -> Message | None:
    """Return the mail that a bounce reports on, as failed.

    None where we did not send it, or not to a recipient of whom the report says so (RFC 3464 §2.3).
    """
    if message.direction != "out":
        return None
    sent_to = {*message.envelope_to, *(person.address for person in (*message.to, *message.cc))}
    failed = {r.address: r for r in report.recipients if r.action == "failed" and r.address in sent_to}
    if not failed:
        return None
    told = list(failed.values())[:MOST_TOLD]  # a report may go on for ever, a record may not
    words = "; ".join(f"{r.address}: {r.status} {r.diagnostic}".strip() for r in told)
    problem = Problem(
        told[0].status or "bounced", _with_earlier(message, words), "Correct the address and send again."
    )
    return replace(message, state="failed", error=problem)


def _with_earlier(message: Message, words: str) -> str:
    """Add them to what is told of other recipients: refused as the mail left, or bounced earlier."""
    told = message.error.detail if message.error and message.state in {"sent", "failed"} else ""
    new = "" if f"; {words}" in f"; {told}" else words
    return "; ".join(filter(None, [told, new]))[-LONGEST_TOLD:]
