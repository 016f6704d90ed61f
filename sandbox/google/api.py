"""Gmail v1 on the wire: every request and every answer is checked against the discovery document."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from sandbox.google import reading, sending, uploads
from sandbox.google.batch import answer as answer_batch
from sandbox.google.call import Call, Served
from sandbox.google.discovery import (
    Method,
    check_body,
    check_mask,
    check_query,
    faults_in,
    method_of,
    selected,
)
from sandbox.google.gmail import Gmail
from sandbox.google.grants import Access
from sandbox.google.mailbox import Mailbox
from sandbox.google.problems import Problem, insufficient, invalid, precondition, unauthenticated
from sandbox.web import Reply, Request

LARGEST_JSON = 5 * 1024 * 1024
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
FULL_BY_DEFAULT = {"messages.get", "threads.get", "drafts.get"}


@dataclass
class Api:
    """The API.

    Attributes:
        requests: every call, served or refused.
        violations: what broke the discovery document: requests (they were refused), and the simulator's own
            answers; also methods that are not simulated.
    """

    gmail: Gmail
    requests: list[Served] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> Reply:
        """Answer a request; several of them where it is a batch."""
        try:
            if request.path in {"/batch", "/batch/gmail/v1"}:
                return answer_batch(request, self._one)
            return self._one(request)
        except Problem as problem:
            return problem.reply()

    def _one(self, request: Request) -> Reply:
        """Answer one call, and write it down."""
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
        method = self._checked(lambda: method_of(self.gmail.uploads.verb(request), request.path))
        trail["method"] = method.id
        access, box = self._who(request, method)
        trail["user"] = box.address
        pairs = [pair for pair in request.pairs if pair[0] != "upload_id"]
        query = self._checked(lambda: check_query(method, pairs))
        trail["format"] = query.get("format", ["full" if method.id in FULL_BY_DEFAULT else ""])[0]
        if not uploads.is_piece(request):
            trail["units"] = self.gmail.quota.spend(box.address, method.id)
        body, media = _content(request), None
        if method.upload:
            taken = self._uploaded(request, method)
            if isinstance(taken, Reply):
                return taken
            body, media = taken
        self._checked(lambda: check_body(method, body))
        self._checked(lambda: check_mask(query.get("fields", [""])[0], method.response))
        return self._carried_out(Call(self.gmail, method, access, box, query, body, media))

    def _carried_out(self, call: Call) -> Reply:
        act = METHODS.get(call.method.id)
        if act is None:
            self.violations.append(f"{call.method.id} is not simulated")
            raise Problem(501, "notImplemented", f"The sandbox does not simulate {call.method.id}.")
        found = act(call)
        if found is None:
            return Reply(204)
        faults = [f"{call.method.id}: {fault}" for fault in faults_in(found, call.method.response, "")]
        self.violations += faults
        if faults:
            raise Problem(500, "backendError", "; ".join(faults))
        return Reply(
            200, selected(found, call.one("fields")), {"Content-Type": "application/json; charset=UTF-8"}
        )

    def _checked[T](self, check: Callable[[], T]) -> T:
        """Return what the check returns; what it refuses is a violation, too."""
        try:
            return check()
        except Problem as problem:
            self.violations.append(problem.words)
            raise

    def _who(self, request: Request, method: Method) -> tuple[Access, Mailbox]:
        """Return whose mailbox it is, if the token may do this there. Raises Problem."""
        access = self.gmail.accounts.grants.access(request.bearer)
        if access is None:
            raise unauthenticated()
        if not access.scopes & method.scopes:
            raise insufficient(method.id)
        user = access.user
        if user is None:
            raise precondition("Precondition check failed.")
        if access.client_id in user.domain.blocked_clients:
            raise Problem(403, "domainPolicy", "The domain administrators have disabled Gmail apps.")
        box = self.gmail.mailboxes.get(user.address)
        if box is None or not user.has_gmail:
            raise precondition("Mail service not enabled")
        if method.path["userId"].lower() not in {"me", user.address, user.sub}:
            raise Problem(403, "forbidden", f"Delegation denied for {user.address}")
        return access, box

    def _uploaded(self, request: Request, method: Method) -> tuple[dict[str, Any], bytes] | Reply:
        if "upload_id" in request.query:
            found = self.gmail.uploads.take(request, method.largest)
            return found if isinstance(found, Reply) else (found.body, found.data)
        if request.query.get("uploadType") == "resumable":
            return self.gmail.uploads.begin(request, self.gmail.accounts.url, method.largest)
        body, raw = uploads.opened(request)
        uploads.check_size(len(raw), method.largest)
        return body, raw


def _unfolded(request: Request) -> Request:
    """Return the GET that came as POST, its query in the body, because it is long."""
    real = request.headers.get("x-http-method-override")
    if not real:
        return request
    pairs = (*request.pairs, *parse_qsl(request.body.decode()))
    return replace(request, method=real, pairs=pairs, query=dict(pairs), body=b"")


def _content(request: Request) -> dict[str, Any]:
    """Return the JSON of a plain call. Raises Problem."""
    if request.path.startswith(("/upload/", "/resumable/")):
        return {}
    if len(request.body) > LARGEST_JSON:
        raise Problem(413, "uploadTooLarge", "Request Entity Too Large")
    try:
        found = json.loads(request.body or b"{}")
    except ValueError as error:
        raise invalid("Invalid JSON payload received. Unexpected token.") from error
    if not isinstance(found, dict):
        raise invalid("Invalid JSON payload received. Root element must be a message.")
    return found
