"""Gmail v1 on the wire: every request and every answer is checked against the discovery document."""

import json
import re
import smtplib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qsl

from sandbox.bounces import delivery_report
from sandbox.google import reading, sending, uploads
from sandbox.google.batch import answer as answer_batch
from sandbox.google.call import Call, Served
from sandbox.google.directory import Directory
from sandbox.google.discovery import Method, check_body, check_query, faults_in, method_of, selected
from sandbox.google.faults import Faults
from sandbox.google.grants import Access, Grants
from sandbox.google.mailbox import Item, Mailbox, Watch
from sandbox.google.problems import Problem, invalid
from sandbox.google.push import PubSub
from sandbox.google.quota import Quota
from sandbox.web import Reply, Request

LARGEST_JSON = 5 * 1024 * 1024
CHALLENGE = 'Bearer realm="https://accounts.google.com/", error='
METHODS: dict[str, Callable[[Call], dict[str, Any] | None]] = {
    "getProfile": reading.profile,
    "watch": sending.watch,
    "stop": sending.stop,
    "history.list": reading.history,
    "labels.list": reading.list_labels,
    "labels.get": reading.get_label,
    "labels.create": reading.create_label,
    "messages.list": reading.list_messages,
    "messages.get": reading.get_message,
    "messages.attachments.get": reading.get_attachment,
    "messages.send": sending.send,
    "messages.modify": sending.modify,
    "messages.trash": sending.trash,
    "messages.untrash": sending.untrash,
    "messages.delete": sending.delete,
    "drafts.list": reading.list_drafts,
    "drafts.create": sending.create_draft,
    "drafts.get": sending.get_draft,
    "drafts.update": sending.update_draft,
    "drafts.delete": sending.delete_draft,
    "drafts.send": sending.send_draft,
    "threads.list": reading.list_threads,
    "threads.get": reading.get_thread,
    "settings.sendAs.list": reading.list_send_as,
}


