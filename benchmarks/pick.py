"""What the choice of a server costs by itself: Backend.acquire and Lease.succeeded, in this process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.peers import OURS
from benchmarks.result import Round
from benchmarks.rounds import Left, Measure, Plan
from lbservice import config, policies
from lbservice.core.backend import Backend, Lease
from lbservice.core.events import Access
from lbservice.core.health import Health
from lbservice.core.pick import PickInfo
from lbservice.core.server import Server

IN_FLIGHT = 50
"""Leases that are open all the time."""
BATCH = 1000
BATCHES = 20


def picking(balance: str, servers: int) -> Measure:
    """Measures one policy with so many servers."""

    def measure(plan: Plan, left_out: Left) -> Iterator[Round]:
        for _ in range(plan.rounds):
            yield {OURS: {"pick_us": min(batches(backend(balance, servers)))}}

    return measure


def backend(balance: str, servers: int) -> Backend:
    """As the balancer makes it from lb.ini, with every server up."""
    lines = "".join(f"server s{number} = 127.0.0.1:{number + 1}\n" for number in range(servers))
    with TemporaryDirectory(prefix="lbservice-bench-") as folder:
        path = Path(folder) / "lb.ini"
        path.write_text(
            f"[frontend web]\nlisten = 127.0.0.1:1\nbackend = app\n[backend app]\nbalance = {balance}\n{lines}"
        )
        settings = config.load(str(path)).backends[0]
    made = Backend(settings, policies.make(settings.balance, time.monotonic, Random(1)))
    for each in settings.servers:
        made.add(Server(made.name, each, Health()))
    return made


def batches(made: Backend) -> list[float]:
    """CPU of a pick and its return, in microseconds; the mean of each batch. No key comes twice."""
    leases: deque[Lease] = deque(_lease(made, info) for info in _requests(0)[:IN_FLIGHT])
    costs = []
    for batch in range(1, 1 + BATCHES):
        infos = _requests(batch)
        costs.append(_timed(partial(_turn_over, made, infos, leases)) / BATCH * 1e6)
    return costs


def _requests(batch: int) -> list[_Asking]:
    return [
        _Asking(f"10.{batch}.{number // 250}.{number % 250}", b"/%d/%d" % (batch, number)) for number in range(BATCH)
    ]


class _Asking(PickInfo):
    """A request that says what a hash asks for."""

    def __init__(self, source: str, key: bytes) -> None:
        super().__init__(source)
        self._key = key

    @property
    def key(self) -> bytes:
        return self._key


def _turn_over(made: Backend, infos: list[_Asking], leases: deque[Lease]) -> None:
    access = Access(True, "", "", made.name, 0.0)
    access.status = 200
    for info in infos:
        leases.popleft().succeeded(access)
        leases.append(_lease(made, info))


def _lease(made: Backend, info: PickInfo) -> Lease:
    lease = made.acquire(info)
    assert lease is not None, "no server is full here"
    return lease


def _timed(work: Callable[[], None]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began
