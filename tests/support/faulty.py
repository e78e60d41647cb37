"""A server that does what it is told, right or wrong, as a process of its own: `python -m tests.support.faulty`.

It prints its port, takes one command a line (JSON) on its standard input, answers each with one line,
and ends with its standard input. `Faulty` is the handle on such a process.

["play", [turn, turn, ...], how]
    What connections do from now on: each plays the first turn when it is accepted, the next one
    behind it, and GOOD behind the last. What is open is closed first, and the answer waits until it
    is gone.
    `how` is how it listens: "accept", "refuse" (the port is bound, and nobody listens) or "blackhole"
    (nobody accepts and the backlog is full, so Linux leaves every further SYN unanswered).
["go"]      lets what stands at its WAIT go on; the answer comes when that turn has ended or
            its FIN is sent.
["report"]  what was seen since `play`; see `Report`.

A turn is a list of steps; the constants and functions below are all there are. Bytes may hold
`{token}`, the last part of the target that was asked for.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, repeat
from typing import Any, Self

from tests.support.processes import ROOT

Step = tuple[str, ...]
Turn = Sequence[Step]

PART: Step = ("part",)
"""Read ten bytes of the request, and leave the rest in the kernel."""
HEAD: Step = ("head",)
"""Read the request's head."""
SOME: Step = ("some",)
"""Read the head and the first bytes of the body."""
READ: Step = ("read",)
"""Read the whole request."""
ANSWER: Step = ("answer",)
"""200 with `TOKEN\\n`, and a length: the good answer."""
FIN: Step = ("fin",)
"""Send no more, read what comes to its end, and close."""
RST: Step = ("rst",)
"""Reset the connection."""
CLOSE: Step = ("close",)
"""Close as a process that dies does: the kernel sends FIN, or RST when something was left unread."""
HANG: Step = ("hang",)
"""Read to the end, and say nothing."""
STALL: Step = ("stall",)
"""Read nothing more, and say nothing."""
WAIT: Step = ("wait",)
"""Until "go"."""


def send(data: bytes) -> Step:
    """All of it at once."""
    return ("send", data.decode("latin-1"))


def dribble(data: bytes, pause: float) -> Step:
    """Byte by byte, with so many seconds before each."""
    return ("dribble", data.decode("latin-1"), str(pause))


def endless(data: bytes, pause: float = 0.0) -> Step:
    """Again and again, with so many seconds between."""
    return ("endless", data.decode("latin-1"), str(pause))


def pause(seconds: float) -> Step:
    """Do nothing."""
    return ("pause", str(seconds))


GOOD: Turn = (READ, ANSWER)
"""What a server should do."""


@dataclass
class Report:
    """What a server has seen since it was told what to play."""

    accepted: int
    """Connections."""
    open: int
    """How many of them the other side has not ended."""
    requests: list[Request]
    """In the order in which they began."""

    @property
    def tokens(self) -> list[str]:
        """Those of all requests of which anything has come."""
        return [request.token for request in self.requests]


@dataclass
class Request:
    """A request of which at least one byte has come. `whole` once its body was read to the end."""

    connection: int
    """Counted from 1."""
    method: str = ""
    token: str = ""
    body: str = ""
    """Itself, or `BYTES SHA256` if it is longer than 100 bytes."""
    whole: bool = False


# -- the test's side -----------------------------------------------------------------------------


class Faulty:
    """The handle on a process. It plays GOOD at first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def line(self) -> str:
        """Its line of lb.ini."""
        return f"server {self.name} = 127.0.0.1:{self.port}"

    def play(self, *turns: Turn, how: str = "accept") -> None:
        """See the module."""
        self._command("play", turns, how)

    def go(self) -> None:
        """See the module."""
        self._command("go")

    def report(self) -> Report:
        """What it has seen."""
        seen = self._command("report")
        return Report(seen["accepted"], seen["open"], [Request(**request) for request in seen["requests"]])

    def _command(self, *words: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the server {self.name} has ended"
        return json.loads(line)

    def launch(self) -> None:
        """Start the process without waiting for it."""
        command = [sys.executable, "-m", "tests.support.faulty"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self) -> None:
        """Wait until it listens."""
        assert self._process is not None
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        self.launch()
        self.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


# -- the process's side --------------------------------------------------------------------------

ESTABLISHED = 1
"""Of Linux's `enum tcp_state`: neither side has ended it."""
POLITE = 1.0
"""Seconds that the other side gets to close its half too."""


class Ended(Exception):
    """There is nothing more to do with this connection."""


