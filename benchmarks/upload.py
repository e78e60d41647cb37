"""Uploads: a few connections that send large bodies and wait for each answer.

The whole request, head and body as they are on the wire, lies in a file, and the kernel sends it
from there. So a chunked body costs the client no more than one with a length, and the client is
not what is measured.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from benchmarks.load import Load
from benchmarks.processes import CannotRun
from benchmarks.result import percentile
from benchmarks.scene import Proxy

ANSWER = re.compile(rb"HTTP/1\.1 200 .*?\r\ncontent-length: *(\d+)(?=\r\n).*?\r\n\r\n(.*)", re.IGNORECASE | re.DOTALL)
PATIENCE = 30.0


def upload(proxy: Proxy, seconds: float, *, connections: int, size: int, chunk: int) -> Load:
    """Send bodies of `size` bytes for so long; every transfer that was begun is finished and counted.

    They go out in chunks of `chunk` bytes, or, if that is 0, with a length.
    """
    with request_file(size, chunk) as (file, length), ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        jobs = [pool.submit(_send, proxy, file.fileno(), length, size, began + seconds) for _ in range(connections)]
        times = sorted(each for job in jobs for each in job.result())
        took = time.perf_counter() - began
    p50, p99 = percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000
    return Load(len(times), len(times), len(times), len(times) / took, p50, p99, times[-1] * 1000)


@contextmanager
def request_file(size: int, chunk: int) -> Iterator[tuple[IO[bytes], int]]:
    """A file with one whole request, and its length in bytes."""
    with TemporaryFile() as file:
        framing = b"Transfer-Encoding: chunked" if chunk else b"Content-Length: %d" % size
        file.write(b"POST /upload HTTP/1.1\r\nHost: bench.invalid\r\n%s\r\n\r\n" % framing)
        if chunk:
            left = size
            while left:
                count = min(chunk, left)
                file.write(b"%x\r\n%s\r\n" % (count, b"x" * count))
                left -= count
            file.write(b"0\r\n\r\n")
        else:
            file.write(b"x" * size)
        file.flush()
        yield file, file.tell()


def _send(proxy: Proxy, fd: int, length: int, size: int, until: float) -> list[float]:
    """One connection; the seconds that each transfer took."""
    times = []
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
        client.settimeout(None)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(PATIENCE))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(PATIENCE))
        while (began := time.perf_counter()) < until:
            sent = 0
            try:
                while sent < length:
                    sent += os.sendfile(client.fileno(), fd, sent, length - sent)
                received = _answer(client)
            except OSError as error:
                raise CannotRun(f"{proxy.name} broke off an upload after {sent} of {length} bytes: {error}") from error
            if received < size:
                raise CannotRun(f"{proxy.name} passed {received} bytes on, of an upload of {size}")
            times.append(time.perf_counter() - began)
    return times


def _answer(client: socket.socket) -> int:
    """The number of bytes that the server says it has read; 0 for any other answer."""
    data = b""
    while True:
        more = client.recv(65536)
        data += more
        match = ANSWER.match(data)
        if match is not None and len(match[2]) == int(match[1]):
            return int(match[2])
        if not more:
            return 0


def _timeval(seconds: float) -> bytes:
    return int(seconds).to_bytes(8, "little") + bytes(8)
