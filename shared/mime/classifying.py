"""What sort of mail is this: a human's, or a machine's answer, bounce or receipt? By headers alone. Pure."""

import re

from shared.mime.envelopes import first
from shared.mime.structure import Part
from shared.model import Envelope, MailKind

_REPLIED = ("x-autoreply", "x-autorespond", "x-autoresponder")
# The subject Exchange gives to out-of-office answers, by the mailbox's language. Only together with
# X-Auto-Response-Suppress: alone either of them is on human mail too.
_AUTOMATIC_REPLY = re.compile(
    r"\s*(automatic reply|automatische antwort|abwesenheitsnotiz|réponse automatique|respuesta automática"
    r"|risposta automatica|automatisch antwoord|resposta automática|odpowiedź automatyczna|autosvar"
    r"|automatisk svar|automaattinen vastaus)\s*:",
    re.IGNORECASE,
)
_BOUNCERS = {"mailer-daemon", "postmaster"}
_HEARSAY = {"", "no", "false", "0"}


def classify(envelope: Envelope) -> MailKind:
    """Tell a mail's kind, by strong evidence only.

    RFC 6522 and 3464 (bounce), RFC 8098 (receipt), RFC 3834 (auto-reply). `Auto-Submitted: no` is
    human; X-Auto-Response-Suppress only asks us not to answer.
    """
    about = _reports_about(envelope)
    if about == "disposition-notification":
        return "receipt"
    if about == "delivery-status" or _header(envelope, "x-failed-recipients") or _from_daemon(envelope):
        return "bounce"
    return "auto_reply" if _is_auto_reply(envelope) else "mail"


def is_automatic(envelope: Envelope) -> bool:
    """Whether a machine sent it, lists and bulk mail included: nothing of ours may answer it."""
    headers = envelope.headers
    submitted = _header(envelope, "auto-submitted")
    return (
        classify(envelope) != "mail"
        or bool(submitted and not submitted.startswith("no"))
        or any(name in headers for name in ("list-id", "list-unsubscribe", "feedback-id", "x-loop"))
        or _header(envelope, "precedence") in {"bulk", "list", "junk"}
        or _header(envelope, "return-path") == "<>"
        or _reports_about(envelope) == "feedback-report"
    )


def _reports_about(envelope: Envelope) -> str:
    """Return the report-type of a multipart/report, else ""."""
    part = Part(envelope.headers, b"")
    return part.param("report-type").lower() if part.content_type == "multipart/report" else ""


def _from_daemon(envelope: Envelope) -> bool:
    """The null return path and a daemon's address: bounces older than RFC 3464 (qmail, some gateways)."""
    local = envelope.sender.address.partition("@")[0] if envelope.sender else ""
    return _header(envelope, "return-path") == "<>" and local in _BOUNCERS


def _is_auto_reply(envelope: Envelope) -> bool:
    submitted = _header(envelope, "auto-submitted")
    if submitted.startswith("no"):
        return False
    suppress = re.split(r"[\s,;]+", _header(envelope, "x-auto-response-suppress"))
    return (
        submitted.startswith("auto-replied")
        or any(_header(envelope, name) not in _HEARSAY for name in _REPLIED)
        or _header(envelope, "precedence") in {"auto_reply", "auto-reply"}
        or ("all" in suppress and _AUTOMATIC_REPLY.match(envelope.subject) is not None)
    )


def _header(envelope: Envelope, name: str) -> str:
    return first(envelope.headers, name).strip().lower()
