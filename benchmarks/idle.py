"""What an idle client connection costs: memory, and CPU for keeping it."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.processes import CannotRun, cpu_ns, rss_kib
from benchmarks.result import Round, Run
from benchmarks.rounds import Left, Plan, await_log
from benchmarks.scene import Proxy, Scene
from benchmarks.stage import staged

MANY = 10_000
SPARE = 400
"""Open files that a process needs besides: servers, logs, the connections of the warm-up."""
SETTLE, WATCH = 1.0, 2.0
"""Seconds: until memory is looked at, and for which the CPU is watched then."""
REQUEST = b"GET / HTTP/1.1\r\nHost: bench.invalid\r\n\r\n"


def idle(plan: Plan, left_out: Left) -> Iterator[Round]:
    """A fresh process of each, because memory that has been used once is not given back."""
    for _ in range(plan.rounds):
        runs: dict[str, Run] = {}
        for peer in plan.peers:
            with staged(Scene(), [peer]) as stage:
                left_out.update(stage.left_out)
                for proxy in stage.proxies.values():
                    runs[proxy.name] = measure(proxy, connections())
        yield runs


def connections() -> int:
    """`MANY`, or what the limit of open files allows: a balancer may count two files for each client."""
    return min(MANY, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - SPARE)


def measure(proxy: Proxy, number: int) -> Run:
    """Growth of resident memory for each connection (KiB), and CPU for all of them (microseconds a second)."""
    with ExitStack() as cleanup:
        warm_up(proxy)
        before, logged = rss_kib(proxy.pid), proxy.log.stat().st_size
        for _ in range(number):
            client = cleanup.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=10))
            ask(proxy, client)
        await_log(proxy, logged, number)
        time.sleep(SETTLE)
        grown = rss_kib(proxy.pid) - before
        cpu = cpu_ns(proxy.pid)
        time.sleep(WATCH)
        spent = cpu_ns(proxy.pid) - cpu
        ask(proxy, client)
        return {"connections": number, "kib_each": grown / number, "idle_us": spent / 1000 / WATCH}


def warm_up(proxy: Proxy) -> None:
    """Let it load what it loads for its first requests."""
    with ExitStack() as cleanup:
        clients = [
            cleanup.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=10)) for _ in range(50)
        ]
        for _ in range(10):
            for client in clients:
                ask(proxy, client)
    time.sleep(SETTLE)


def ask(proxy: Proxy, client: socket.socket) -> None:
    """One request. Raises CannotRun when it is not answered well."""
    try:
        client.sendall(REQUEST)
        answer = client.recv(65536)
    except OSError as error:
        raise CannotRun(f"{proxy.name} dropped an idle connection: {error}") from error
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise CannotRun(f"{proxy.name} answered {answer[:200]!r}")
