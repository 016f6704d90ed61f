"""Reading and writing mail as bytes: the one parser and the one composer for all providers. Pure.

Nothing here does I/O, and nothing raises on what a stranger mailed; `compose` and `check_address`
raise InvalidRequest on what a caller typed.
"""

from shared.mime.addresses import LINE, LONGEST_NAME, check_address, check_name, check_person
from shared.mime.classifying import classify, is_automatic
from shared.mime.composing import CONTENT_TYPE, NOBODY, Outgoing, Part, compose
from shared.mime.envelopes import arrival, envelope, is_from, with_bcc, written_by, written_to
from shared.mime.files import download_headers, raw_headers
from shared.mime.html import sanitise, text_of
from shared.mime.parsing import Parsed, attachment, files, parse
from shared.mime.quotes import plain
from shared.mime.reports import (
    LONGEST_PART,
    MOST_PARTS,
    OURS,
    Recipient,
    Report,
    beginning,
    has_returned_headers,
    head,
    quoted_id,
    report,
    reported_ids,
    returned_headers,
    returned_references,
)
from shared.mime.subjects import (
    ancestors,
    base_subject,
    fingerprint,
    fingerprint_of,
    is_answer,
    is_forward,
    is_topics,
    names_parent,
    synthetic_id,
)
from shared.mime.verdicts import NAMELESS, as_judged, authentication

__all__ = [
    "CONTENT_TYPE",
    "LINE",
    "LONGEST_NAME",
    "LONGEST_PART",
    "MOST_PARTS",
    "NAMELESS",
    "NOBODY",
    "OURS",
    "Outgoing",
    "Parsed",
    "Part",
    "Recipient",
    "Report",
    "ancestors",
    "arrival",
    "as_judged",
    "attachment",
    "authentication",
    "base_subject",
    "beginning",
    "check_address",
    "check_name",
    "check_person",
    "classify",
    "compose",
    "download_headers",
    "envelope",
    "files",
    "fingerprint",
    "fingerprint_of",
    "has_returned_headers",
    "head",
    "is_answer",
    "is_automatic",
    "is_forward",
    "is_from",
    "is_topics",
    "names_parent",
    "parse",
    "plain",
    "quoted_id",
    "raw_headers",
    "report",
    "reported_ids",
    "returned_headers",
    "returned_references",
    "sanitise",
    "synthetic_id",
    "text_of",
    "with_bcc",
    "written_by",
    "written_to",
]
