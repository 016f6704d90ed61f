"""The supplier's and Alice's mail program for the story in the README: nothing of the app's.

Plain SMTP and IMAP; where Alice's mail system speaks neither, the sandbox's stand-in for Outlook or Gmail.

    python -m sandbox.supplier read                     print Alice's newest mail in the supplier's inbox
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

import requests

PATIENCE = 20
"""Seconds to wait for a mail that was just sent."""


class Program:
    """A mail program for one account: address, password, and where its `imap` and `smtp` are."""

    def __init__(self, account: dict[str, Any], ca: str) -> None:
        self.account = account
        self._ca = ca
        self._context = ssl.create_default_context(cafile=ca)

    def newest(self, sender: str) -> EmailMessage:
        """Read the newest mail of a sender, waiting a little. Ends the program where none comes."""
        for _ in range(PATIENCE):
            if raw := self._newest(sender):
                parsed = BytesParser(policy=email.policy.default).parsebytes(raw)
                if not isinstance(parsed, EmailMessage):
                    raise TypeError(type(parsed))
                return parsed
            time.sleep(1)
        raise SystemExit(f"{self.account['address']} has no mail from {sender}.")

    def _newest(self, sender: str) -> bytes | None:
        with self._imap() as client:
            client.select("INBOX", readonly=True)
            numbers = client.search(None, "FROM", f'"{sender}"')[1][0].split()
            answer: Any = client.fetch(numbers[-1].decode(), "(BODY.PEEK[])")[1] if numbers else None
        return answer[0][1] if answer else None

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
        self._send(reply)
        return reply

    def _send(self, message: EmailMessage) -> None:
        self._submit(message)
        with self._imap() as client:
            client.append("Sent", "(\\Seen)", None, message.as_bytes())

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


class WebProgram(Program):
    """The program of somebody whose mail system speaks neither IMAP nor SMTP: see `programs`."""

    def _newest(self, sender: str) -> bytes | None:  # noqa: ARG002 - nobody else writes to her in the story
        answer = self._call("GET")
        return answer.content if answer.ok else None

    def _send(self, message: EmailMessage) -> None:
        self._call("POST", message.as_bytes()).raise_for_status()

    def _call(self, method: str, body: bytes | None = None) -> requests.Response:
        url, who = self.account["program"]["url"], (self.account["address"], self.account["password"])
        return requests.request(method, url, data=body, auth=who, verify=self._ca, timeout=30)


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["read", "reply", "answer-as-alice"])
    parser.add_argument("text", nargs="?", default="An answer.")
    parser.add_argument("--organisation", default="imap")
    parser.add_argument("--file", type=Path, default=Path(".sandbox/sandbox.json"))
    given = parser.parse_args()
    facts = json.loads(given.file.read_text())
    supplier, organisation = (
        Program(facts["supplier"], facts["ca"]),
        facts["organisations"][given.organisation],
    )
    if given.command == "read":
        print(supplier.newest(organisation["address"]).as_string())
    elif given.command == "reply":
        print("sent", supplier.answer(supplier.newest(organisation["address"]), given.text)["Message-ID"])
    else:
        kind = WebProgram if "program" in organisation else Program
        alice = kind({"imap": facts["supplier"]["imap"], **organisation}, facts["ca"])
        print("sent", alice.answer(alice.newest(facts["supplier"]["address"]), given.text)["Message-ID"])


if __name__ == "__main__":
    main()
