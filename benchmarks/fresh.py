"""New TLS connections with a whole handshake each. wrk cannot be used: it resumes its sessions where it may."""

from __future__ import annotations

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.load import Load
from benchmarks.processes import CannotRun
from benchmarks.result import percentile
from benchmarks.scene import Proxy

REQUEST = b"GET / HTTP/1.1\r\nHost: bench.invalid\r\nConnection: close\r\n\r\n"
PATIENCE = 10.0


def handshakes(proxy: Proxy, seconds: float, *, connections: int) -> Load:
    """Connect, ask, read to the end, again; so many at a time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the signature of the handshake is verified all the same
    with ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        jobs = [pool.submit(_repeat, proxy, context, began + seconds) for _ in range(connections)]
        times = sorted(each for job in jobs for each in job.result())
        took = time.perf_counter() - began
    p50, p99 = percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000
    return Load(len(times), len(times), len(times), len(times) / took, p50, p99, times[-1] * 1000)


def _repeat(proxy: Proxy, context: ssl.SSLContext, until: float) -> list[float]:
    times = []
    while (began := time.perf_counter()) < until:
        try:
            answer = _ask(proxy.port, context)
        except OSError as error:
            raise CannotRun(f"{proxy.name} failed a TLS connection: {error}") from error
        if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\n")):
            raise CannotRun(f"{proxy.name} answered {answer[:200]!r}")
        times.append(time.perf_counter() - began)
    return times


def _ask(port: int, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, suppress_ragged_eofs=True) as client,
    ):
        # Without this the request waits 40 ms for the server to acknowledge the end of the handshake.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if client.version() != "TLSv1.3" or client.session_reused:
            raise CannotRun(f"port {port} speaks {client.version()}, resumed: {client.session_reused}")
        client.sendall(REQUEST)
        answer = b""
        while more := client.recv(65536):
            answer += more
        return answer
