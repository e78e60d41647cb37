"""A small real server as a process of its own: `python -m tests.support.server http --name s1`.

Prints the port it listens on, and ends when its standard input does, so it never outlives the test.

http  answers `NAME\\n` with X-Served-By: NAME. `?delay=S` waits first, `?bytes=N` sends N bytes of
      the pattern (`&chunked=1` without a length), a body is answered `BYTES DIGEST\\n`; /count says
      how many requests came, /head shows what came, /health is not counted, and an Upgrade to
      websocket echoes. With --journal FILE each counted request is a line `NAME TARGET` in it, written
      before the answer, and safe from a SIGKILL.
tcp   the first line of a connection says what to do: `send N` sends the pattern and closes, `digest`
      reads to the end and then answers `BYTES DIGEST\\n`, `echo` sends everything back.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import ssl
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from tests.support.pattern import new_digest, pattern

CHUNK = 256 * 1024
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class HttpServer:
    """Serves HTTP/1.1 with keep-alive; with `close`, a request a connection."""

    def __init__(
        self, name: str, delay: float, *, close: bool = False, status: int = 200, journal: str = "", workers: int = 0
    ) -> None:
        self.name = name
        self.delay = delay
        self.close = close
        self.status = status
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if journal else -1
        self.count = 0
        self.workers = asyncio.Semaphore(workers or 1_000_000)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection."""
        while await self.answer(reader, writer):
            pass

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> bool:
        """One request; may another one follow?"""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        line, *field_lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, version = line.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in field_lines)}
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/health":
            return await self.respond(writer, method, b"ok\n", 200)
        if url.path == "/count":
            return await self.respond(writer, method, b"%d\n" % self.count, 200)
        self.count += 1
        if self.journal >= 0:
            os.write(self.journal, f"{self.name} {target}\n".encode())
        if fields.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fields.get("upgrade", "").lower() == "websocket":
            await self.websocket(reader, writer, fields)
            return False
        body = await self.receive(reader, fields)
        async with self.workers:
            await asyncio.sleep(float(query.get("delay", self.delay)))
        if "bytes" in query:
            await self.stream(writer, int(query["bytes"]), chunked="chunked" in query)
            return True
        if url.path == "/head":
            body = head
        if not await self.respond(writer, method, f"{self.name}\n".encode() if body is None else body):
            return False
        keep = fields.get("connection", "").lower()
        return keep == "keep-alive" if version == "HTTP/1.0" else keep != "close"

    async def receive(self, reader: StreamReader, fields: dict[str, str]) -> bytes | None:
        """The request's body, as the answer to it; None when there was none."""
        digest, size = new_digest(), 0
        if fields.get("transfer-encoding") == "chunked":
            while length := int(await reader.readuntil(b"\r\n"), 16):
                data = await reader.readexactly(length)
                await reader.readexactly(2)
                digest.update(data)
                size += length
            await reader.readexactly(2)
        elif "content-length" in fields:
            left = int(fields["content-length"])
            while left:
                data = await reader.read(min(left, CHUNK))
                if not data:
                    raise ConnectionError("the body broke off")
                digest.update(data)
                size += len(data)
                left -= len(data)
        else:
            return None
        return f"{size} {digest.hexdigest()}\n".encode()

    async def respond(self, writer: StreamWriter, method: str, body: bytes, status: int = 0) -> bool:
        """A whole small response."""
        more = "Connection: close\r\n" if self.close else ""
        phrase = HTTPStatus(status or self.status)
        fields = f"Content-Length: {len(body)}\r\nX-Served-By: {self.name}\r\n{more}"
        head = f"HTTP/1.1 {phrase.value} {phrase.phrase}\r\n{fields}\r\n".encode()
        writer.write(head if method == "HEAD" else head + body)
        await writer.drain()
        return not self.close

    async def stream(self, writer: StreamWriter, size: int, *, chunked: bool) -> None:
        """The pattern, as fast as it is taken."""
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\nX-Served-By: {self.name}\r\n\r\n".encode())
        for block in pattern(size):
            writer.write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")

    async def websocket(self, reader: StreamReader, writer: StreamWriter, fields: dict[str, str]) -> None:
        """RFC 6455, as far as echoing short frames needs it."""
        key = fields["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\nX-Served-By: {self.name}\r\n\r\n".encode()
        )
        with suppress(asyncio.IncompleteReadError):
            while True:
                first, length = await reader.readexactly(2)
                length &= 0x7F
                if length == 126:
                    length = int.from_bytes(await reader.readexactly(2))
                mask = await reader.readexactly(4)
                data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length)))
                size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)
                writer.write(bytes([first]) + size + data)
                if first & 0x0F == 8:
                    return


async def serve_tcp(reader: StreamReader, writer: StreamWriter) -> None:
    """One connection of the kind `tcp`."""
    verb, _, argument = (await reader.readline()).decode().strip().partition(" ")
    if verb == "send":
        for block in pattern(int(argument)):
            writer.write(block)
            await writer.drain()
        return
    digest, size = new_digest(), 0
    while data := await reader.read(CHUNK):
        digest.update(data)
        size += len(data)
        if verb == "echo":
            writer.write(data)
            await writer.drain()
    if verb == "digest":
        writer.write(f"{size} {digest.hexdigest()}\n".encode())


async def main(options: argparse.Namespace) -> None:
    """Listen, say where, and serve until standard input ends."""
    serve = serve_tcp
    if options.kind == "http":
        server = HttpServer(
            options.name,
            options.delay,
            close=options.close,
            status=options.status,
            journal=options.journal,
            workers=options.workers,
        )
        serve = server.serve
    context = None
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert)

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
            await writer.drain()
        with suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()

    listening = await asyncio.start_server(
        connected, "127.0.0.1", options.port, limit=CHUNK * 2, backlog=1024, ssl=context
    )
    print(listening.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["http", "tcp"])
    parser.add_argument("--name", default="server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--close", action="store_true", help="http: close every connection after its answer")
    parser.add_argument("--status", type=int, default=200, help="http: of every answer but /health")
    parser.add_argument("--workers", type=int, default=0, help="http: delays at a time; others wait their turn")
    parser.add_argument("--journal", default="", help="http: write down each request there")
    parser.add_argument("--cert", help="speak TLS with this PEM file (chain and key)")
    asyncio.run(main(parser.parse_args()))
