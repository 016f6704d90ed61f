"""Microsoft Graph's mail on the wire, v1.0: what a mail client needs, with the rules that no schema shows.

Mail it sends leaves by SMTP through the sandbox's MX, mail for its users comes in through `deliver`.
https://learn.microsoft.com/graph/api/resources/mail-api-overview
"""

import base64
import binascii
import email
import email.policy
import json
import re
import secrets
import smtplib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, Protocol, override
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import jwt

from sandbox.bounces import delivery_report
from sandbox.graph import odata
from sandbox.graph.mailbox import (
    Item,
    Mailbox,
    attach,
    attachment_json,
    attachments,
    from_json,
    recipients,
    to_json,
)
from sandbox.graph.subscriptions import Invalid, Notifier, Subscription
from sandbox.web import Reply, Request, WebServer

MOST = 4 * 1024 * 1024
"""Octets of a request."""

DEFAULT_PAGE, LARGEST_PAGE = 10, 1000
CONTENT = {"body", "bodyPreview", "uniqueBody"}
READ = {"Mail.Read", "Mail.ReadWrite"}
BASIC = READ | {"Mail.ReadBasic", "Mail.ReadBasic.All"}
WRITE = {"Mail.ReadWrite"}
SEND = {"Mail.Send"}


class Identities(Protocol):
    """What Graph asks Entra."""

    def access(self, bearer: str) -> Any: ...

    def find_user(self, tenant_id: str, key: str) -> Any: ...


