"""Is the service there, and how quickly? One GET after another, each on a connection of its own."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from threading import Thread
from typing import Self

PATIENCE = 10.0
"""Seconds after which a request without an answer has failed."""


class Probe:
    """While the context lasts, a thread begins a GET every `every` seconds, whether or not those before are answered.

    Afterwards: `seconds`, from before the connecting to the last byte, of each that was answered with
    200, and `failures`, a text for each that was not.
    """

    def __init__(self, port: int, *, every: float = 0.03, source: str = "127.0.0.1") -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._port = port
        self._every = every
        self._source = source
        self._stopping = False
        self._thread = Thread(target=lambda: asyncio.run(self._run()), name="probe")

    def percentile(self, part: float) -> float:
        """So many hundredths were answered within these seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part / 100))]

    def __str__(self) -> str:
        p50, p99, worst = (1000 * self.percentile(part) for part in (50, 99, 100))
        return (
            f"{len(self.seconds)} probes, {len(self.failures)} failures, "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms"
        )

    def check(self, *, number: int, p99: float) -> None:
        """At least that many were answered, none was not, and nearly all were within so many seconds."""
        assert not self.failures, f"{len(self.failures)} failed: {self.failures[:5]}"
        assert len(self.seconds) >= number, "the probe itself was too slow"
        assert self.percentile(99) < p99, self

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(PATIENCE + 5)
        assert not self._thread.is_alive(), "the probe does not end"

    async def _run(self) -> None:
        asked = []
        due = time.monotonic()
        while not self._stopping:
            asked.append(asyncio.create_task(self._ask()))
            due = max(due + self._every, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        await asyncio.gather(*asked)

    async def _ask(self) -> None:
        began = time.monotonic()
        try:
            answer = await asyncio.wait_for(self._get(), PATIENCE)
        except (OSError, TimeoutError) as error:
            self.failures.append(f"{error!r} after {time.monotonic() - began:.3f} s")
            return
        if answer.startswith(b"HTTP/1.1 200 ") and b"\r\n\r\n" in answer:
            self.seconds.append(time.monotonic() - began)
        else:
            self.failures.append(f"{answer[:100]!r} after {time.monotonic() - began:.3f} s")

    async def _get(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._source, 0))
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
