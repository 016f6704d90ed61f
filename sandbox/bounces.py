"""Addresses whose mail comes back, and the report it comes back with."""

import re
from email.message import EmailMessage, Message
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.parser import BytesParser
from email.policy import SMTP, compat32
from email.utils import formatdate, make_msgid

_BOUNCING = re.compile(r"bounces?(\+[^@]*)?@[^@]+", re.IGNORECASE)


def is_bouncing(address: str) -> bool:
    """Whether this is `bounce@`, `bounces@` or `bounces+anything@`: accepted first, reported later."""
    return _BOUNCING.fullmatch(address) is not None


def delivery_report(sender: str, recipient: str, raw: bytes) -> bytes:
    """Return the report (RFC 3464, RFC 6522) that `raw` could not be delivered, with it attached."""
    domain = recipient.rpartition("@")[2]
    report = MIMEMultipart("report", report_type="delivery-status")
    report["From"] = f"Mail Delivery System <mailer-daemon@{domain}>"
    report["To"] = sender
    report["Subject"] = "Undelivered Mail Returned to Sender"
    report["Date"] = formatdate()
    report["Message-ID"] = make_msgid(domain=domain)
    report["Auto-Submitted"] = "auto-replied"
    text = f"Your message could not be delivered to <{recipient}>:\n\n550 5.1.1 mailbox unavailable\n"
    report.attach(MIMEText(text, "plain", "us-ascii"))
    report.attach(_status(domain, recipient))
    report.attach(MIMEMessage(BytesParser(policy=compat32).parsebytes(raw)))
    return report.as_bytes(policy=SMTP.clone(max_line_length=None, cte_type="8bit"))


def _status(domain: str, recipient: str) -> Message:
    """Per-message and per-recipient fields (RFC 3464 sections 2.2 and 2.3), each group a block of its own."""
    message, per_recipient = EmailMessage(), EmailMessage()
    message["Reporting-MTA"] = f"dns; {domain}"
    message["Arrival-Date"] = formatdate()
    per_recipient["Final-Recipient"] = f"rfc822; {recipient}"
    per_recipient["Action"] = "failed"
    per_recipient["Status"] = "5.1.1"
    per_recipient["Diagnostic-Code"] = "smtp; 550 5.1.1 mailbox unavailable"
    status = Message()
    status["Content-Type"] = "message/delivery-status"
    status.set_payload([message, per_recipient])
    return status
