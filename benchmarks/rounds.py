"""Rounds: every program once, one right after the other, and the order turns from round to round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.load import Load
from benchmarks.peers import Peer
from benchmarks.processes import CannotRun, cpu_ns
from benchmarks.result import Round, Run
from benchmarks.scene import Proxy, Scene
from benchmarks.stage import Stage, staged

WARM_UP = 1.0
"""Seconds of load on each proxy before anything is measured."""
LOG_PATIENCE = 5.0
"""Seconds that a proxy may take to write the last lines of its log."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for: how many rounds, the seconds of each run, and the peers that take part.

    `rate`, requests a second, is for half-rate (0: find out); `long`, seconds, for stalls.
    """

    rounds: int
    seconds: float
    peers: tuple[Peer, ...]
    rate: float = 0.0
    long: float = 30.0


Left = dict[str, str]
"""Programs that are left out, with the reason."""


class Measure(Protocol):
    """Measures one workload: gives the rounds as they are done, and notes who is left out. Raises CannotRun."""

    def __call__(self, plan: Plan, left_out: Left) -> Iterator[Round]: ...


def alternating(scene: Scene, load: Callable[[Proxy, float], Load]) -> Measure:
    """The usual way: all proxies stay up, and take turns under the load."""

    def measure(plan: Plan, left_out: Left) -> Iterator[Round]:
        with staged(scene, plan.peers) as stage:
            left_out.update(stage.left_out)
            yield from take_turns(stage, plan, load)

    return measure


def take_turns(stage: Stage, plan: Plan, load: Callable[[Proxy, float], Load]) -> Iterator[Round]:
    """The rounds on a stage that is set."""
    proxies = list(stage.proxies.values())
    for proxy in proxies:
        load(proxy, WARM_UP)
    for number in range(plan.rounds):
        runs = {proxy.name: account(proxy, partial(load, proxy, plan.seconds)) for proxy in turned(proxies, number)}
        yield {proxy.name: runs[proxy.name] for proxy in proxies}


def turned(items: Sequence[T], number: int) -> list[T]:
    """The same, beginning with another one each time."""
    at = number % len(items)
    return [*items[at:], *items[:at]]


def account(proxy: Proxy, work: Callable[[], Load]) -> Run:
    """Do the work; what it found, and the proxy's CPU for it, with its log written.

    Raises CannotRun when there are fewer lines in the log than there were requests.
    """
    logged, before = _size(proxy.log), cpu_ns(proxy.pid)
    load = work()
    await_log(proxy, logged, load.lines)
    cpu = cpu_ns(proxy.pid) - before
    return {
        "requests": load.requests,
        "transfers": load.transfers,
        "cpu_us": cpu / load.transfers / 1000,
        "per_second": load.per_second,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "max_ms": load.max_ms,
        **(load.more or {}),
    }


def await_log(proxy: Proxy, offset: int, lines: int) -> None:
    """Wait until so many lines have come into the log behind `offset` (bytes). Raises CannotRun."""
    deadline = time.monotonic() + LOG_PATIENCE
    found = 0
    while True:
        count, offset = _new_lines(proxy.log, offset)
        found += count
        if found >= lines:
            return
        if time.monotonic() > deadline:
            raise CannotRun(f"{proxy.name} has logged {found} of {lines} in {proxy.log.name}")
        time.sleep(0.05)


def _new_lines(path: Path, offset: int) -> tuple[int, int]:
    """Ends of lines behind the offset, and the offset behind what was read."""
    count = 0
    with open(path, "rb") as file:
        file.seek(offset)
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            offset += len(block)
    return count, offset


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
