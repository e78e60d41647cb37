"""How long the reactor keeps everybody waiting under full load: seen from inside (see `probe`) and by the clients."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.load import wrk
from benchmarks.peers import OURS, PEERS
from benchmarks.processes import start
from benchmarks.result import Round, Run, percentile
from benchmarks.rounds import WARM_UP, Left, Measure, Plan, account
from benchmarks.scene import Proxy, Scene
from benchmarks.stage import ROOT, Stage, staged

COLUMNS = ("late_max_ms", "own_max_ms", "late_p99_ms", "gc_max_ms", "p50_ms", "p99_ms", "max_ms")
TAC = "from benchmarks import probe\n\napplication = probe.application('lb.ini', 'probe.json')\n"


def stalls(*, close: bool) -> Measure:
    """Measures one kind of load: requests of 50 connections that stay, or that are new each time."""

    def measure(plan: Plan, left_out: Left) -> Iterator[Round]:
        with staged(Scene()) as stage:
            with ExitStack() as cleanup:
                proxy = started(cleanup, stage)
                wrk(proxy, WARM_UP, connections=50, close=close)
                began = time.monotonic()
                run = account(proxy, lambda: wrk(proxy, plan.long, connections=50, close=close))
                ended = time.monotonic()
            report = json.loads((proxy.log.parent / "probe.json").read_text())
        yield {OURS: {**run, **seen_inside(report, began, ended)}}

    return measure


def started(cleanup: ExitStack, stage: Stage) -> Proxy:
    """The balancer with the probe in it."""
    peer, setting = PEERS[OURS], stage.setting(OURS)
    setting.folder.mkdir()
    program, run, code, *_ = peer.configure(peer.find(), stage.scene, setting)
    (setting.folder / "probe.tac").write_text(TAC)
    command = (program, run, code, "--nodaemon", "--pidfile=", "--python", "probe.tac")
    pid = start(cleanup, setting.folder / "out", command, setting.port, environment={"PYTHONPATH": str(ROOT)})
    return Proxy(OURS, pid, setting.port, setting.folder / peer.log, stage.scene)


def seen_inside(report: Mapping[str, Sequence[Any]], began: float, ended: float) -> Run:
    """Milliseconds between two moments of the monotonic clock; `own` is our CPU within a delay."""
    samples = [(late, own) for when, late, own in report["samples"] if began <= when <= ended]
    late, own = sorted(each[0] for each in samples), sorted(each[1] for each in samples)
    pauses = [seconds for when, _, seconds in report["pauses"] if began <= when <= ended]
    return {
        "samples": len(samples),
        "late_p50_ms": percentile(late, 0.5) * 1000,
        "late_p99_ms": percentile(late, 0.99) * 1000,
        "late_p999_ms": percentile(late, 0.999) * 1000,
        "late_max_ms": percentile(late, 1) * 1000,
        "own_p99_ms": percentile(own, 0.99) * 1000,
        "own_max_ms": percentile(own, 1) * 1000,
        "gc_max_ms": max(pauses, default=0.0) * 1000,
        "gc_sum_ms": sum(pauses) * 1000,
        "gc_count": len(pauses),
    }
