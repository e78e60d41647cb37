"""The clients of the soak test. Every kind of request knows which answer it must get.

`sturdy` kinds may be repeated on another server, or do not reach one: they have no errors at all.
The others have only such as a fault explains.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import ssl
import struct
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.support.pattern import new_digest, pattern, pattern_digest

PATIENCE = 15.0
"""Seconds that any answer may take; all that may hold one up (a server that hangs) is over before."""
MIB = 1024 * 1024
SMALL = 16 * 1024
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY)


class Wrong(Exception):
    """An answer that must not be."""


@dataclass
class Tally:
    """What came of it all. `explains` tells whether a fault explains an error between two moments."""

    explains: Callable[[float, float], bool]
    done: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Seconds that a sturdy and prompt request has taken at most."""

    def failed(self, kind: Kind, began: float, error: BaseException) -> None:
        """A request got no answer, or a wrong one."""
        now = time.monotonic()
        if not kind.sturdy and self.explains(began, now):
            self.explained[kind.name] += 1
        else:
            self.errors.append(f"{time.strftime('%H:%M:%S')} {kind.name}: {error!r} after {now - began:.3f} s")


@dataclass(frozen=True)
class Site:
    """Where the balancer is."""

    web: int
    tls: int
    narrow: int
    raw: int
    too_long: float
    """Seconds of delay that are more than `timeout server`."""


class Answer:
    """A response."""

    def __init__(self, head: bytes) -> None:
        line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        self.version, status, _ = line.split(" ", 2)
        self.status = int(status)
        self.fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        self.body = b""

    def must_be(self, *statuses: int) -> None:
        """One of those."""
        if self.status not in statuses:
            raise Wrong(f"status {self.status} {self.body[:100]!r}")

    @property
    def last(self) -> bool:
        """Does the connection end with it?"""
        return self.fields.get("connection", "").lower() == "close"


class Connection:
    """A client's connection."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Hand it over, as fast as it is taken."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET", *, pause: float = 0.0) -> Answer:
        """The next response; a slow reader makes pauses."""
        answer = Answer(await self.reader.readuntil(b"\r\n\r\n"))
        if method == "HEAD" or answer.status == 101:
            return answer
        if answer.fields.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                parts.append((await self._exactly(size + 2, pause))[:-2])
            await self.reader.readexactly(2)
            answer.body = b"".join(parts)
        elif "content-length" in answer.fields:
            answer.body = await self._exactly(int(answer.fields["content-length"]), pause)
        else:
            answer.body = await self.reader.read()
        return answer

    async def _exactly(self, size: int, pause: float) -> bytes:
        if not pause:
            return await self.reader.readexactly(size)
        parts = []
        while size:
            parts.append(await self.reader.readexactly(min(size, 8 * SMALL)))
            size -= len(parts[-1])
            await asyncio.sleep(pause)
        return b"".join(parts)

    def reset(self) -> None:
        """Leave with a RST."""
        with suppress(OSError):
            skt = self.writer.get_extra_info("socket")
            skt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Worker:
    """One client: it plays its kind's scene again and again. Chance is its own, so that a seed decides."""

    _posts = count(1)

    def __init__(self, kind: Kind, number: int, seed: int, site: Site, tally: Tally) -> None:
        self.kind = kind
        self.site = site
        self.chance = random.Random(f"{seed}/{kind.name}/{number}")
        self.stopping = False
        self._tally = tally
        self._began = 0.0

    async def run(self) -> None:
        """Until `stopping`."""
        while not self.stopping:
            await self.rest()
            self._began = time.monotonic()
            try:
                await self.kind.play(self)
            except (Wrong, OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                self._tally.failed(self.kind, self._began, error)

    async def rest(self) -> None:
        """The pause of its kind, more or less."""
        await asyncio.sleep(self.kind.pause * self.chance.uniform(0.0, 2.0))

    def done(self) -> None:
        """One request is over, and well."""
        self._tally.done[self.kind.name] += 1
        if self.kind.sturdy and self.kind.prompt:
            self._tally.longest = max(self._tally.longest, time.monotonic() - self._began)

    @asynccontextmanager
    async def connection(self, port: int = 0, *, slow: bool = False, **how: Any) -> AsyncIterator[Connection]:
        """A connection to the web frontend, or to another port."""
        skt = socket.socket()
        skt.setblocking(False)
        if slow:
            skt.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * SMALL)
        try:
            await asyncio.get_running_loop().sock_connect(skt, ("127.0.0.1", port or self.site.web))
            limit = SMALL if slow else MIB
            reader, writer = await asyncio.open_connection(sock=skt, limit=limit, **how)
        except BaseException:
            skt.close()
            raise
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()

    async def ask(
        self,
        connection: Connection,
        method: str,
        target: str,
        *fields: str,
        body: bytes = b"",
        version: str = "1.1",
        pause: float = 0.0,
    ) -> Answer:
        """One request and its answer."""
        self._began = time.monotonic()
        lines = [f"{method} {target} HTTP/{version}", "Host: soak.test", *fields]
        async with asyncio.timeout(self.kind.patience):
            await connection.send("\r\n".join((*lines, "", "")).encode() + body)
            return await connection.answer(method, pause=pause)

    def target(self, name: str) -> str:
        """Something that the answer must come back with."""
        return f"/{name}/{self.chance.getrandbits(40):x}"

    def post(self, query: str = "") -> str:
        """The target of a POST that there is once."""
        return f"/order?id={next(self._posts)}{query}"

    def leave(self, connection: Connection) -> None:
        """Go away in the middle, with a close or a reset."""
        if self.chance.random() < 0.5:
            connection.reset()
        else:
            connection.writer.close()


