"""Latency at a fixed rate, without coordinated omission.

Requests are due at random moments (a Poisson process with a fixed seed, so the same for everybody),
whatever the proxy does. Each is sent on a connection that is free; if none is free it waits, and its
latency runs from the moment it was due. So a stall is felt by every request that was due in it.
h2load --rps does neither: its clients look at the clock every 10 ms at most, all of them together, and
count from the sending. wrk has no rate at all.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

from benchmarks.load import Load, wrk
from benchmarks.processes import CannotRun
from benchmarks.result import Round, percentile
from benchmarks.rounds import WARM_UP, Left, Plan, take_turns
from benchmarks.scene import Proxy, Scene
from benchmarks.stage import staged

REQUEST = b"GET / HTTP/1.1\r\nHost: bench.invalid\r\n\r\n"
CONNECTIONS = 100
PATIENCE = 5.0
"""Seconds after the last request was due; what has not been answered then makes the run invalid."""


def half_rate(plan: Plan, left_out: Left) -> Iterator[Round]:
    """Everybody at half of what HAProxy can do here and now; and the servers without a proxy, as the floor.

    The proxies have a core to themselves, as they have in front of clients on other machines. Else the kernel lets them
    wait for the generator, in slices of milliseconds, and that is the p99 of whoever needs more than half a core.
    """
    with ExitStack() as cleanup:
        ours, theirs = _share_out(os.sched_getaffinity(0))
        cleanup.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, ours)  # and with it what is started from now on
        stage = cleanup.enter_context(staged(Scene(), plan.peers))
        left_out.update(stage.left_out)
        for proxy in stage.proxies.values():
            for thread in os.listdir(f"/proc/{proxy.pid}/task"):
                os.sched_setaffinity(int(thread), theirs)
        wrk(stage.base, WARM_UP, connections=50)
        rate = plan.rate or wrk(stage.base, plan.seconds, connections=50).per_second / 2
        direct = stage.servers[0][1]

        def load(proxy: Proxy, seconds: float) -> Load:
            return steady(proxy.name, proxy.port, seconds, rate)

        for each in take_turns(stage, plan, load):
            floor = steady("nginx without a proxy", direct, plan.seconds, rate)
            yield {
                **each,
                "no proxy": {"per_second": floor.per_second, "p50_ms": floor.p50_ms, "p99_ms": floor.p99_ms},
            }


def _share_out(cores: set[int]) -> tuple[set[int], set[int]]:
    """Cores for the generator and the servers, and the one for the proxies; with one core, that one for all."""
    last = {max(cores)}
    return cores - last or last, last


def steady(name: str, port: int, seconds: float, rate: float, seed: int = 1) -> Load:
    """`rate` requests a second for so many seconds; latencies from the moments they were due.

    `late_send_p99_ms` in the load says how late this generator itself was with free connections:
    what is below it cannot be told apart. Raises CannotRun for an answer that is none, or never comes.
    """
    random = Random(seed)
    offsets = array("d")
    at = 0.0
    while (at := at + random.expovariate(rate)) < seconds:
        offsets.append(at)
    with ExitStack() as cleanup:
        poller = cleanup.enter_context(select.epoll())
        clients = {}
        for _ in range(CONNECTIONS):
            client = cleanup.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poller.register(client, select.EPOLLIN)
            clients[client.fileno()] = client
        gc.collect()
        gc.disable()
        cleanup.callback(gc.enable)
        latencies, lateness = _run(name, poller, clients, offsets, seconds)
    ordered, late = sorted(latencies), sorted(lateness)
    p50, p99 = percentile(ordered, 0.5) * 1000, percentile(ordered, 0.99) * 1000
    more = {"rate": rate, "late_send_p99_ms": percentile(late, 0.99) * 1000}
    count = len(ordered)
    return Load(count, count, count, count / seconds, p50, p99, ordered[-1] * 1000, more)


def _run(
    name: str, poller: select.epoll, clients: dict[int, socket.socket], offsets: array[float], seconds: float
) -> tuple[array[float], array[float]]:
    """The latencies in seconds, and how late requests were sent although a connection was free."""
    clock = time.perf_counter
    free, due_of = list(clients.values()), dict.fromkeys(clients, 0.0)
    latencies, lateness = array("d"), array("d")
    began = clock() + 0.01
    deadline = began + seconds + PATIENCE
    position, total, blocked = 0, len(offsets), False
    due = began + offsets[0]
    while len(latencies) < total:
        now = clock()
        while position < total and due <= now and free:
            client = free.pop()
            client.send(REQUEST)
            due_of[client.fileno()] = due
            if not blocked:
                lateness.append(now - due)
            position += 1
            due = began + offsets[position] if position < total else deadline
        blocked = not free and position < total and due <= now
        events = poller.poll(0)
        if not events:  # epoll counts in milliseconds; select on the same file counts in microseconds
            wait = deadline if blocked or position == total else min(due, deadline)
            select.select([poller], [], [], max(0.0, wait - clock()))
            events = poller.poll(0)
        for fd, _ in events:
            answer = clients[fd].recv(65536)
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"\n"):
                raise CannotRun(f"{name} answered {answer[:200]!r}")
            latencies.append(clock() - due_of[fd])
            free.append(clients[fd])
        if now > deadline:
            raise CannotRun(f"{name} has answered {len(latencies)} of {total} requests after {seconds + PATIENCE:g} s")
    return latencies, lateness
