"""The small HTTP server that the simulators share."""

import socket
import time
from pathlib import Path

import pytest

from sandbox.ports import HOST
from sandbox.web import Reply, WebServer


class Echo(WebServer):
    def answer(self, request):
        return Reply(body=request.path)


@pytest.mark.fast
def test_a_server_that_nobody_asks_never_wakes_up():
    server = Echo()
    status = Path(f"/proc/self/task/{server._thread.native_id}/status")
    if not status.exists():
        pytest.skip("only Linux tells how often a thread has slept")
    time.sleep(0.2)  # by now it waits
    before = [line for line in status.read_text().splitlines() if "ctxt_switches" in line]
    time.sleep(0.8)
    assert [line for line in status.read_text().splitlines() if "ctxt_switches" in line] == before
    server.stop()


def test_a_stopped_server_is_gone_and_stopping_it_again_is_harmless(world):
    for tls in (None, world.authority.server_context()):
        server = Echo(0, tls)
        port = server._server.server_port
        server.stop()
        server.stop()
        assert not server._thread.is_alive()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port), timeout=1)