@dataclass(frozen=True)
class Kind:
    """A kind of client: how many there are, and the seconds between what they do."""

    name: str
    play: Callable[[Worker], Awaitable[None]]
    workers: int
    pause: float
    sturdy: bool = True
    prompt: bool = True
    """Is it answered as soon as a server can?"""
    patience: float = PATIENCE


def echoed(answer: Answer, target: str) -> None:
    """The server has got this target, and its answer has come to us."""
    answer.must_be(200)
    name, _, got = answer.body.decode().partition(" ")
    if got != f"{target}\n" or answer.fields.get("x-served-by") != name:
        raise Wrong(f"{target} was answered {answer.body[:100]!r}")


# -- requests that have no errors ----------------------------------------------------------------


async def gets(worker: Worker, port: int = 0, query: str = "", **how: Any) -> None:
    async with worker.connection(port, **how) as connection:
        for _ in range(worker.chance.randint(1, 100)):
            target = worker.target("get") + query
            answer = await worker.ask(connection, "GET", target)
            echoed(answer, target)
            worker.done()
            if answer.last or worker.stopping:
                return
            await worker.rest()


async def one_get(worker: Worker) -> None:
    fields = worker.chance.choice(((), ("Connection: close",)))
    async with worker.connection() as connection:
        target = worker.target("one")
        echoed(await worker.ask(connection, "GET", target, *fields), target)
    worker.done()


async def get_over_tls(worker: Worker) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    await gets(worker, worker.site.tls, ssl=context, server_hostname="soak.test")


async def get_in_the_queue(worker: Worker) -> None:
    await gets(worker, worker.site.narrow, "?delay=0.01")


async def pipelined(worker: Worker) -> None:
    targets = [worker.target("pipe") for _ in range(worker.chance.randint(2, 8))]
    async with worker.connection() as connection, asyncio.timeout(PATIENCE):
        await connection.send(b"".join(f"GET {target} HTTP/1.1\r\nHost: soak\r\n\r\n".encode() for target in targets))
        for target in targets:
            echoed(await connection.answer(), target)
            worker.done()


