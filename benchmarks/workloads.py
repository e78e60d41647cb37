"""The workloads, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from benchmarks.load import wrk
from benchmarks.processes import CannotRun
from benchmarks.rounds import Measure, alternating
from benchmarks.scene import Scene
from benchmarks.stage import FILES
from benchmarks.upload import upload

USUAL = ("cpu_us", "per_second", "p50_ms", "p99_ms")
SMALL, BULK = 50, 4
"""Client connections, for small messages and for large ones."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured. The first of `columns` is its cost; `peers` take part (None: all)."""

    name: str
    says: str
    measure: Measure
    columns: tuple[str, ...] = USUAL
    peers: frozenset[str] | None = None
    once: bool = False
    """One round is all that it takes."""


def _get(name: str, says: str, scene: Scene, *, close: bool = False) -> Workload:
    return Workload(name, says, alternating(scene, partial(wrk, connections=SMALL, close=close)))


def _down(name: str, says: str, scene: Scene, file: str, connections: int) -> Workload:
    load = partial(wrk, connections=connections, path=f"/{file}", size=FILES[file])
    return Workload(name, says, alternating(scene, load))


def _up(name: str, says: str, *, chunked: bool) -> Workload:
    scene = Scene(sink=True, bulk=True)
    load = partial(upload, connections=BULK, size=FILES["10m"], chunked=chunked)
    return Workload(name, says, alternating(scene, load))


ALL = (
    _get("get", "small GET, keep-alive, 50 connections", Scene()),
    _get("get-new", "small GET, a new connection each, 50 at a time", Scene(), close=True),
    _down("down-100k", "GET of 100 KiB, 50 connections", Scene(bulk=True), "100k", SMALL),
    _down("down-10m", "GET of 10 MB, 4 connections", Scene(bulk=True), "10m", BULK),
    _up("up-10m", "POST of 10 MB with a length, 4 connections", chunked=False),
    _up("up-10m-chunked", "POST of 10 MB in chunks of 32 KiB, 4 connections", chunked=True),
    _get("tcp-small", "TCP mode: small question and answer, 50 connections", Scene(mode="tcp", bulk=True)),
    _down("tcp-10m", "TCP mode: 10 MB, 4 connections", Scene(mode="tcp", bulk=True), "10m", BULK),
    _get("tls-get", "TLS: small GET, keep-alive, 50 connections", Scene(tls=True)),
    _get("tls-get-new", "TLS: small GET, a new connection and handshake each", Scene(tls=True), close=True),
    _down("tls-down-100k", "TLS: GET of 100 KiB, 50 connections", Scene(tls=True), "100k", SMALL),
)
WORKLOADS = {workload.name: workload for workload in ALL}
QUICK = ("get", "get-new", "down-10m")


def chosen(names: Iterable[str]) -> list[Workload]:
    """By name, or by the word before the first slash; all of them for no name. Raises CannotRun."""
    names = list(names)
    if not names:
        return list(WORKLOADS.values())
    found: dict[str, Workload] = {}
    for name in names:
        these = {each.name: each for each in WORKLOADS.values() if name in (each.name, each.name.partition("/")[0])}
        if not these:
            raise CannotRun(f"there is no workload {name!r}; --list shows them")
        found.update(these)
    return list(found.values())
