"""The scan at the end of a run finds what is planted, however it is quoted, and says only where."""

import json
import secrets
from urllib.parse import quote

import pytest

from sandbox import secrets_given
from tests import scan


def planted(text, *others):
    return scan.leaks({text, *others}, [("here", f'{{"a": "before {text} after"}}'.encode())])


TOKEN = secrets.token_urlsafe(32)
JWT = f"eyJhbGciOiJSUzI1NiJ9.{secrets.token_urlsafe(300)}.{secrets.token_urlsafe(256)}"


@pytest.mark.fast
@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {TOKEN}.",
        f"https://x.example/?code={TOKEN}&state=1",
        quote(f"https://x.example/?code={TOKEN}&state=1", safe=""),
        json.dumps({"token": f"a line\n{TOKEN}"}),
        f"<a href='{TOKEN}'>",
        f"Authorization: Basic {TOKEN}==",
    ],
    ids=["as a bearer", "in an address", "in a quoted address", "in JSON", "in HTML", "in Basic"],
)
def test_a_planted_token_is_found_however_it_is_quoted(text):
    assert scan.leaks({TOKEN}, [("here", text.encode())]) == ["here"]


@pytest.mark.fast
def test_passwords_tokens_and_keys_are_all_found_and_nothing_else():
    assert planted("correct horse") == ["here"]
    assert planted(JWT) == ["here"]
    assert planted("ab+/cd==ef+/gh==ij") == ["here"]
    assert planted(f"{TOKEN}~secret", "another") == ["here"]
    assert scan.leaks({TOKEN, JWT, "correct horse"}, [("here", b"nothing of it " * 100)]) == []


def test_what_is_planted_in_the_parts_of_the_app_is_found(world, app):
    """One secret that the sandbox knows, in a table, a queue, a blob, a log line and an answer."""
    import logging

    from shared.model import Case
    from shared.storage.base import Remove, Save

    token = world.issuer.issue(org="org-scan", email="a@b.example")
    given = secrets_given.of(world)
    assert token in given
    assert {one for one in world.vault.secrets_seen if len(one) >= secrets_given.SHORTEST} <= given
    before = set(scan.leaks(given, scan.everywhere(world, scan.Lines())))
    lines = scan.Lines()
    logging.getLogger("azure").addHandler(lines)
    case = Case("C-scan", f"title {token}", ())
    app.records.commit("org-scan", Save(case))
    app.queues.put("scan", f"job {token}")
    app.blobs.put("org-scan", "scan", f"mail {token}".encode())
    logging.getLogger("azure").warning("request with %s", token)
    scan.ANSWERS.append(token.encode())
    try:
        found = set(scan.leaks({token}, scan.everywhere(world, lines))) - before
    finally:
        from azure.storage.queue import QueueServiceClient

        app.records.commit("org-scan", Remove(case))
        app.blobs.remove("org-scan", "scan")
        QueueServiceClient.from_connection_string(world.environment()["STORAGE"]).delete_queue("scan")
        scan.ANSWERS.pop()
        logging.getLogger("azure").removeHandler(lines)
        session = [h for h in logging.getLogger().handlers if isinstance(h, scan.Lines)]
        for handler in session:
            handler.kept = {line for line in handler.kept if token not in line}
    kinds = {place.split()[0] for place in found}
    assert kinds == {"table", "queue", "blob", "log", "answer"}
    assert not any(token in place for place in found)
