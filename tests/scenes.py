"""One organisation on the sandbox's real parts, and the people in it: the stage of every walk.

The app runs in this process, against Azurite, the Key Vault simulator, Dovecot and the SMTP server;
`Scene.work` does what the Functions host does with the queues. Every scene has its own organisation
and its own mailboxes, so tests do not see each other.
"""

import email.policy
import itertools
import secrets
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import imapclient
import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient
from azure.storage.queue import QueueClient, QueueMessage, TextBase64DecodePolicy

from sandbox.families import places
from shared import casework, checking, connecting, drafts, jobs, sending, syncing, working
from shared.app import DELIVER, SYNC, App
from shared.callers import Caller, Tokens
from shared.contract import ConnectMailbox, Health, NewAttachment, Person, SendEmail
from shared.jobs import Job
from shared.model import Case, Integration, Mailbox, Message, Review, SyncState
from shared.storage.base import Add, Save

_NUMBERS = itertools.count(1)
PASSWORD = "correct horse"
PAGE = 32
"""Messages that a queue gives at once, at most."""


@dataclass
class Clock:
    """The real time, and how far the test has moved it."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, **by: float) -> None:
        self.ahead += timedelta(**by)


@dataclass
class Person_:
    """Somebody with a mailbox and any mail program."""

    world: Any
    address: str

    def send(self, to: str, subject: str = "Hello", text: str = "Text", **headers: str) -> EmailMessage:
        """Write a mail as any program would, and submit it."""
        message = write(self.address, to, subject, text, **headers)
        self.submit(message.as_bytes(policy=email.policy.SMTP), [to])
        return message

    def reply(self, to_mail: EmailMessage | bytes, text: str = "An answer", **changes: str) -> EmailMessage:
        """Answer as mail programs do: References, In-Reply-To, Re: subject."""
        original = parsed(to_mail)
        known = str(original.get("References", "")).split()
        headers = {
            "In-Reply-To": original["Message-ID"],
            "References": " ".join([*known, original["Message-ID"]]),
        }
        to = changes.pop("to", str(original["From"]))
        subject = changes.pop("subject", f"Re: {original['Subject']}")
        return self.send(to, subject, text, **{**headers, **changes})

    def submit(self, raw: bytes, to: list[str], sender: str | None = None) -> None:
        """Hand over through the SMTP submission server with STARTTLS."""
        context = ssl.create_default_context(cafile=self.world.authority.pem)
        with smtplib.SMTP("localhost", self.world.ports["smtp"], timeout=20) as smtp:
            smtp.starttls(context=context)
            smtp.login(self.address, PASSWORD)
            smtp.sendmail(sender or self.address, to, raw)

    def receive(self, *raws: bytes, folder: str = "INBOX") -> None:
        """Find bytes in a folder as a mail server would put them there, whatever they are."""
        with imap(self.world, self.address) as client:
            for raw in raws:
                client.append(folder, raw)

    def keep(self, raw: bytes) -> None:
        """File a copy of an own mail into Sent, as most mail programs do."""
        with imap(self.world, self.address) as client:
            client.append("Sent", raw, [b"\\Seen"])

    def move_all(self, folder: str) -> None:
        """Move everything out of the inbox into a new folder."""
        with imap(self.world, self.address) as client:
            client.create_folder(folder)
            client.select_folder("INBOX")
            client.move(client.search("ALL"), folder)

    def delete_all(self) -> None:
        """Delete everything in the inbox for good."""
        with imap(self.world, self.address) as client:
            client.select_folder("INBOX")
            client.delete_messages(client.search("ALL"))
            client.expunge()

    def inbox(self, folder: str = "INBOX") -> list[bytes]:
        """Read everything in a folder."""
        with imap(self.world, self.address) as client:
            client.select_folder(folder, readonly=True)
            uids = client.search("ALL")
            fetched = client.fetch(uids, ["BODY.PEEK[]"]) if uids else {}
            return [fetched[uid][b"BODY[]"] for uid in sorted(fetched)]


@dataclass
class ProgramUser(Person_):
    """Somebody at one of the simulators, with its mail program in front, which files its own copies."""

    folders: ClassVar[Mapping[str, str]]
    """What a mail program calls a folder, and its name at the system."""

    @property
    def system(self) -> Any:
        """The simulator that has the mailbox."""
        raise NotImplementedError

    @property
    def box(self) -> Any:
        return self.system.mailbox(self.address)

    def inbox(self, folder: str = "INBOX") -> list[bytes]:
        return [item.raw for item in self.listed(self.folders.get(folder, folder))]

    def listed(self, folder: str) -> list[Any]:
        """What lies in a folder, by its name at the system."""
        return self.box.listed(self.box.folder(folder).id)

    def submit(self, raw: bytes, to: list[str], sender: str | None = None) -> None:
        """Send from the program, which goes by the headers and files its own copy."""
        self.system.send_as_user(self.address, raw)

    def keep(self, raw: bytes) -> None:
        """The program has filed it already."""

    def receive(self, *raws: bytes, folder: str = "INBOX") -> None:
        for raw in raws:
            self.system.arrive(self.address, raw, self.folders.get(folder, folder))

    def move_all(self, folder: str) -> None:
        for item in self.listed("inbox"):
            self.box.move(item, folder)

    def delete_all(self) -> None:
        for item in self.listed("inbox"):
            self.box.remove(item)


@dataclass
class Scene:
    """An organisation with a case C-1, its member Alice and her connected mailbox; the supplier; a clock.

    `also` names other organisations whose jobs `work` runs, too.
    """

    world: Any
    app: App
    clock: Clock
    org_id: str
    alice: Person_
    supplier: Person_
    mailbox: Mailbox
    case_id: str = "C-1"
    failed: list[BaseException] = field(default_factory=list)
    also: tuple[str, ...] = ()

    @property
    def caller(self) -> Caller:
        return caller(self.org_id, self.alice.address)

    @property
    def receiver(self) -> str:
        """What a `Guard` calls the receiving side."""
        return f"{self.mailbox.receives_with}.receiver"

    @property
    def sender(self) -> str:
        """What a `Guard` calls the sending side."""
        return f"{self.mailbox.sends_with}.sender"

    @property
    def copies(self) -> int:
        """How many copies of a sent mail there must be: one, but where there is no Sent folder."""
        return int(self.app.has_sent_folder(self.mailbox))

    def send(self, app: App | None = None, key: str | None = None, **changes: Any) -> Message:
        """Send from the case, as the API does."""
        body = SendEmail(
            **{
                "mailbox_id": self.mailbox.id,
                "to": [Person(address=self.supplier.address, name="Supplier")],
                "subject": "Offer 4711",
                "text": "Please send your offer.",
                "attachments": [
                    NewAttachment(name="list.txt", content_type="text/plain", content_base64="MTA=")
                ],
                **changes,
            }
        )
        return sending.accept(
            app or self.app, self.caller, self.case_id, drafts.checked(body), key or secrets.token_hex(8)
        )

    def sent(self, **changes: Any) -> Message:
        """Send from the case and have it delivered."""
        message = self.send(**changes)
        self.work()
        return self.email(message.id)

    def sync(self, mailbox: Mailbox | None = None, app: App | None = None) -> Any:
        """Look into the mailbox now."""
        return syncing.sync(app or self.app, self.org_id, (mailbox or self.mailbox).id)

    def forget(self, mailbox: Mailbox | None = None) -> None:
        """Lose the cursor, as after a UIDVALIDITY change: the next look sees everything again."""
        state = self.app.records.get(self.org_id, SyncState, (mailbox or self.mailbox).id).value
        self.app.records.commit(self.org_id, Save(replace(state, cursor=None)))

    def work(self, app: App | None = None) -> int:
        """Run what lies in the queues until they are empty, as the host would; returns how many jobs ran."""
        ran = 0
        while found := list(self.waiting()):
            for text in found:
                working.run(app or self.app, text)
                ran += 1
        return ran

    def waiting(self) -> Iterator[str]:
        """Take this organisation's messages, and those of `also`, off the queues; others' are thrown away."""
        for name in (SYNC, DELIVER):
            queue = _queue(self.world.environment()["STORAGE"], name)
            try:
                for message in _messages(queue):
                    queue.delete_message(message)
                    if jobs.read(message.content).org_id in {self.org_id, *self.also}:
                        yield message.content
            except ResourceNotFoundError:
                continue  # nothing was ever put into it

    def deliver(self, message: Message, app: App | None = None) -> None:
        """Run the delivery of one promise."""
        place = {"case_id": message.case_id, "conversation_id": message.conversation_id}
        job = Job("deliver", self.org_id, message.id, **place)
        working.run(app or self.app, encoded(job))

    def timeline(self, case_id: str | None = None) -> list[Message]:
        """The case, as a member sees it."""
        return casework.timeline(self.app, self.caller, case_id or self.case_id, limit=100, cursor=None)[0]

    def email(self, email_id: str) -> Message:
        return casework.email(self.app, self.caller, self.case_id, email_id)

    def raw(self, message: Message) -> bytes:
        return casework.raw(self.app, self.caller, self.case_id, message.id)

    def blobs(self) -> set[str]:
        """Name every blob of the organisation."""
        with suppress(ResourceNotFoundError):  # there is no container before the first blob
            names = _mail(self.world.environment()["STORAGE"]).list_blob_names(
                name_starts_with=f"{self.org_id}/"
            )
            return {name.partition("/")[2] for name in names}
        return set()

    def reviews(self) -> list[Review]:
        rows = self.app.records.range(self.org_id, Review, prefix=f"{self.mailbox.id}!")
        return [row.value for row in rows]

    def held(self, **headers: str) -> Review:
        """Have a stranger answer the supplier's answer: a mail that is held for its owner."""
        self.sent()
        answer = self.supplier.reply(self.supplier.inbox()[0])
        self.sync()
        stranger = someone(self.world, "stranger", "supplier.example")
        told = {"In-Reply-To": answer["Message-ID"], **headers}
        stranger.send(self.alice.address, "Re: Offer 4711", **told)
        self.sync()
        [review] = self.reviews()
        return review

    def colleague(self, name: str = "carol") -> tuple[Person_, Mailbox]:
        """Connect a second mailbox of the organisation."""
        person = someone(self.world, name, self.alice.address.rpartition("@")[2])
        return person, connect(self.world, self.app, self.org_id, person, self.mailbox.receives_with)


