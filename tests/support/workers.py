"""Many workers that can do one thing at a time, in a process of their own: `python -m tests.support.workers 20`.

Prints the port of each worker, and one more, which tells everything as JSON: for each worker the requests that it got
and the most that it had at a time. How long a request takes differs from one to the next. Ends when its standard input
does.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from tests.support.processes import ROOT


@dataclass
class Worker:
    """One worker; it does take a second request while it has one, and counts that."""

    name: str
    requests: int = 0
    active: int = 0
    most: int = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, request after request."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                self.active += 1
                self.most = max(self.most, self.active)
                await asyncio.sleep(0.004 * (1 + self.requests * 5 % 8))
                self.active -= 1
                head = f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Served-By: {self.name}\r\n\r\n"
                writer.write(head.encode() + b"ok\n")
                await writer.drain()
        writer.close()


class Workers:
    """The process, while the context lasts."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.workers", str(self._number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        *self.ports, self._report = map(int, self._process.stdout.readline().split())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def report(self) -> list[Worker]:
        """What each worker has seen so far."""
        with urlopen(f"http://127.0.0.1:{self._report}/", timeout=5) as answer:
            return [Worker(**each) for each in json.load(answer)]


async def main(number: int) -> None:
    """Listen, say where, and serve until standard input ends."""
    workers = [Worker(f"w{place}") for place in range(1, number + 1)]

    async def tell(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps([asdict(worker) for worker in workers]).encode()
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    servers = [await asyncio.start_server(each, "127.0.0.1", 0) for each in (*(w.serve for w in workers), tell)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
