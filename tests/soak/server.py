"""A server for the soak test: `python -m tests.soak.server --name s1 --port 9001 --posts FILE`.

Prints its port, and ends when its standard input does; until then each line of it is a mode:
`normal`, or `reset`, in which every connection is reset as soon as a request comes.

Answers `NAME TARGET\\n`, after `?delay=S` seconds. `?bytes=N` gets N bytes of the pattern, in chunks
with `&chunked=1`, until the close with `&close=1`. A body is answered `BYTES DIGEST\\n`. The id of a
POST (`?id=N`) goes to the file before anything else is done, so it is there also if the server is
killed in the next moment. `?fault=` makes this one answer bad: `reset`, `garbage`, `midbody` (it
breaks off), `surplus` (more bytes than announced).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import struct
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from tests.support.pattern import pattern
from tests.support.server import CHUNK, HttpServer

GARBAGE = b"HTTP/1.1 two hundred\r\nContent-Length: 0\r\n\r\n"


class SoakServer(HttpServer):
    """As HttpServer, with faults."""

    def __init__(self, name: str, posts: int) -> None:
        super().__init__(name, 0)
        self.mode = "normal"
        self._posts = posts

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *field_lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = line.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in field_lines)}
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if method == "POST":
            os.write(self._posts, f"{query['id']}\n".encode())
        if self.mode == "reset":
            return reset(writer)
        if url.path == "/health":
            return await self.respond(writer, method, b"ok\n")
        if fields.get("upgrade", "").lower() == "websocket":
            await self.websocket(reader, writer, fields)
            return False
        body = await self.receive(reader, fields)
        if "delay" in query:
            await asyncio.sleep(float(query["delay"]))
        if "fault" in query:
            return await self.fault(writer, query["fault"])
        if "bytes" in query and method != "HEAD":
            return await self.download(writer, int(query["bytes"]), query)
        return await self.respond(writer, method, body or f"{self.name} {target}\n".encode())

    async def download(self, writer: StreamWriter, size: int, query: dict[str, str]) -> bool:
        """A long body, in one of the three ways to say where it ends."""
        if "close" not in query:
            await self.stream(writer, size, chunked="chunked" in query)
            return True
        writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Served-By: {self.name}\r\n\r\n".encode())
        for block in pattern(size):
            writer.write(block)
            await writer.drain()
        return False

    async def fault(self, writer: StreamWriter, which: str) -> bool:
        """Answer badly."""
        if which == "garbage":
            writer.write(GARBAGE)
        elif which == "surplus":
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstray\n"
            )
        elif which == "midbody":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
            await writer.drain()
        else:
            return reset(writer)
        return False


def reset(writer: StreamWriter) -> bool:
    """Break the connection with a RST."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def main(options: argparse.Namespace) -> None:
    """Listen, say where, and serve until standard input ends."""
    posts = os.open(options.posts, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    server = SoakServer(options.name, posts)

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await server.serve(reader, writer)
            await writer.drain()
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    listening = await asyncio.start_server(connected, "127.0.0.1", options.port, limit=CHUNK * 2, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    orders = StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        server.mode = order.decode().strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--posts", required=True, help="the file that the ids of POST requests are appended to")
    asyncio.run(main(parser.parse_args()))