class GraphError(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, words: str = "", **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.words = status, code, words or code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Faults:
    """What may go wrong at Graph; notifications have their own.

    Attributes:
        throttled: address -> how many of its next requests get 429.
        unavailable: likewise 503; with `retry_after` seconds, none where it is 0.
        lost_answers: so many of the next sends are carried out, and the connection then closed.
        expired_deltas: the next delta calls: 410 or the code of a 400.
        concurrency: so many requests of one mailbox at once are served.
    """

    rewrite_message_id: bool = False
    rewrite_date: bool = False
    drop_x_headers: bool = False
    late_sent_copy: bool = False
    silent_shared: bool = True
    forged: set[str] = field(default_factory=set)
    throttled: Counter[str] = field(default_factory=Counter)
    unavailable: Counter[str] = field(default_factory=Counter)
    retry_after: int = 1
    lost_answers: int = 0
    lost_before: int = 0
    expired_deltas: list[str] = field(default_factory=list)
    concurrency: int = 4


class Graph(WebServer):
    """One Graph.

    Attributes:
        base: the URL requests begin with.
        notifier: subscriptions, and the faults of notifications.
        requests: (method, path without ids, mailbox, names of query parameters) of every request.
        restricted: client id -> the only mailboxes its app-only tokens reach (RBAC for Applications).
        record: called with every request and reply, e.g. to validate them.
        sent: mails handed over, as they went out.
    """

    def __init__(
        self,
        identities: Identities,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        *,
        mx: tuple[str, int],
        ca: str,
    ) -> None:
        self.faults = Faults()
        self.notifier = Notifier(ca)
        self.requests: list[tuple[str, str, str, tuple[str, ...]]] = []
        self.restricted: dict[str, set[str]] = {}
        self.record: Callable[[Request, Reply], None] = lambda _request, _reply: None
        self.sent: list[bytes] = []
        self._identities = identities
        self._mx = mx
        self._mailboxes: dict[str, Mailbox] = {}
        self._uploads: dict[str, dict[str, Any]] = {}
        self._late: list[tuple[Mailbox, Item]] = []
        self._busy: Counter[str] = Counter()
        self._guard = threading.RLock()
        super().__init__(port, tls)
        self.base = f"{self.url}/v1.0"

    @override
    def stop(self) -> None:
        self.notifier.stop()
        super().stop()

    # The mail world's side

    def add_mailbox(self, address: str) -> Mailbox:
        """Give somebody a mailbox."""
        return self._mailboxes.setdefault(address.lower(), Mailbox(address.lower()))

    def mailbox(self, address: str) -> Mailbox:
        """Return somebody's mailbox. Raises KeyError."""
        return self._mailboxes[address.lower()]

    def knows(self, address: str) -> bool:
        """Whether mail to this address arrives, with or without a +detail."""
        return re.sub(r"\+[^@]*@", "@", address.lower()) in self._mailboxes

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:  # noqa: ARG002 - the post's call
        """Take a mail in, as Exchange Online does: with its verdict about the sender on top."""
        address = re.sub(r"\+[^@]*@", "@", recipient.lower())
        sender = email.message_from_bytes(raw)["From"] or ""
        domain = sender.rpartition("@")[2].strip("> ").lower()
        word = "fail" if domain in self.faults.forged else "pass"
        verdict = (
            f"Authentication-Results: spf={word} (sender IP is 127.0.0.1) smtp.mailfrom={domain};\r\n"
            f" dkim={word} (signature was verified) header.d={domain};dmarc={word} action=none\r\n"
            f" header.from={domain};compauth={word} reason=100\r\n"
        )
        trace = f"Received: from mail.sandbox.example by outlook.sandbox; {_now_822()}\r\n"
        self.arrive(address, verdict.encode() + trace.encode() + raw)

    def arrive(
        self,
        address: str,
        raw: bytes,
        folder: str = "inbox",
        at: datetime | None = None,
        *,
        sent: bool = False,
    ) -> Item:
        """Put a mail into a mailbox and tell whoever subscribed."""
        mailbox = self.mailbox(address)
        item = mailbox.add(raw, folder, at=at, sent=sent)
        self._tell(mailbox, item)
        return item

    def send_as_user(self, address: str, raw: bytes) -> Item:
        """The person sends from Outlook herself: it is delivered, and a copy lies in Sent Items."""
        message = email.message_from_bytes(raw, policy=email.policy.SMTP)
        self._transport(self.mailbox(address), raw, recipients(message))
        return self.arrive(address, raw, "sentitems", sent=True)

    def release_sent_copies(self) -> None:
        """Let the Sent copies appear that were late."""
        self.faults.late_sent_copy = False
        late, self._late = self._late, []
        for mailbox, item in late:
            mailbox.show(item)
            self._tell(mailbox, item)

    def _tell(self, mailbox: Mailbox, item: Item) -> None:
        folder = mailbox.folders[item.folder].well_known
        ids = {"id": item.id, "moving_id": item.moving_id}
        self.notifier.tell(mailbox.address, ids, folder=folder)

    # On the wire

    @override
    def answer(self, request: Request) -> Reply:
        if request.path.startswith("/upload/"):
            return self._upload(request)
        try:
            reply = self._served(request)
        except GraphError as error:
            reply = _problem(error)
        except odata.BadQuery as error:
            reply = _problem(GraphError(400, str(error)))
        self.record(request, reply)
        reply.headers.setdefault("request-id", secrets.token_hex(8))
        return reply

    def _served(self, request: Request) -> Reply:
        if len(request.body) > MOST:
            raise GraphError(413, "RequestEntityTooLarge", "The request entity is too large.")
        try:
            access = self._identities.access(request.bearer)
        except jwt.PyJWTError as error:
            challenge = 'Bearer realm="", error="invalid_token"'
            raise GraphError(
                401, "InvalidAuthenticationToken", "Access token is invalid.", WWW_Authenticate=challenge
            ) from error
        path = request.path.removeprefix("/v1.0").strip("/")
        if path == "$batch":
            return self._batch(request, access)
        return self._dispatch(request, access, path)

    def _dispatch(self, request: Request, access: Any, path: str) -> Reply:
        head, *rest = [unquote(part) for part in path.split("/")]
        if head == "subscriptions":
            return self._subscriptions(request, access, rest)
        if head == "me" and access.address:
            mailbox, own = self._mailboxes.get(access.address), True
        elif head == "users" and rest:
            user = self._identities.find_user(access.tenant_id, rest.pop(0))
            mailbox = self._mailboxes.get(user.address) if user else None
            own = bool(user and user.address == access.address)
        else:
            raise GraphError(400, "BadRequest", "Resource not found for the segment.")
        if mailbox is None:
            raise GraphError(404, "ErrorInvalidUser", "The requested user is invalid.")
        template = "/".join("{id}" if len(part) > 24 else part for part in rest)
        self.requests.append((request.method, template, mailbox.address, tuple(sorted(request.query))))
        self._admit(mailbox)
        try:
            return _Served(self, request, access, mailbox, own=own).answer(rest)
        finally:
            self._busy[mailbox.address] -= 1

    def _admit(self, mailbox: Mailbox) -> None:
        """Throttle before anything is done."""
        address, pause = mailbox.address, str(self.faults.retry_after)
        with self._guard:
            self._busy[address] += 1
            busy = self._busy[address] > self.faults.concurrency
            for counter, status, code in (
                (self.faults.throttled, 429, "ApplicationThrottled"),
                (self.faults.unavailable, 503, "ServiceUnavailable"),
            ):
                if counter[address] > 0:
                    counter[address] -= 1
                    self._busy[address] -= 1
                    raise GraphError(
                        status, code, **({"Retry_After": pause} if self.faults.retry_after else {})
                    )
            if busy:
                self._busy[address] -= 1
                raise GraphError(429, "ApplicationThrottled", "MailboxConcurrency limit.", Retry_After=pause)
        if not mailbox.enabled:
            self._busy[address] -= 1
            raise GraphError(404, "MailboxNotEnabledForRESTAPI", "The mailbox is inactive or on-premise.")

    def _batch(self, request: Request, access: Any) -> Reply:
        asked = request.json["requests"]
        if len(asked) > 20:
            raise GraphError(400, "BadRequest", "Number of batch request steps exceeds the maximum of 20.")
        answers = []
        for one in asked:
            url = urlsplit(one["url"])
            headers = {**request.headers, **{k.lower(): v for k, v in (one.get("headers") or {}).items()}}
            body = json.dumps(one["body"]).encode() if "body" in one else b""
            inner = Request(one["method"], url.path, dict(parse_qsl(url.query)), headers, body)
            try:
                reply = self._dispatch(inner, access, url.path.strip("/"))
            except GraphError as error:
                reply = _problem(error)
            except odata.BadQuery as error:
                reply = _problem(GraphError(400, str(error)))
            answers.append(
                {"id": one["id"], "status": int(reply.status), "headers": reply.headers, "body": reply.body}
            )
        return Reply(body={"responses": answers[::-1]})

    # Subscriptions

    def _subscriptions(self, request: Request, access: Any, rest: list[str]) -> Reply:
        self.requests.append((request.method, "subscriptions" + "/{id}" * bool(rest), "-", ()))
        mine = {s.id: s for s in self.notifier.subscriptions.values() if s.client_id == access.client_id}
        mine = {
            k: s for k, s in mine.items() if s.tenant_id == access.tenant_id and s.until > datetime.now(UTC)
        }
        if not rest:
            if request.method == "POST":
                return self._subscribe(request, access)
            seen = [s for s in mine.values() if access.app_only or s.address == access.address]
            return Reply(body={"value": [one.shown() for one in seen]})
        found = mine.get(rest[0])
        if found is None:
            raise GraphError(404, "ResourceNotFound", "The object was not found.")
        if self.faults.throttled[found.address] > 0:
            self.faults.throttled[found.address] -= 1
            raise GraphError(429, "TooManyRequests", Retry_After=str(self.faults.retry_after))
        if request.method == "DELETE":
            del self.notifier.subscriptions[found.id]
            return Reply(204)
        if rest[1:] == ["reauthorize"]:
            found.reauthorized += 1
            return Reply(204)
        if request.method == "PATCH":
            self._valid(lambda: self.notifier.prolong(found, request.json["expirationDateTime"]))
        return Reply(body=found.shown())

    def _subscribe(self, request: Request, access: Any) -> Reply:
        body = request.json
        _allow(access, BASIC, own=True)
        match = re.fullmatch(
            r"/?(?:(me)|users/([^/]+))/(?:mailFolders[^/]*/[^/]*/?)?messages.*", body["resource"]
        )
        user = self._identities.find_user(
            access.tenant_id, access.address if match and match[1] else unquote(match[2]) if match else ""
        )
        if user is None or user.address not in self._mailboxes:
            raise GraphError(400, "ExtensionError", "The resource is not valid.")
        foreign = not access.app_only and user.address != access.address
        if foreign and not self.faults.silent_shared:
            raise GraphError(403, "ExtensionError", "Access to other mailboxes is not supported.")
        self._limits(access, user.address)
        known = {
            "address": user.address,
            "tenant_id": access.tenant_id,
            "client_id": access.client_id,
            "immutable": _immutable(request),
            "silent": foreign,
        }
        made = self._valid(lambda: self.notifier.create(body, **known))
        return Reply(201, made.shown(secret=True))

    @staticmethod
    def _valid[T](act: Callable[[], T]) -> T:
        try:
            return act()
        except (Invalid, KeyError, ValueError) as error:
            raise GraphError(400, "ValidationError", str(error)) from error

    def _limits(self, access: Any, address: str) -> None:
        allowed = self.restricted.get(access.client_id)
        if access.app_only and allowed is not None and address not in allowed:
            raise GraphError(403, "ErrorAccessDenied", "Access to OData is disabled.")

    # Sending

    def _submit(self, mailbox: Mailbox, raw: bytes) -> Item:
        """Exchange takes a mail: it may change headers, files the copy, and hands the mail over."""
        message = email.message_from_bytes(raw, policy=email.policy.SMTP)
        to = recipients(message)
        if not to:
            raise GraphError(400, "ErrorInvalidRecipients", "At least one recipient isn't valid.")
        changed = self._changed(raw)
        item = mailbox.add(changed, "sentitems", sent=True, visible=not self.faults.late_sent_copy)
        if self.faults.late_sent_copy:
            self._late.append((mailbox, item))
        else:
            self._tell(mailbox, item)
        self._transport(mailbox, _without(changed, {"bcc"}), to)
        return item

    def _changed(self, raw: bytes) -> bytes:
        head, _, body = raw.partition(b"\r\n\r\n")
        if self.faults.rewrite_message_id:
            final = f"Message-ID: <{secrets.token_hex(16)}@AM0PR01.eurprd01.prod.outlook.com>".encode()
            head = re.sub(rb"(?im)^message-id:[^\r]*(?:\r\n[ \t][^\r]*)*", final, head)
        if self.faults.rewrite_date:
            head = re.sub(rb"(?im)^date:[^\r]*", f"Date: {_now_822()}".encode(), head)
        if self.faults.drop_x_headers:
            head = re.sub(rb"(?im)^x-[^:]*:[^\r]*(?:\r\n[ \t][^\r]*)*\r\n", b"", head + b"\r\n").rstrip()
        return head + b"\r\n\r\n" + body

    def _transport(self, mailbox: Mailbox, raw: bytes, to: list[str]) -> None:
        self.sent.append(raw)
        with smtplib.SMTP(*self._mx, timeout=20) as smtp:
            try:
                refused = smtp.sendmail(mailbox.address, to, raw)
            except smtplib.SMTPRecipientsRefused as error:
                refused = error.recipients
        for address in refused:
            self.arrive(mailbox.address, delivery_report(mailbox.address, address, raw))

    def _upload(self, request: Request) -> Reply:
        """Take a piece of a large attachment; the URL itself is the permission."""
        if "authorization" in request.headers:
            return Reply(401, {"error": {"code": "Unauthorized", "message": "Send no Authorization header."}})
        session = self._uploads.get(request.path.rpartition("/")[2])
        if session is None:
            return Reply(404)
        place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("content-range", ""))
        if not place or int(place[1]) != len(session["data"]) or len(request.body) > MOST:
            return Reply(416, {"error": {"code": "InvalidRange", "message": "Not the expected range."}})
        session["data"] += request.body
        if len(session["data"]) < session["size"]:
            return Reply(200, {"nextExpectedRanges": [f"{len(session['data'])}-"]})
        session["done"](session["data"])
        return Reply(201, None, {"Location": f"{self.base}/attachments/done"})

    def open_upload(self, size: int, done: Callable[[bytes], None]) -> str:
        """Begin an upload; returns its pre-authenticated URL."""
        key = secrets.token_urlsafe(24)
        self._uploads[key] = {"data": b"", "size": size, "done": done}
        return f"{self.url}/upload/{key}"