@cache
def _queue(connection: str, name: str) -> QueueClient:
    """As the host reads it; made once, because every client has connections of its own."""
    decoding = {"message_decode_policy": TextBase64DecodePolicy()}
    return QueueClient.from_connection_string(connection, name, **decoding)


def _messages(queue: QueueClient) -> Iterator[QueueMessage]:
    """Take what lies in a queue; a page that is not full was the last, and is not asked after."""
    for page in queue.receive_messages(messages_per_page=PAGE, visibility_timeout=60).by_page():
        found = list(page)
        yield from found
        if len(found) < PAGE:
            return


@cache
def _mail(connection: str) -> ContainerClient:
    return ContainerClient.from_connection_string(connection, "mail")


def build_behind(wire: Any, world: Any, app: App, clock: Clock) -> Scene:
    """Set the stage with a mailbox whose IMAP server is behind a wire."""
    return build(world, app, clock, settings=behind(wire, world))


def behind(wire: Any, world: Any) -> dict[str, Any]:
    """The settings of a mailbox whose IMAP server is behind a wire."""
    place = {"host": "localhost", "port": wire.port, "security": "tls"}
    smtp = {"host": "localhost", "port": world.ports["smtp"], "security": "starttls"}
    return {"imap": place, "smtp": smtp}