class Gmail:
    """All mailboxes, and the API in front of them.

    Attributes:
        requests: every call, served or refused.
        violations: where an answer of the simulator breaks the discovery document, or a method is not simulated.
        sent: mails handed over, as they went out.
    """

    def __init__(
        self,
        url: str,
        directory: Directory,
        grants: Grants,
        pubsub: PubSub,
        faults: Faults,
        now: Callable[[], float],
        mx: tuple[str, int],
    ) -> None:
        self.url, self.directory, self.grants, self.pubsub = url, directory, grants, pubsub
        self.faults, self.now = faults, now
        self.quota = Quota(faults, now)
        self.uploads = uploads.Uploads()
        self.mailboxes: dict[str, Mailbox] = {}
        self.requests: list[Served] = []
        self.violations: list[str] = []
        self.sent: list[bytes] = []
        self._mx = mx

    # The mail world's side

    def add_mailbox(self, address: str) -> Mailbox:
        """Give somebody a mailbox."""
        box = self.mailboxes.setdefault(address.lower(), Mailbox(address.lower()))
        box.tell = lambda labels: self._tell(box, labels)
        return box

    def publish(self, box: Mailbox, watch: Watch) -> None:
        """Push the mailbox's history id to whoever watches."""
        if watch.until > self.now() and box.address not in self.faults.dead_watches:
            self.pubsub.publish(watch.topic, box.address, box.history_id)

    def transport(self, address: str, raw: bytes, to: list[str]) -> None:
        """Hand a mail over by SMTP; who is refused is reported to the sender."""
        self.sent.append(raw)
        with smtplib.SMTP(*self._mx, timeout=20) as smtp:
            try:
                refused: Iterable[str] = smtp.sendmail(address, to, raw)
            except smtplib.SMTPRecipientsRefused as error:
                refused = error.recipients
        for recipient in refused:
            self.mailboxes[address].add(delivery_report(address, recipient, raw), quiet=False)

    def arrive(
        self,
        address: str,
        raw: bytes,
        label: str = "INBOX",
        at: datetime | None = None,
        *,
        sent: bool = False,
    ) -> Item:
        """Put a mail into a mailbox and tell whoever watches."""
        return self.mailboxes[address.lower()].add(raw, label, at=at, sent=sent, quiet=False)

    def _tell(self, box: Mailbox, labels: Iterable[str]) -> None:
        for watch in list(box.watches.values()):
            meant = bool(watch.label_ids & set(labels))
            if not watch.label_ids or meant != watch.exclude:
                self.publish(box, watch)

    # On the wire

    def answer(self, request: Request) -> Reply:
        """Answer a request; several of them where it is a batch."""
        try:
            if request.path in {"/batch", "/batch/gmail/v1"}:
                return answer_batch(request, self._one)
            return self._one(request)
        except Problem as problem:
            return problem.reply()

    def _one(self, request: Request) -> Reply:
        """Answer one call."""
        request = _unfolded(request)
        trail = {"method": f"{request.method} {request.path}", "user": "", "format": "", "units": 0}
        try:
            reply = self._served(request, trail)
        except Problem as problem:
            reply = problem.reply()
        query = tuple(pair for pair in request.pairs if pair[0] != "alt")
        self.requests.append(Served(**trail, status=int(reply.status), query=query))  # type: ignore[arg-type]
        return reply

    def _served(self, request: Request, trail: dict[str, Any]) -> Reply:
        method = method_of(request.method, request.path)
        trail["method"] = method.id
        access, box = self._who(request, method)
        trail["user"] = box.address
        if "upload_id" not in request.query or request.body:
            trail["units"] = self.quota.spend(box.address, method.id)
        if method.upload:
            session = self._uploaded(request, method)
            if isinstance(session, Reply):
                return session
            body, media = session
        else:
            if len(request.body) > LARGEST_JSON:
                raise Problem(413, "uploadTooLarge", "Request Entity Too Large")
            body, media = _json(request.body), None
        query = check_query(method, request.pairs if not method.upload else ())
        check_body(method, body)
        trail["format"] = query.get(
            "format", ["full" if method.id in {"messages.get", "threads.get"} else ""]
        )[0]
        return self._carried_out(Call(self, method, access, box, query, body, media))

    def _carried_out(self, call: Call) -> Reply:
        act = METHODS.get(call.method.id)
        if act is None:
            self.violations.append(f"{call.method.id} is not simulated")
            raise Problem(501, "notImplemented", f"The sandbox does not simulate {call.method.id}.")
        found = act(call)
        if found is None:
            return Reply(204)
        faults = list(faults_in(found, call.method.response, ""))
        self.violations += [f"{call.method.id}: {fault}" for fault in faults]
        if faults:
            raise Problem(500, "backendError", "; ".join(faults))
        return Reply(200, selected(found, call.one("fields")))

    def _who(self, request: Request, method: Method) -> tuple[Access, Mailbox]:
        """Return whose mailbox it is, if the token may do this there. Raises Problem."""
        access = self.grants.access(request.bearer or request.query.get("access_token", ""))
        if access is None:
            words = (
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or"
                " other valid authentication credential."
                " See https://developers.google.com/identity/sign-in/web/devconsole-project."
            )
            raise Problem(
                401, "authError", words, headers={"WWW-Authenticate": f'{CHALLENGE}"invalid_token"'}
            )
        if not access.scopes & method.scopes:
            raise Problem(
                403,
                "insufficientPermissions",
                "Request had insufficient authentication scopes.",
                headers={"WWW-Authenticate": f'{CHALLENGE}"insufficient_scope"'},
                details=[
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                        "domain": "googleapis.com",
                        "metadata": {"service": "gmail.googleapis.com"},
                    }
                ],
            )
        user = access.user
        box = self.mailboxes.get(user.address) if user else None
        if user is None:
            raise _precondition("Precondition check failed.")
        if access.client_id in user.domain.blocked_clients:
            raise Problem(403, "domainPolicy", "The domain administrators have disabled Gmail apps.")
        if box is None or not user.has_gmail:
            raise _precondition("Mail service not enabled")
        if method.path["userId"].lower() not in {"me", user.address, user.sub}:
            raise Problem(403, "forbidden", f"Delegation denied for {user.address}")
        return access, box

    def _uploaded(self, request: Request, method: Method) -> tuple[dict[str, Any], bytes] | Reply:
        if "upload_id" in request.query:
            found = self.uploads.take(request, method.largest)
            return found if isinstance(found, Reply) else (found.body, found.data)
        if request.query.get("uploadType") == "resumable":
            return self.uploads.begin(request, self.url, method.largest)
        body, raw = uploads.opened(request)
        uploads.check_size(len(raw), method.largest)
        return body, raw


def _unfolded(request: Request) -> Request:
    """Long GETs come as POST, their query in the body."""
    real = request.headers.get("x-http-method-override")
    if not real:
        return request
    pairs = (*request.pairs, *parse_qsl(request.body.decode()))
    return replace(request, method=real, pairs=pairs, query=dict(pairs), body=b"")


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError as error:
        raise invalid("Invalid JSON payload received. Unexpected token.") from error
    if not isinstance(found, dict):
        raise invalid("Invalid JSON payload received. Root element must be a message.")
    return found


def _precondition(words: str) -> Problem:
    return Problem(400, "failedPrecondition", words, word="FAILED_PRECONDITION")