async def http_1_0(worker: Worker) -> None:
    async with worker.connection() as connection:
        for number in range(worker.chance.randint(1, 3)):
            target = worker.target("old")
            answer = await worker.ask(connection, "GET", target, "Connection: keep-alive", version="1.0")
            echoed(answer, target)
            worker.done()
            if answer.fields.get("connection") != "keep-alive":
                raise Wrong(f"HTTP/1.0, response {number}: {answer.fields}")
        target = worker.target("old")
        echoed(await worker.ask(connection, "GET", target, version="1.0"), target)
        if await connection.reader.read(1):
            raise Wrong("bytes behind the last answer to HTTP/1.0")
    worker.done()


async def head(worker: Worker) -> None:
    async with worker.connection() as connection:
        (await worker.ask(connection, "HEAD", "/head?bytes=1000" if worker.chance.random() < 0.5 else "/")).must_be(200)
        target = worker.target("behind-head")
        echoed(await worker.ask(connection, "GET", target), target)
    worker.done()


async def small_put(worker: Worker) -> None:
    await upload(worker, "PUT", "/file", worker.chance.randint(0, 32 * 1024))


async def malformed(worker: Worker) -> None:
    data, status = worker.chance.choice(MALFORMED)
    async with worker.connection() as connection, asyncio.timeout(PATIENCE):
        await connection.send(data)
        answer = await connection.answer()
        answer.must_be(status)
        if await connection.reader.read():
            raise Wrong(f"bytes behind the answer to {data[:50]!r}")
    worker.done()


MALFORMED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: soak\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: soak\r\nHost: soak\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: soak\r\n folded: yes\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: soak\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: soak\r\nContent-Length: +1\r\n\r\nx", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"GET / HTTP/3.7\r\nHost: soak\r\n\r\n", 505),
    (b"GET /%b HTTP/1.1\r\nHost: soak\r\n\r\n" % (b"x" * 9000), 414),
    (b"GET / HTTP/1.1\r\nHost: soak\r\n%b\r\n" % (b"X-Field: yes\r\n" * 101), 431),
    (b"GET / HTTP/1.1\r\nHost: soak\r\n%b\r\n" % (b"X-Field: %b\r\n" % (b"x" * 7000) * 6), 431),
    (b"PUT / HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
]


async def idle(worker: Worker) -> None:
    """Says nothing, and is shown out; or too little, and is told so; or leaves by itself."""
    say, patient = worker.chance.choice(
        ((b"", True), (b"GET / HTTP/1.1\r\nHo", True), (b"", False), (b"GET / HTT", False))
    )
    async with worker.connection() as connection:
        await connection.send(say)
        if not patient:
            await asyncio.sleep(worker.chance.uniform(0.5, 2.5))
            worker.leave(connection)
            return
        async with asyncio.timeout(PATIENCE):
            answer = await connection.reader.read()
    if not answer.startswith(b"HTTP/1.1 408 ") if say else answer:
        raise Wrong(f"a silent client was told {answer[:100]!r}")
    worker.done()


async def idle_between_requests(worker: Worker) -> None:
    async with worker.connection() as connection:
        target = worker.target("idle")
        echoed(await worker.ask(connection, "GET", target), target)
        async with asyncio.timeout(PATIENCE):
            if await connection.reader.read():
                raise Wrong("an idle client was told something")
    worker.done()


async def bad_answer(worker: Worker) -> None:
    """Whatever servers do, the client gets what it must."""
    fault = worker.chance.choice(("reset", "garbage", "midbody", "surplus"))
    async with worker.connection() as connection:
        try:
            answer = await worker.ask(connection, "GET", f"/?fault={fault}")
        except (asyncio.IncompleteReadError, ConnectionError):
            if fault != "midbody":
                raise
        else:
            if fault == "midbody":
                raise Wrong("a response that broke off has come to a clean end")
            # All tries were reset, or the last one was to a server that is gone.
            answer.must_be(*{"reset": (502, 503), "garbage": (502,), "surplus": (200,)}[fault])
            if fault == "surplus" and answer.body != b"ok\n":
                raise Wrong(f"surplus bytes: {answer.body!r}")
    worker.done()


