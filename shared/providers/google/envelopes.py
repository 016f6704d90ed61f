"""Envelopes of mails at Gmail: what is asked for of each, and how its headers and labels are read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shared import mime
from shared.model import Envelope
from shared.providers.google import reports

HEADERS = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Reply-To",
    "Return-Path",
    "Content-Type",
    "Authentication-Results",
    "Received",
    "Sender",
    "ARC-Authentication-Results",
    "Auto-Submitted",
    "Precedence",
    "X-Auto-Response-Suppress",
    "X-Autoreply",
    "X-Autorespond",
    "X-Autoresponder",
    "X-Failed-Recipients",
    "List-Id",
    "List-Unsubscribe",
    "Feedback-ID",
    "X-Loop",
]
"""What a decision is made of; nothing else of a mail is asked for before it is case mail."""

FIELDS = "id,threadId,labelIds,historyId,internalDate,sizeEstimate,payload/headers"
"""Without `snippet`, which is the beginning of the text."""

UNREAD_LABELS = frozenset({"SPAM", "TRASH", "DRAFT", "CHAT"})
"""Unwanted, deleted or unfinished mail, and what is none."""


def envelope(item: Mapping[str, Any]) -> Envelope:
    """Make an envelope of a message in the format `metadata`."""
    labels = item.get("labelIds", ())
    headers = [{**one, "value": _quoted(one)} for one in item.get("payload", {}).get("headers", ())]
    return mime.envelope(
        reports.block(headers) + b"\r\n",
        ref=item["id"],
        folder=_folder(labels),
        is_sent="SENT" in labels,
        size=int(item.get("sizeEstimate", 0)),
        received_at=datetime.fromtimestamp(int(item["internalDate"]) / 1000, UTC),
        thread=item.get("threadId"),
        # a draft that Gmail's page composes anew loses its headers, not its thread (decision 029)
        threaded="SENT" in labels,
    )


def _quoted(header: Mapping[str, str]) -> str:
    """Return a value; with the quotation marks that a sender's name needs since Gmail decoded it."""
    words, angle, rest = header["value"].rpartition("<")
    name = words.strip().replace("\\", "\\\\")
    bare = header["name"].lower() == "from" and name and not {'"', "@", "<"} & {*name}
    return f'"{name}" <{rest}' if bare and angle else header["value"]


def readable(item: Mapping[str, Any]) -> bool:
    """Whether a message is mail that is read at all."""
    return not UNREAD_LABELS.intersection(item.get("labelIds", ()))


def _folder(labels: Sequence[str]) -> str:
    """A mail has any number of labels; the one that tells most stands for its folder."""
    own = [label for label in labels if label.startswith("Label_")]
    return next((label for label in ("SENT", "INBOX", *own) if label in labels), "")
