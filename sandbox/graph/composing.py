"""The mails that Exchange writes from JSON."""

import base64
import email
import email.policy
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any


def compose(sender: str, body: Mapping[str, Any]) -> EmailMessage:
    """Compose the mail of a JSON message."""
    message = EmailMessage(policy=email.policy.SMTP)
    asked = (body.get("from") or {}).get("emailAddress", {}).get("address", sender)
    message["From"] = asked
    for name, key in (("To", "toRecipients"), ("Cc", "ccRecipients"), ("Bcc", "bccRecipients")):
        people = [_shown(one["emailAddress"]) for one in body.get(key) or ()]
        if people:
            message[name] = ", ".join(people)
    message["Subject"] = body.get("subject", "")
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = body.get("internetMessageId") or f"<{secrets.token_hex(16)}@sandbox.outlook.com>"
    for header in body.get("internetMessageHeaders") or ():
        message[header["name"]] = header["value"]
    content = body.get("body") or {}
    subtype = "html" if str(content.get("contentType", "")).lower() == "html" else "plain"
    message.set_content(content.get("content", ""), subtype=subtype)
    for one in body.get("attachments") or ():
        attach(message, one)
    return message


def attach(message: EmailMessage, shown: Mapping[str, Any]) -> None:
    """Add a fileAttachment's content."""
    main, _, sub = str(shown.get("contentType") or "application/octet-stream").partition("/")
    content = base64.b64decode(shown.get("contentBytes") or "")
    if main == "text":
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=shown["name"]
        )
    else:
        message.add_attachment(content, maintype=main, subtype=sub or "octet-stream", filename=shown["name"])


def recipients(message: EmailMessage) -> list[str]:
    """Return every address a mail goes to."""
    values = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return list(dict.fromkeys(address.lower() for _, address in getaddresses(values) if address))


def _shown(person: Mapping[str, str]) -> str:
    return f'"{person["name"]}" <{person["address"]}>' if person.get("name") else person["address"]