def build_pop3(world: Any, app: App, clock: Clock, **mailbox: Any) -> Scene:
    """Set the stage with a mailbox that is read by POP3: no folders, no Sent."""
    return build(world, app, clock, "pop3", **mailbox)


def leave(scene: "Scene") -> None:
    """Take what is due of a scene off the schedule: every later tick of this world would do it again."""
    clear(scene.app, scene.org_id)


def clear(app: App, org_id: str | None = None) -> None:
    """Empty the schedule, or take an organisation's entries off it."""
    for due in list(app.schedule.until(app.clock() + timedelta(days=800))):
        if org_id in {None, due.org_id}:
            app.schedule.remove(due)


def health(app: App) -> Health:
    """Ask for health where nobody has shown a token yet."""
    return checking.health(app, Tokens("issuer", "zalion", "https://issuer.example/keys"))


def build(world: Any, app: App, clock: Clock, receives_with: str = "imap", **mailbox: Any) -> Scene:
    """Set the stage."""
    org_id = f"org-{secrets.token_hex(4)}"
    alice = someone(world, "alice", "imap.example")
    supplier = someone(world, "supplier", "supplier.example")
    begin(app, org_id, alice, receives_with, "smtp")
    box = connect(world, app, org_id, alice, receives_with, **mailbox)
    return Scene(world, app, clock, org_id, alice, supplier, box)


