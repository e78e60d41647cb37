"""The workloads, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from benchmarks.fresh import handshakes
from benchmarks.idle import idle
from benchmarks.load import wrk
from benchmarks.peers import BASE, OURS, PEERS
from benchmarks.pick import picking
from benchmarks.processes import CannotRun
from benchmarks.rounds import Measure, alternating
from benchmarks.scene import Scene
from benchmarks.stage import FILES
from benchmarks.stalls import COLUMNS, stalls
from benchmarks.steady import half_rate
from benchmarks.upload import upload

USUAL = ("cpu_us", "per_second", "p50_ms", "p99_ms")
RATED = ("p99_ms", "p50_ms", "cpu_us", "per_second", "late_send_p99_ms")
IDLE = ("kib_each", "idle_us", "connections")
JUST = frozenset({OURS})
SHARED = ("roundrobin", "leastconn")
"""Policies that are measured with everything around them, beside the other programs that know them."""
CHOOSING = (
    *(*SHARED, "random", "least-time", "peak-ewma", "first", "source", "uri", "header(X-User)", "cookie(sid)"),
    *("param(id)", "maglev uri"),
)
"""All there are: what the choice costs by itself."""
FORCED = "HAProxy made to splice: with splice-auto it mostly copies here"
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
    return Workload(name, says, alternating(scene, load), peers=_concerned(scene))


def _up(name: str, says: str, *, chunk: int = 0, splice: str = "auto") -> Workload:
    scene = Scene(sink=True, splice=splice)
    load = partial(upload, connections=BULK, size=FILES["10m"], chunk=chunk)
    return Workload(name, says, alternating(scene, load), peers=_concerned(scene))


def _concerned(scene: Scene) -> frozenset[str] | None:
    """Whom a setting of HAProxy's alone is measured with; None for everybody."""
    return frozenset({OURS, BASE, "haproxy-new"}) if scene.splice == "always" else None


def _servers(balance: str, number: int) -> Workload:
    measure = alternating(Scene(servers=number, balance=balance), partial(wrk, connections=SMALL))
    peers = frozenset(name for name in (OURS, BASE) if balance in (PEERS[name].balances or SHARED))
    return Workload(f"servers/{balance}/{number}", f"small GET, {number} servers, {balance}", measure, USUAL, peers)


def _pick(balance: str, number: int) -> Workload:
    says = f"the choice of one of {number} servers, {balance}"
    return Workload(f"pick/{balance}/{number}", says, picking(balance, number), ("pick_us",), JUST)


def _stalls(name: str, says: str, *, close: bool) -> Workload:
    return Workload(
        f"stalls/{name}", f"the reactor under full load, {says}", stalls(close=close), COLUMNS, JUST, once=True
    )


ALL = (
    _get("get", "small GET, keep-alive, 50 connections", Scene()),
    _get("get-new", "small GET, a new connection each, 50 at a time", Scene(), close=True),
    _get(
        "get-new-reuse",
        "the same, HAProxy with http-reuse always: by default it connects anew for a client's first request",
        Scene(reuse=True),
        close=True,
    ),
    _down("down-100k", "GET of 100 KiB, 50 connections", Scene(splice="auto"), "100k", SMALL),
    _down("down-10m", "GET of 10 MB, 4 connections", Scene(splice="auto"), "10m", BULK),
    _down("down-10m-splice", f"the same, {FORCED}", Scene(splice="always"), "10m", BULK),
    _up("up-10m", "POST of 10 MB with a length, 4 connections"),
    _up("up-10m-splice", f"the same, {FORCED}", splice="always"),
    _up("up-10m-chunked", "POST of 10 MB in chunks of 32 KiB, as many clients send it, 4 connections", chunk=32 << 10),
    _up("up-10m-chunks-1m", "POST of 10 MB in chunks of 1 MiB, 4 connections", chunk=1 << 20),
    _get("tcp-small", "TCP mode: small question and answer, 50 connections", Scene(mode="tcp", splice="auto")),
    _down("tcp-10m", "TCP mode: 10 MB, 4 connections", Scene(mode="tcp", splice="auto"), "10m", BULK),
    _down("tcp-10m-splice", f"the same, {FORCED}", Scene(mode="tcp", splice="always"), "10m", BULK),
    _get("tls-get", "TLS: small GET, keep-alive, 50 connections", Scene(tls=True)),
    Workload(
        "tls-get-new",
        "TLS: small GET, a new connection and a whole handshake each, 8 at a time",
        alternating(Scene(tls=True), partial(handshakes, connections=8)),
    ),
    _get(
        "tls-get-resumed",
        "TLS: small GET, a new connection each; the session is resumed by wrk where the proxy lets it",
        Scene(tls=True),
        close=True,
    ),
    _down("tls-down-100k", "TLS: GET of 100 KiB, 50 connections", Scene(tls=True), "100k", SMALL),
    Workload("half-rate", "small GET at half of HAProxy's top rate, latency from when it was due", half_rate, RATED),
    Workload("idle", "10 000 idle connections of clients that have asked once", idle, IDLE, once=True),
    *(_servers(balance, number) for balance in SHARED for number in (10, 100, 500)),
    *(_pick(balance, number) for balance in CHOOSING for number in (10, 100, 500)),
    _stalls("get", "50 connections that stay", close=False),
    _stalls("get-new", "50 connections at a time, new for each request", close=True),
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
