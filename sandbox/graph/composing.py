"""The mails that Exchange writes from JSON."""

import base64
import email
import email.policy
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

from sandbox.mail import AS_READ

PEOPLE = {"To": "toRecipients", "Cc": "ccRecipients", "Bcc": "bccRecipients", "Reply-To": "replyTo"}


def compose(sender: str, body: Mapping[str, Any]) -> EmailMessage:
    """Compose the mail of a JSON message."""
    message = EmailMessage(policy=email.policy.SMTP)
    asked = (body.get("from") or {}).get("emailAddress", {}).get("address", sender)
    message["From"] = asked
    for name, key in PEOPLE.items():
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


def rewritten(raw: bytes, body: Mapping[str, Any]) -> bytes:
    """Return a draft with what a PATCH names replaced."""
    message = email.message_from_bytes(raw, policy=AS_READ)
    headers = {"Subject": body.get("subject"), "Message-ID": body.get("internetMessageId")}
    for name, key in PEOPLE.items():
        if key in body:
            headers[name] = ", ".join(_shown(one["emailAddress"]) for one in body[key])
    for name, value in headers.items():
        if value is not None:
            del message[name]
            message[name] = value
    if "body" in body:
        html = str(body["body"].get("contentType", "")).lower() == "html"
        part = message.get_body(("html", "plain")) or message
        part.set_content(body["body"]["content"], subtype="html" if html else "plain")
    return message.as_bytes()


def attach(message: EmailMessage, shown: Mapping[str, Any]) -> None:
    """Add a fileAttachment's content."""
    main, _, sub = str(shown.get("contentType") or "application/octet-stream").partition("/")
    options: dict[str, Any] = {"cid": f"<{shown['contentId']}>"} if shown.get("contentId") else {}
    message.add_attachment(
        base64.b64decode(shown.get("contentBytes") or ""),
        maintype=main,
        subtype=sub or "octet-stream",
        filename=shown["name"],
        disposition="inline" if shown.get("isInline") else "attachment",
        **options,
    )


def _shown(person: Mapping[str, str]) -> str:
    return f'"{person["name"]}" <{person["address"]}>' if person.get("name") else person["address"]