def begin(app: App, org_id: str, member: Person_, *providers: str) -> None:
    """Write down what the use cases would in a call or more for each: approved providers, and a case.

    Most tests begin with it, and none is about it: those that are approve through the use case.
    """
    approved = [Add(Integration(name, "approved", updated_at=app.clock())) for name in providers]
    app.records.commit(org_id, *approved, Save(Case("C-1", "Screws", (member.address,))))


def connect(
    world: Any, app: App, org_id: str, person: Person_, receives_with: str | None = "imap", **changes: Any
) -> Mailbox:
    """Connect somebody's mailbox through the use case, as POST /mailboxes does."""
    at = places(world, imap="tls", pop3="tls", smtp="starttls")
    body = ConnectMailbox(
        **{
            "address": person.address,
            "receives_with": receives_with,
            "sends_with": "smtp",
            "settings": {name: place for name, place in at.items() if name in {receives_with, "smtp"}},
            "secret": {"password": PASSWORD},
            "since": datetime.now(UTC) - timedelta(minutes=5),
            **changes,
        }
    )
    return connecting.connect(app, caller(org_id, person.address), body)


def caller(org_id: str, address: str, *roles: str) -> Caller:
    return Caller(org_id, address, frozenset(roles or {"member"}))


def someone(world: Any, name: str, domain: str) -> Person_:
    """Give somebody a mailbox on the sandbox's mail server."""
    person = Person_(world, f"{name}.{next(_NUMBERS)}.{secrets.token_hex(2)}@{domain}")
    world.add_user(person.address, PASSWORD)
    return person


def follow(world: Any, url: str) -> dict[str, str]:
    """Open a link as a signed-in browser does; returns the query it comes back with."""
    answer = _browser(str(world.authority.pem)).get(url, allow_redirects=False, timeout=10)
    assert answer.status_code == 302, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


@cache
def _browser(ca: str) -> requests.Session:
    """One for the whole run: it keeps its connections."""
    session = requests.Session()
    session.trust_env, session.verify = False, ca
    return session


def imap(world: Any, address: str) -> imapclient.IMAPClient:
    """Sign in with a client we did not write."""
    context = ssl.create_default_context(cafile=world.authority.pem)
    client = imapclient.IMAPClient("localhost", world.ports["imaps"], ssl_context=context)
    client.login(address, PASSWORD)
    return client


def write(sender: str, to: str, subject: str, text: str, **headers: str) -> EmailMessage:
    """Compose with the standard library, not with our composer."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Date"] = headers.pop("Date", format_datetime(datetime.now(UTC)))
    message["Message-ID"] = headers.pop(
        "Message-ID", f"<{secrets.token_hex(12)}@{sender.rpartition('@')[2].rstrip('>')}>"
    )
    for name, value in headers.items():
        if value:
            message[name] = value
    message.set_content(text)
    return message


def parsed(mail: EmailMessage | bytes) -> EmailMessage:
    if isinstance(mail, EmailMessage):
        return mail
    return email.message_from_bytes(mail, policy=email.policy.compat32)  # type: ignore[return-value]


def encoded(job: Job) -> str:
    import msgspec

    return msgspec.json.encode(job).decode()


def at(mailbox: Mailbox, **changes: Any) -> Mailbox:
    return replace(mailbox, **changes)