async def bad_answer_to_post(worker: Worker) -> None:
    """It has been executed, and may not be again."""
    async with worker.connection() as connection:
        target = worker.post("&fault=reset")
        answer = await worker.ask(connection, "POST", target, "Content-Length: 5", body=b"order")
        answer.must_be(502)
    worker.done()


async def too_late(worker: Worker) -> None:
    async with worker.connection() as connection:
        (await worker.ask(connection, "GET", f"/?delay={worker.site.too_long:g}")).must_be(504)
    worker.done()


# -- requests that break with their server ---------------------------------------------------------


async def upload(worker: Worker, method: str, target: str, size: int, *, chunked: bool = False) -> None:
    blocks = list(pattern(size))
    async with worker.connection() as connection:
        if chunked:
            body = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n"
            answer = await worker.ask(connection, method, target, "Transfer-Encoding: chunked", body=body)
        else:
            body = b"".join(blocks)
            answer = await worker.ask(connection, method, target, f"Content-Length: {size}", body=body)
        answer.must_be(200)
        if answer.body.decode() != f"{size} {pattern_digest(size)}\n":
            raise Wrong(f"a body of {size} bytes was received as {answer.body[:100]!r}")
    worker.done()


def any_size(worker: Worker, most: int) -> int:
    """From 1 byte up, each order of magnitude as often as the others; few different ones."""
    return int(math.exp(worker.chance.randint(0, 60) / 60 * math.log(most)))


async def post(worker: Worker) -> None:
    delay = worker.chance.choice(("", "", "&delay=0.3"))  # long enough to be hit by a fault when it has been executed
    await upload(worker, "POST", worker.post(delay), any_size(worker, MIB), chunked=worker.chance.random() < 0.5)


async def download(worker: Worker, *, slow: bool = False) -> None:
    size = any_size(worker, 3 * MIB)
    if slow:
        size = max(size, 2 * MIB)
    framing = worker.chance.choice(("", "&chunked=1", "&close=1"))
    async with worker.connection(slow=slow) as connection:
        answer = await worker.ask(connection, "GET", f"/?bytes={size}{framing}", pause=0.1 if slow else 0.0)
        answer.must_be(200)
        if answer.body != b"".join(pattern(size)):
            raise Wrong(f"of {size} bytes {len(answer.body)} came, or others")
    worker.done()


async def slow_reader(worker: Worker) -> None:
    await download(worker, slow=True)


async def websocket(worker: Worker) -> None:
    async with worker.connection() as connection:
        (await worker.ask(connection, "GET", "/chat", *UPGRADE)).must_be(101)
        for _ in range(worker.chance.randint(1, 20)):
            text = b"%x" % worker.chance.getrandbits(100)
            async with asyncio.timeout(PATIENCE):
                await connection.send(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)
                if await connection.reader.readexactly(2 + len(text)) != bytes((0x81, len(text))) + text:
                    raise Wrong("another echo")
            await worker.rest()
        async with asyncio.timeout(PATIENCE):
            await connection.send(b"\x88\x80\0\0\0\0")
            if await connection.reader.read() != b"\x88\0":
                raise Wrong("the tunnel has no end")
    worker.done()


async def tcp(worker: Worker) -> None:
    size = any_size(worker, 2 * MIB)
    verb = worker.chance.choice(("echo", "send", "digest"))
    async with worker.connection(worker.site.raw) as connection, asyncio.timeout(PATIENCE):
        if verb == "send":
            await connection.send(b"send %d\n" % size)
            if await connection.reader.read() != b"".join(pattern(size)):
                raise Wrong("tcp: other bytes")
        elif verb == "digest":
            await connection.send(b"digest\n" + b"".join(pattern(size)))
            connection.writer.write_eof()
            digest = new_digest()
            digest.update(b"".join(pattern(size)))
            if (await connection.reader.read()).decode() != f"{size} {digest.hexdigest()}\n":
                raise Wrong("tcp: another digest")
        else:
            await connection.send(b"echo\n")
            for _ in range(5):
                text = worker.target("echo").encode()
                await connection.send(text)
                if await connection.reader.readexactly(len(text)) != text:
                    raise Wrong("tcp: another echo")
                await worker.rest()
    worker.done()


