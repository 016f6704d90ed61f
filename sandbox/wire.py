"""A proxy in front of the mail server that notes every line a client says, and can cut the wire.

It speaks TLS to the client, either at once or after STARTTLS (IMAP) or STLS (POP3), because only who
ends the TLS can read the lines.
"""

import asyncio
import itertools
import re
from dataclasses import dataclass
from typing import Self

from sandbox.background import Background
from sandbox.ca import Authority
from sandbox.ports import HOST

_CHUNK = 64 * 1024
_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n$")
_UPGRADE = re.compile(rb"(?:(\S+) STARTTLS|STLS)\r\n", re.IGNORECASE)


@dataclass
class Faults:
    """The switches of a wire; all are off.

    Attributes:
        refusing: close every new connection at once.
        hanging: pass nothing on in either direction, until it is off again.
        lines_left: close the connection instead of passing on the line after this many client lines.
        cut: pattern (searched, any case) of a line that ends the connection.
        cut_times: how many connections still end at it.
        cut_passes: whether the server still gets that command and carries it out; only its answer is lost.
    """

    refusing: bool = False
    hanging: bool = False
    lines_left: int | None = None
    cut: re.Pattern[str] | None = None
    cut_times: int = 0
    cut_passes: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a client said, without CRLF. A literal's bytes are not kept, only announced in the line."""

    connection: int
    text: str


@dataclass(slots=True)
class _Link:
    """One connection; `awaited` is the tag whose answer the client must not see."""

    number: int
    client: asyncio.StreamReader
    to_client: asyncio.StreamWriter
    server: asyncio.StreamReader
    to_server: asyncio.StreamWriter
    awaited: bytes | None = None


class Wire:
    """The proxy.

    Args:
        authority: whose certificate it shows.
        server_port: the server's port without TLS.
        starttls: whether the client begins in plain text and upgrades; else it must speak TLS at once.

    Attributes:
        port: where it listens.
        said: every line since the last `reset`, oldest first.
        connections: how many were opened since then.
        faults: see `Faults`.
    """

    def __init__(
        self, authority: Authority, server_port: int, *, port: int = 0, starttls: bool = False
    ) -> None:
        self.said: list[Line] = []
        self.connections = 0
        self.faults = Faults()
        self._tls, self._server_port, self._starttls = authority.server_context(), server_port, starttls
        self._numbers = itertools.count(1)
        self._writers: set[asyncio.StreamWriter] = set()
        self._background = Background()
        self._server = self._background.run(self._listen(port))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def lines(self, pattern: str = "") -> list[str]:
        """Return the lines since the last `reset` in which the pattern is found, in any case."""
        return [line.text for line in list(self.said) if re.search(pattern, line.text, re.IGNORECASE)]

    def reset(self) -> None:
        """Forget what was said."""
        self.said = []
        self.connections = 0

    def heal(self) -> None:
        """Switch every fault off."""
        self.faults = Faults()

    def close_after(self, lines: int) -> None:
        """Pass on this many more client lines, then close the connection and every later one."""
        self.faults.lines_left = lines

    def cut(self, pattern: str, *, times: int = 1, passed: bool) -> None:
        """Close the connection at the next line with the pattern.

        With `passed` the server carries the command out and only its answer is lost.
        """
        self.faults.cut, self.faults.cut_times = re.compile(pattern, re.IGNORECASE), times
        self.faults.cut_passes = passed

    def drop(self) -> None:
        """Close every open connection now."""
        self._background.run(self._drop())

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._background.run(self._end())
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _listen(self, port: int) -> asyncio.Server:
        tls = None if self._starttls else self._tls
        return await asyncio.start_server(self._serve, HOST, port, ssl=tls)

    async def _end(self) -> None:
        self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(to_client)
        try:
            if not self.faults.refusing:
                server, to_server = await asyncio.open_connection(HOST, self._server_port)
                self._writers.add(to_server)
                await self._pass(_Link(next(self._numbers), client, to_client, server, to_server))
                to_server.transport.abort()
                self._writers.discard(to_server)
        except OSError:
            pass  # one of the two went away, which ends the connection anyway
        finally:
            to_client.transport.abort()
            self._writers.discard(to_client)

    async def _pass(self, link: _Link) -> None:
        """Pass on in both directions until one of them ends."""
        tasks = [asyncio.create_task(self._to_server(link)), asyncio.create_task(self._to_client(link))]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()

    async def _to_server(self, link: _Link) -> None:
        encrypted = not self._starttls
        while line := await link.client.readline():
            self.said.append(Line(link.number, line.rstrip(b"\r\n").decode(errors="replace")))
            await self._gate()
            upgrade = None if encrypted else _UPGRADE.fullmatch(line)
            if upgrade:
                link.to_client.write(b"%b OK go\r\n" % upgrade[1] if upgrade[1] else b"+OK go\r\n")
                await link.to_client.start_tls(self._tls)
                encrypted = True
                continue
            if self._ends(link, line):
                return
            link.to_server.write(line)
            literal = _LITERAL.search(line)
            await self._literal(link, int(literal[1]) if literal else 0)

    def _ends(self, link: _Link, line: bytes) -> bool:
        """Whether a fault closes the connection instead of passing on the line."""
        faults = self.faults
        if faults.lines_left is not None:
            faults.lines_left -= 1
            if faults.lines_left < 0:
                return True
        if faults.cut and faults.cut_times > 0 and faults.cut.search(line.decode(errors="replace")):
            faults.cut_times -= 1
            link.awaited = line.partition(b" ")[0]
            return not faults.cut_passes
        return False

    async def _literal(self, link: _Link, octets: int) -> None:
        while octets > 0 and (chunk := await link.client.read(min(octets, _CHUNK))):
            octets -= len(chunk)
            link.to_server.write(chunk)
            await link.to_server.drain()

    async def _to_client(self, link: _Link) -> None:
        rest = b""
        while chunk := await link.server.read(_CHUNK):
            await self._gate()
            if link.awaited is None:
                link.to_client.write(chunk)
            else:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.startswith((link.awaited + b" ", b"+OK", b"-ERR")):
                        return
                    link.to_client.write(line + b"\n")
            await link.to_client.drain()

    async def _gate(self) -> None:
        while self.faults.hanging:  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(0.02)