class Connection:
    """One accepted connection, and the steps that it can take."""

    def __init__(self, stage: Stage, sock: socket.socket, number: int) -> None:
        self.stage = stage
        self.sock = sock
        self.number = number
        self.buffer = b""
        self.request = Request(number)
        self.waited = False
        self.loop = asyncio.get_running_loop()

    async def play(self, turns: Sequence[Turn]) -> None:
        """Turn after turn, to the end of the connection."""
        try:
            for turn in chain(turns, repeat(GOOD)):
                self.request = Request(self.number)
                for name, *arguments in turn:
                    await getattr(self, name)(*arguments)
                if self.waited:
                    self.stage.passed.set()
        except (Ended, OSError):
            self.sock.close()
            self.stage.passed.set()

    async def leave(self) -> None:
        """Close, and let the other side close too."""
        with suppress(OSError, TimeoutError):
            self.sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(POLITE):
                while await self.loop.sock_recv(self.sock, 65536):
                    pass
        self.sock.close()

    @property
    def is_open(self) -> bool:
        """Has neither side ended it, as the kernel knows?"""
        if self.sock.fileno() < 0:
            return False
        return self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED

    # -- reading ---------------------------------------------------------------------------

    async def part(self) -> None:
        await self.more(10)

    async def head(self) -> None:
        while b"\r\n\r\n" not in self.buffer:
            await self.more()
        self.take_head()

    def take_head(self) -> None:
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.fields = head.decode("latin-1")
        self.request.method, target, _ = self.fields.split("\r\n")[0].split(" ")
        self.request.token = target.rpartition("/")[2]

    async def some(self) -> None:
        await self.head()
        if not self.buffer:
            await self.more()

    async def read(self) -> None:
        await self.head()
        if length := re.search(r"(?i)\r\ncontent-length: (\d+)", self.fields):
            body = await self.exactly(int(length[1]))
        elif "chunked" in self.fields.lower():
            body = b""
            while size := int(await self.line(), 16):
                body += await self.exactly(size)
                await self.line()
            await self.line()
        else:
            body = b""
        short = len(body) <= 100
        self.request.body = body.decode("latin-1") if short else f"{len(body)} {sha256(body).hexdigest()}"
        self.request.whole = True

    async def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            await self.more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    async def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self.more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    async def more(self, size: int = 65536) -> None:
        data = await self.loop.sock_recv(self.sock, size)
        if not data:
            raise Ended
        if self.request not in self.stage.requests:
            self.stage.requests.append(self.request)
        self.buffer += data

    # -- answering -------------------------------------------------------------------------

    async def answer(self) -> None:
        body = f"{self.request.token}\n"
        await self.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}")

    async def send(self, text: str) -> None:
        await self.loop.sock_sendall(self.sock, self.bytes(text))

    async def dribble(self, text: str, seconds: str) -> None:
        for byte in self.bytes(text):
            await asyncio.sleep(float(seconds))
            await self.loop.sock_sendall(self.sock, bytes([byte]))

    async def endless(self, text: str, seconds: str) -> None:
        while True:
            await self.send(text)
            await asyncio.sleep(float(seconds))

    def bytes(self, text: str) -> bytes:
        return text.replace("{token}", self.request.token).encode("latin-1")

    # -- waiting and ending ----------------------------------------------------------------

    async def pause(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))

    async def wait(self) -> None:
        self.waited = True
        await self.stage.gate.wait()

    async def hang(self) -> None:
        while True:
            if not self.request.method and b"\r\n\r\n" in self.buffer:
                self.take_head()
            await self.more()

    async def stall(self) -> None:
        await asyncio.Event().wait()

    async def fin(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        if self.waited:
            self.stage.passed.set()
        await self.hang()

    async def rst(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Ended

    async def close(self) -> None:
        raise Ended


class Stage:
    """The port, what is played on it, and what was seen."""

    def __init__(self) -> None:
        # This one only keeps the port for us while nobody listens.
        self.reservation = new_socket(0)
        self.port: int = self.reservation.getsockname()[1]
        self.how = "refuse"
        self.listening: socket.socket | None = None
        self.crowd: list[socket.socket] = []
        self.accepting: asyncio.Task[None] | None = None
        self.connections: list[tuple[Connection, asyncio.Task[None]]] = []
        self.requests: list[Request] = []
        self.turns: Sequence[Turn] = []
        self.gate = asyncio.Event()
        self.passed = asyncio.Event()

    async def command(self, verb: str, *arguments: Any) -> Any:
        """Do it; the answer."""
        if verb == "play":
            await self.play(*arguments)
            return "playing"
        if verb == "go":
            self.gate.set()
            await self.passed.wait()
            return "gone"
        return {
            "accepted": len(self.connections),
            "open": sum(connection.is_open for connection, _ in self.connections),
            "requests": [vars(request) for request in self.requests],
        }

    async def play(self, turns: Sequence[Turn], how: str) -> None:
        """The next piece."""
        self.turns = turns
        self.gate, self.passed = asyncio.Event(), asyncio.Event()
        if how != self.how:
            self.listen(how)
        before, self.connections = self.connections, []
        for _, task in before:
            task.cancel()
        await asyncio.gather(*(task for _, task in before), return_exceptions=True)
        await asyncio.gather(*(connection.leave() for connection, _ in before))
        self.requests = []

    def listen(self, how: str) -> None:
        """Open the port in that way."""
        self.how = how
        if self.accepting is not None:
            self.accepting.cancel()
            self.accepting = None
        for sock in (self.listening, *self.crowd):
            if sock is not None:
                sock.close()
        self.listening, self.crowd = None, []
        if how == "refuse":
            return
        self.listening = new_socket(self.port)
        if how == "blackhole":
            self.listening.listen(0)
            while self.joins():
                pass
        else:
            self.listening.listen(1024)
            self.accepting = asyncio.get_running_loop().create_task(self.accept(self.listening))

    def joins(self) -> bool:
        """Add one connection to the backlog that nobody takes; False when it is full."""
        sock = socket.socket()
        self.crowd.append(sock)
        sock.settimeout(0.1)
        try:
            sock.connect(("127.0.0.1", self.port))
        except TimeoutError:
            return False
        return True

    async def accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, len(self.connections) + 1)
            self.connections.append((connection, loop.create_task(connection.play(self.turns))))


def new_socket(port: int) -> socket.socket:
    """Bound to that port of 127.0.0.1, without blocking."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


async def main() -> None:
    """Say where we are, and take commands."""
    stage = Stage()
    await stage.play([], "accept")
    print(stage.port, flush=True)
    commands = asyncio.StreamReader(limit=1 << 22)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(json.dumps(await stage.command(*json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
