"""Many keep-alive clients at once, in a thread of their own, that write down everything that goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from threading import Thread
from typing import Self


class Load:
    """While the context lasts, `clients` send requests with `pause` seconds between a response and the next request.

    Afterwards: `statuses` and `served_by` (the X-Served-By of each response), `seconds`, how long each took, and
    `errors`, one text for each request that got no whole response. A connection that the balancer
    closes with notice is opened again; one that it closes without is an error.

    Without `keep_alive` each request has a connection of its own, and says so.

    A `{}` in `target` is the number of the request; `failed` has the numbers of those that got no 200.
    """

    def __init__(
        self,
        port: int,
        *,
        clients: int = 100,
        pause: float = 0.05,
        target: str = "/",
        method: str = "GET",
        keep_alive: bool = True,
    ) -> None:
        self.statuses: Counter[int] = Counter()
        self.served_by: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.failed: set[int] = set()
        self._port = port
        self._clients = clients
        self._pause = pause
        body = "Content-Length: 0\r\n" if method == "POST" else ""
        close = "" if keep_alive else "Connection: close\r\n"
        self._request = f"{method} {target} HTTP/1.1\r\nHost: test\r\n{close}{body}\r\n"
        self._keep_alive = keep_alive
        self._numbers = count()
        self._stopping = False
        self._thread = Thread(target=self._run, name="load")

    @property
    def responses(self) -> int:
        """How many whole responses came so far."""
        return self.statuses.total()

    def check(self) -> None:
        """Every request was answered, and with 200."""
        assert not self.errors, f"{len(self.errors)} of {self.responses} failed: {self.errors[:5]}"
        assert set(self.statuses) == {200}, self.statuses

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the load does not end"

    def _run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        await asyncio.sleep(self._pause * number / self._clients)
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                self.errors.append(f"connect: {error!r}")
                await asyncio.sleep(self._pause)
                continue
            try:
                while not self._stopping and await asyncio.wait_for(self._exchange(reader, writer), 10):
                    await asyncio.sleep(self._pause)
                if not self._keep_alive:
                    await asyncio.sleep(self._pause)
            except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.errors.append(repr(error))
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; may the connection be used again?"""
        number = next(self._numbers)
        self.failed.add(number)
        began = time.perf_counter()
        writer.write(self._request.format(number).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.split("\r\n")[:-2]
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
        await reader.readexactly(int(fields["content-length"]))
        self.seconds.append(time.perf_counter() - began)
        status = int(line.split(" ")[1])
        self.statuses[status] += 1
        if status == 200:
            self.failed.discard(number)
        self.served_by[fields.get("x-served-by", "nobody")] += 1
        return fields.get("connection", "").lower() != "close"
