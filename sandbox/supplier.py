"""The supplier's and Alice's mail program for the story in the README: plain SMTP and IMAP, nothing of ours.

    python -m sandbox.supplier read                     print the newest mail in the supplier's inbox
    python -m sandbox.supplier reply "Here it is."      answer it
    python -m sandbox.supplier answer-as-alice "Thanks" answer the supplier's newest mail as Alice would

`--organisation` picks another one than `imap`; `--file` another sandbox.json.
"""

import argparse
import email.policy
import imaplib
import json
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime, localtime, make_msgid
from pathlib import Path
from typing import Any

PATIENCE = 20
"""Seconds to wait for a mail that was just sent."""


class Program:
    """A mail program for one account: address, password, and where its `imap` and `smtp` are."""

    def __init__(self, account: dict[str, Any], ca: str) -> None:
        self.account = account
        self._context = ssl.create_default_context(cafile=ca)

    def newest(self, folder: str = "INBOX") -> EmailMessage:
        """Read the newest mail, waiting a little for the first. Ends the program where none comes."""
        for _ in range(PATIENCE):
            with self._imap() as client:
                client.select(folder, readonly=True)
                numbers = client.search(None, "ALL")[1][0].split()
                if numbers:
                    answer: Any = client.fetch(numbers[-1].decode(), "(BODY.PEEK[])")[1]
                    break
            time.sleep(1)
        else:
            raise SystemExit(f"{self.account['address']} has no mail in {folder}.")
        parsed = BytesParser(policy=email.policy.default).parsebytes(answer[0][1])
        if not isinstance(parsed, EmailMessage):
            raise TypeError(type(parsed))
        return parsed

    def answer(self, original: EmailMessage, text: str) -> EmailMessage:
        """Answer as mail programs do, and file a copy into Sent."""
        reply = EmailMessage(policy=email.policy.SMTP.clone(max_line_length=998))
        reply["From"] = self.account["address"]
        reply["To"] = str(original["From"])
        subject = str(original["Subject"])
        reply["Subject"] = subject if subject.lower().startswith("re:") else f"Re: {subject}"
        reply["Date"] = format_datetime(localtime())
        reply["Message-ID"] = make_msgid(domain=self.account["address"].rpartition("@")[2])
        reply["In-Reply-To"] = original["Message-ID"]
        reply["References"] = " ".join([*str(original.get("References", "")).split(), original["Message-ID"]])
        reply.set_content(text)
        self._submit(reply)
        with self._imap() as client:
            client.append("Sent", "(\\Seen)", None, reply.as_bytes())
        return reply

    def _imap(self) -> imaplib.IMAP4:
        place = self.account["imap"]
        client: imaplib.IMAP4
        if place["security"] == "tls":
            client = imaplib.IMAP4_SSL(place["host"], place["port"], ssl_context=self._context)
        else:
            client = imaplib.IMAP4(place["host"], place["port"])
            client.starttls(self._context)
        client.login(self.account["address"], self.account["password"])
        return client

    def _submit(self, message: EmailMessage) -> None:
        place = self.account["smtp"]
        client: smtplib.SMTP
        if place["security"] == "tls":
            client = smtplib.SMTP_SSL(place["host"], place["port"], context=self._context)
        else:
            client = smtplib.SMTP(place["host"], place["port"])
            client.starttls(context=self._context)
        with client:
            client.login(self.account["address"], self.account["password"])
            client.send_message(message)


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["read", "reply", "answer-as-alice"])
    parser.add_argument("text", nargs="?", default="An answer.")
    parser.add_argument("--organisation", default="imap")
    parser.add_argument("--file", type=Path, default=Path(".sandbox/sandbox.json"))
    given = parser.parse_args()
    facts = json.loads(given.file.read_text())
    supplier = Program(facts["supplier"], facts["ca"])
    if given.command == "read":
        print(supplier.newest().as_string())
    elif given.command == "reply":
        print("sent", supplier.answer(supplier.newest(), given.text)["Message-ID"])
    else:
        organisation = facts["organisations"][given.organisation]
        alice = Program({**facts["supplier"], **_account(organisation)}, facts["ca"])
        print("sent", alice.answer(alice.newest(), given.text)["Message-ID"])


def _account(organisation: dict[str, Any]) -> dict[str, Any]:
    """Alice's account; where the organisation names no servers of its own, those of the supplier serve."""
    names = ("address", "password", "imap", "smtp")
    return {name: organisation[name] for name in names if name in organisation}


if __name__ == "__main__":
    main()