@dataclass
class _Served:
    """One request of a mailbox."""

    graph: Graph
    request: Request
    access: Any
    mailbox: Mailbox
    own: bool

    def answer(self, rest: list[str]) -> Reply:  # noqa: C901, PLR0911, PLR0912 - a routing table
        self.graph._limits(self.access, self.mailbox.address)  # noqa: SLF001 - its own part
        if not (self.own or self.access.app_only or self._rights()):
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        match [self.request.method, *rest]:
            case ["GET"]:
                return Reply(body=self._user())
            case ["GET", "mailFolders"]:
                return self._folders("")
            case ["GET", "mailFolders", key]:
                self._allow(BASIC)
                return Reply(body=self._folder(key))
            case ["GET", "mailFolders", key, "childFolders"]:
                return self._folders(self._folder(key)["id"])
            case ["GET", "mailFolders", key, "messages"]:
                return self._messages(self._folder(key)["id"])
            case ["GET", "mailFolders", key, "messages", "delta"]:
                return self._delta(self._folder(key)["id"])
            case ["GET", "messages"]:
                return self._messages(None)
            case ["POST", "messages"] | ["POST", "mailFolders", _, "messages"]:
                return self._draft()
            case ["POST", "sendMail"]:
                return self._send_mail()
            case [method, "messages", id_, *tail]:
                return self._message(method, self._item(id_), tail)
        raise GraphError(400, "BadRequest", "Resource not found for the segment.")

    def _rights(self) -> set[str]:
        return self.mailbox.access.get(self.access.address or "", set())

    def _allow(self, scopes: set[str]) -> None:
        _allow(self.access, scopes, own=self.own)

    def _user(self) -> dict[str, Any]:
        address = self.mailbox.address
        return {"id": address, "displayName": address, "mail": address, "userPrincipalName": address}

    def _item(self, id_: str) -> Item:
        found = self.mailbox.find(id_)
        if found is None:
            raise GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        return found

    def _folder(self, key: str) -> dict[str, Any]:
        found = self.mailbox.folders.get(key) or next(
            (f for f in self.mailbox.folders.values() if f.well_known == key.lower()), None
        )
        if found is None:
            raise GraphError(404, "ErrorItemNotFound", "The specified folder could not be found.")
        children = [f for f in self.mailbox.folders.values() if f.parent == found.id]
        items = self.mailbox.listed(found.id)
        return {
            "id": found.id,
            "displayName": found.name,
            "parentFolderId": found.parent or "root",
            "childFolderCount": len(children),
            "unreadItemCount": 0,
            "totalItemCount": len(items),
            "isHidden": False,
        }

    def _folders(self, parent: str) -> Reply:
        self._allow(BASIC)
        shown = [self._folder(f.id) for f in self.mailbox.folders.values() if f.parent == parent]
        return self._page(shown, lambda one: one)

    # Listing

    def _messages(self, folder: str | None) -> Reply:
        self._allow(BASIC)
        query = self.request.query
        if "$search" in query and ("$filter" in query or "$orderby" in query):
            raise GraphError(400, "SearchWithFilter", "The query parameter is not supported with $search.")
        items: list[Mapping[str, Any]] = [self._shown(item) for item in self.mailbox.listed(folder)]
        if "$filter" in query:
            items = [one for one in items if odata.predicate(query["$filter"])(one)]
        if "$search" in query:
            items = [one for one in items if _matches(one, query["$search"])]
        items.sort(key=lambda one: (one["receivedDateTime"], one["_item"].arrived), reverse=True)
        if "$orderby" in query:
            items.sort(key=lambda one: one["_item"].arrived)
            items = odata.order(query["$orderby"], query.get("$filter", ""))(items)
        return self._page(items, self._selected)

    def _delta(self, folder: str) -> Reply:
        self._allow(BASIC)
        if self.graph.faults.expired_deltas:
            code = self.graph.faults.expired_deltas.pop(0)
            raise GraphError(410 if code == "410" else 400, "syncStateNotFound" if code == "410" else code)
        query = self.request.query
        token = _unpacked(query.get("$deltatoken")) if "$deltatoken" in query else None
        options = token["options"] if token else {k: v for k, v in query.items() if not k.endswith("token")}
        wanted = odata.predicate(options["$filter"]) if "$filter" in options else lambda _: True
        since, seen = token["since"] if token else 0, dict[str, dict[str, Any]]()
        changes = [c for c in self.mailbox.changes if c.folder == folder and c.number > since]
        for change in changes:
            item = self.mailbox.items.get(change.item)
            seen.pop(change.item, None)
            if change.kind == "removed" or item is None or item.folder != folder:
                if token:
                    seen[change.item] = {"id": change.item, "@removed": {"reason": "deleted"}}
            elif wanted(self._shown(item)):
                seen[change.item] = self._selected(self._shown(item), options)
        latest = max((c.number for c in self.mailbox.changes), default=0)
        link = _packed({"since": max(latest, since), "options": options})
        name = f"{self.graph.url}{self.request.path}"
        if not name.startswith(self.graph.base):
            name = f"{self.graph.base}{self.request.path}"
        return Reply(body={"value": list(seen.values()), "@odata.deltaLink": f"{name}?$deltatoken={link}"})

    def _page(self, items: list[Any], show: Callable[[Any], Any]) -> Reply:
        query = self.request.query
        top = int(query.get("$top", DEFAULT_PAGE))
        if not 1 <= top <= LARGEST_PAGE:
            raise GraphError(400, "ErrorInvalidUrlQuery", "$top must be between 1 and 1000.")
        start = (
            int(query.get("$skip", 0))
            if "$skiptoken" not in query
            else _unpacked(query["$skiptoken"])["skip"]
        )
        body: dict[str, Any] = {"value": [show(one) for one in items[start : start + top]]}
        if query.get("$count") == "true":
            body["@odata.count"] = len(items)
        if start + top < len(items):
            rest = {k: v for k, v in query.items() if k not in {"$skiptoken", "$skip"}}
            rest["$skiptoken"] = _packed({"skip": start + top})
            path = self.request.path.removeprefix("/v1.0")
            link = "&".join(f"{quote(k, safe='$')}={quote(v)}" for k, v in rest.items())
            body["@odata.nextLink"] = f"{self.graph.base}{path}?{link}"
        return Reply(body=body)

    def _shown(self, item: Item) -> dict[str, Any]:
        return to_json(self.mailbox, item, immutable=_immutable(self.request))

    def _selected(self, shown: Mapping[str, Any], query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Apply $select and $expand; without Mail.Read nothing of the content is shown."""
        query = self.request.query if query is None else query
        names = query.get("$select", "").split(",") if query.get("$select") else []
        hidden = {"_extended", "_item", "uniqueBody", "internetMessageHeaders"} - {*names}
        found = {k: v for k, v in shown.items() if (k in names if names else True) and k not in hidden}
        found |= {"id": shown["id"], "@odata.etag": shown["@odata.etag"]}
        if not _may(self.access, READ, own=self.own):
            found = {k: v for k, v in found.items() if k not in CONTENT}
        if CONTENT & {*found}:
            self.mailbox.bodies_read[shown["_item"].id] += 1
        expand = unquote(query.get("$expand", ""))
        if "singleValueExtendedProperties" in expand:
            self._allow(READ)
            ids = re.findall(r"id eq '([^']+)'", expand)
            values = [{"id": i, "value": shown["_extended"].get(i.lower(), "")} for i in ids]
            values = [one for one in values if one["value"]]
            if values:
                found["singleValueExtendedProperties"] = values
        return {k: v for k, v in found.items() if v is not None}

    # One message

    def _message(  # noqa: C901, PLR0911, PLR0912 - a routing table
        self, method: str, item: Item, tail: list[str]
    ) -> Reply:
        match [method, *tail]:
            case ["GET"]:
                self._allow(BASIC)
                return Reply(body=self._selected(self._shown(item)))
            case ["GET", "$value"]:
                self._allow(READ)
                self.mailbox.bodies_read[item.id] += 1
                return Reply(200, item.raw, {"Content-Type": "text/plain"})
            case ["GET", "attachments", *which]:
                return self._attachments(item, which)
            case ["POST", "attachments"]:
                return self._attach(item)
            case ["POST", "attachments", "createUploadSession"]:
                return self._create_upload(item)
            case ["POST", "send"]:
                return self._send_draft(item)
            case ["POST", "reply" | "replyAll" | "forward" as how]:
                return self._reply(item, how)
            case ["POST", "createReply" | "createReplyAll" | "createForward" as how]:
                self._allow(WRITE)
                body = self.request.json if self.request.body else {}
                answer = self._answered(item, how.removeprefix("create"), body)
                draft = self.mailbox.add(answer.as_bytes(), "drafts", draft=True)
                return Reply(201, self._selected(self._shown(draft), {}))
            case ["PATCH"]:
                return self._patch(item)
            case ["DELETE"]:
                self._allow(WRITE)
                self.mailbox.remove(item)
                return Reply(204)
            case ["POST", "move"]:
                self._allow(WRITE)
                self.mailbox.move(item, self._folder(self.request.json["destinationId"])["id"])
                return Reply(201, self._selected(self._shown(item), {}))
        raise GraphError(400, "BadRequest", "Resource not found for the segment.")

    def _attachments(self, item: Item, which: list[str]) -> Reply:
        self._allow(READ)
        found = [attachment_json(part, n) for n, part in enumerate(attachments(item.message))]
        names = self.request.query.get("$select", "").split(",")
        expanded = "itemattachment/item" in self.request.query.get("$expand", "").lower()
        if not which:
            if "contentBytes" in names or names == [""]:
                self.mailbox.bodies_read[item.id] += 1
            return Reply(body={"value": [_attachment(one, names, expanded=expanded) for one in found]})
        one = next((one for one in found if one["id"] == which[0]), None)
        if one is None:
            raise GraphError(404, "ErrorItemNotFound", "The attachment was not found.")
        self.mailbox.bodies_read[item.id] += 1
        if which[1:] == ["$value"]:
            return Reply(200, one["_content"], {"Content-Type": one["contentType"]})
        return Reply(body=_attachment(one, names, expanded=expanded))

    # Writing and sending

    def _draft(self) -> Reply:
        self._allow(WRITE)
        if self.request.headers.get("content-type", "").startswith("text/plain"):
            raw = self._mime()
        else:
            _check_headers(self.request.json)
            raw = from_json(self.mailbox.address, self.request.json).as_bytes()
        draft = self.mailbox.add(raw, "drafts", draft=True)
        draft.extended |= _properties(self.request)
        return Reply(201, self._selected(self._shown(draft), {}))

    def _patch(self, item: Item) -> Reply:
        self._allow(WRITE)
        if not item.draft:
            raise GraphError(400, "ErrorInvalidPropertySet", "Only drafts can be changed.")
        message = item.message
        body = self.request.json
        if "subject" in body:
            del message["Subject"]
            message["Subject"] = body["subject"]
        if "internetMessageId" in body:
            del message["Message-ID"]
            message["Message-ID"] = body["internetMessageId"]
        if "toRecipients" in body:
            del message["To"]
            message["To"] = ", ".join(one["emailAddress"]["address"] for one in body["toRecipients"])
        if "body" in body:
            html = str(body["body"].get("contentType", "")).lower() == "html"
            message.set_content(body["body"]["content"], subtype="html" if html else "plain")
        item.raw = message.as_bytes(policy=email.policy.SMTP)
        return Reply(body=self._selected(self._shown(item), {}))

    def _attach(self, item: Item) -> Reply:
        self._allow(WRITE)
        body = self.request.json
        self._grow(item, body)
        shown = {k: v for k, v in body.items() if k != "contentBytes"}
        return Reply(201, {**shown, "id": f"ATT{len(attachments(item.message)) - 1}="})

    def _grow(self, item: Item, shown: Mapping[str, Any]) -> None:
        message = email.message_from_bytes(item.raw, policy=email.policy.SMTP)
        attach(message, shown)
        item.raw = message.as_bytes()

    def _create_upload(self, item: Item) -> Reply:
        self._allow(WRITE)
        asked = self.request.json["AttachmentItem"]
        if asked["size"] < 3 * 1024 * 1024:
            raise GraphError(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize")

        def done(data: bytes) -> None:
            content = base64.b64encode(data).decode()
            self._grow(
                item,
                {"name": asked["name"], "contentBytes": content, "contentType": "application/octet-stream"},
            )

        url = self.graph.open_upload(asked["size"], done)
        return Reply(
            201,
            {"uploadUrl": url, "expirationDateTime": "2099-01-01T00:00:00Z", "nextExpectedRanges": ["0-"]},
        )

    def _send_mail(self) -> Reply:
        self._allow(SEND)
        self._may_send_as()
        if self.request.headers.get("content-type", "").startswith("text/plain"):
            raw = self._mime()
        else:
            body = self.request.json["message"]
            _check_headers(body)
            raw = from_json(self.mailbox.address, body).as_bytes()
        return self._sent(raw)

    def _send_draft(self, item: Item) -> Reply:
        self._allow(SEND)
        self._may_send_as()
        if not item.draft:
            raise GraphError(400, "ErrorInvalidOperation", "The message is not a draft.")
        return self._sent(item.raw, item)

    def _sent(self, raw: bytes, draft: Item | None = None) -> Reply:
        graph = self.graph
        if graph.faults.lost_before > 0:
            graph.faults.lost_before -= 1
            raise ConnectionAbortedError
        copy = graph._submit(self.mailbox, raw)  # noqa: SLF001 - its own part
        copy.extended |= _properties(self.request)
        if draft:
            del self.mailbox.items[draft.id], self.mailbox.items[copy.id]
            self.mailbox.changes = [c for c in self.mailbox.changes if c.item != copy.id]
            copy.id = draft.id  # an immutable id outlives the sending
            self.mailbox.items[copy.id] = copy
            if copy.visible:
                self.mailbox.show(copy)
        if graph.faults.lost_answers > 0:
            graph.faults.lost_answers -= 1
            raise ConnectionAbortedError
        return Reply(202)

    def _reply(self, item: Item, how: str) -> Reply:
        self._allow(SEND)
        body = self.request.json if self.request.body else {}
        if body.get("comment") and (body.get("message") or {}).get("body"):
            raise GraphError(400, "ErrorInvalidRequest", "Specify either comment or the message's body.")
        return self._sent(self._answered(item, how, body).as_bytes())

    def _answered(self, item: Item, how: str, body: Mapping[str, Any]) -> EmailMessage:
        """Compose an answer as Exchange does: with threading headers and Reply-To honoured."""
        old, asked = item.message, dict(body.get("message") or {})
        shown = self._shown(item)
        subject = str(old.get("Subject", ""))
        prefix = "FW: " if "orward" in how else "RE: "
        asked.setdefault("subject", subject if subject.upper().startswith(prefix) else prefix + subject)
        asked.setdefault("body", {"contentType": "text", "content": body.get("comment", "")})
        if "orward" in how:
            asked["toRecipients"] = body.get("toRecipients", [])
        else:
            asked.setdefault("toRecipients", shown["replyTo"] or [shown["from"]])
            if how.endswith("All"):
                asked.setdefault("ccRecipients", shown["ccRecipients"])
        message = from_json(self.mailbox.address, asked)
        parent = str(old.get("Message-ID", ""))
        message["In-Reply-To"] = parent
        message["References"] = " ".join([*str(old.get("References", "")).split(), parent])
        return message

    def _may_send_as(self) -> None:
        if not (self.own or self.access.app_only or {"send_as", "send_on_behalf"} & self._rights()):
            raise GraphError(
                403, "ErrorSendAsDenied", "The user account does not have the right to send as this."
            )

    def _mime(self) -> bytes:
        try:
            raw = base64.b64decode(self.request.body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise GraphError(400, "ErrorMimeContentInvalidBase64String") from error
        return re.sub(rb"\r\n|\r|\n", b"\r\n", raw)


def _may(access: Any, scopes: set[str], *, own: bool) -> bool:
    held = {one.removesuffix(".All") for one in access.permissions} if access.app_only else access.permissions
    if own or access.app_only:
        return bool(scopes & held)
    return bool({f"{one}.Shared" for one in scopes} & held)


def _allow(access: Any, scopes: set[str], *, own: bool) -> None:
    if not _may(access, scopes, own=own):
        raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")


def _immutable(request: Request) -> bool:
    return 'idtype="immutableid"' in request.headers.get("prefer", "").lower()


def _check_headers(body: Mapping[str, Any]) -> None:
    headers = body.get("internetMessageHeaders") or ()
    if len(headers) > 5:
        raise GraphError(400, "InvalidInternetMessageHeaderCollection", "Maximum number of headers is 5.")
    if not all(one["name"].lower().startswith("x-") for one in headers):
        raise GraphError(400, "InvalidInternetMessageHeader", "Header names should start with 'x-'.")


def _properties(request: Request) -> dict[str, str]:
    if not request.headers.get("content-type", "").startswith("application/json") or not request.body:
        return {}
    body = request.json.get("message", request.json)
    return {one["id"].lower(): one["value"] for one in body.get("singleValueExtendedProperties") or ()}


def _attachment(shown: Mapping[str, Any], names: list[str], *, expanded: bool) -> dict[str, Any]:
    found = {k: v for k, v in shown.items() if k != "_content" and (k != "item" or expanded)}
    if names != [""]:
        found = {k: v for k, v in found.items() if k in {*names, "@odata.type", "id", "item"}}
    return {k: v for k, v in found.items() if v is not None}


def _matches(shown: Mapping[str, Any], search: str) -> bool:
    """KQL, as far as it goes: words, and from: to: subject: hasAttachments: joined by AND."""
    text = " ".join((shown["subject"], shown["bodyPreview"], str(shown["from"]))).lower()
    for term in search.strip('"').split(" AND "):
        name, colon, value = term.strip().partition(":")
        fields = {"from": str(shown["from"]), "to": str(shown["toRecipients"]), "subject": shown["subject"]}
        if colon and name == "hasAttachments":
            if str(shown["hasAttachments"]).lower() != value.lower():
                return False
        elif (
            value.lower() not in fields[name].lower()
            if colon and name in fields
            else term.strip().lower() not in text
        ):
            return False
    return True


def _without(raw: bytes, names: set[str]) -> bytes:
    head, _, body = raw.partition(b"\r\n\r\n")
    for name in names:
        head = re.sub(
            rb"(?im)^" + name.encode() + rb":[^\r]*(?:\r\n[ \t][^\r]*)*\r\n", b"", head + b"\r\n"
        ).rstrip()
    return head + b"\r\n\r\n" + body


def _problem(error: GraphError) -> Reply:
    inner = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "request-id": secrets.token_hex(8),
        "client-request-id": secrets.token_hex(8),
    }
    body = {"error": {"code": error.code, "message": error.words, "innerError": inner}}
    return Reply(error.status, body, error.headers)


def _packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _unpacked(text: str | None) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(text or ""))
    except (ValueError, binascii.Error) as error:
        raise GraphError(400, "syncStateInvalid") from error


def _now_822() -> str:
    return datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


__all__ = ["Faults", "Graph", "Mailbox", "Subscription"]