# -- clients that go away --------------------------------------------------------------------------


async def abort(worker: Worker) -> None:
    """Whatever comes of it is right, as long as nothing stays behind."""
    chance, site = worker.chance, worker.site
    get = b"GET /%b HTTP/1.1\r\nHost: soak\r\n\r\n"
    put = b"POST %b HTTP/1.1\r\nHost: soak\r\n%b\r\n\r\n"
    port, say = chance.choice(
        (
            (site.web, b""),
            (site.web, b"GET / HTTP/1.1\r\nHost: so"),
            (site.web, get % b""),
            (site.web, get % b"?delay=0.5"),
            (site.web, get % b"?delay=0.2" * chance.randint(2, 6)),
            (site.narrow, get % b"?delay=0.2"),
            (site.web, get % b"?bytes=3000000"),
            (site.web, get % b"?bytes=3000000&chunked=1"),
            (site.web, put % (worker.post().encode(), b"Content-Length: 500000") + bytes(100_000)),
            (site.web, put % (worker.post().encode(), b"Transfer-Encoding: chunked") + b"40000\r\n" + bytes(100_000)),
            (site.web, get.replace(b"\r\n\r\n", ("\r\n" + "\r\n".join(UPGRADE) + "\r\n\r\n").encode()) % b"chat"),
            (site.raw, b""),
            (site.raw, b"echo\nhello"),
            (site.raw, b"send 3000000\n"),
            (site.raw, b"digest\n" + bytes(100_000)),
            (site.tls, b""),
            (site.tls, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(30)),
            (site.tls, b"GET / HTTP/1.1\r\n\r\n"),
        )
    )
    async with worker.connection(port) as connection:
        with suppress(OSError, EOFError):
            await connection.send(say)
            if chance.random() < 0.3:
                async with asyncio.timeout(1):
                    await connection.reader.readexactly(chance.randint(1, 200_000))
            else:
                await asyncio.sleep(chance.uniform(0, 0.2))
        worker.leave(connection)
    worker.done()


KINDS = (
    Kind("GET, keep-alive", gets, 40, 0.14),
    Kind("GET, own connection", one_get, 6, 0.12),
    Kind("GET over TLS", get_over_tls, 6, 0.15),
    Kind("GET in the queue", get_in_the_queue, 10, 0.15),
    Kind("GET, pipelined", pipelined, 4, 0.4),
    Kind("GET, HTTP/1.0", http_1_0, 4, 0.5),
    Kind("HEAD", head, 4, 0.4),
    Kind("PUT, small", small_put, 4, 0.3),
    Kind("malformed", malformed, 3, 0.3),
    Kind("idle", idle, 10, 0.5, prompt=False),
    Kind("idle between requests", idle_between_requests, 5, 0.5, prompt=False),
    Kind("bad answer", bad_answer, 4, 0.4),
    Kind("bad answer to POST", bad_answer_to_post, 2, 0.4),
    # In the seconds that it waits more servers may die under it than it has retries.
    Kind("answer too late", too_late, 2, 0.5, prompt=False, sturdy=False, patience=60.0),
    Kind("POST", post, 8, 0.2, sturdy=False),
    Kind("download", download, 6, 0.4, sturdy=False),
    Kind("slow reader", slow_reader, 3, 0.5, sturdy=False, patience=60.0),
    Kind("websocket", websocket, 6, 0.15, sturdy=False),
    Kind("tcp", tcp, 6, 0.2, sturdy=False),
    Kind("abort", abort, 8, 0.15, prompt=False),
)
