"""The command line: python -m benchmarks [workload ...], or make bench BENCH_ARGS="..."."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import table
from benchmarks.about import about
from benchmarks.compare import compare, read
from benchmarks.peers import BASE, OURS, PEERS, Peer
from benchmarks.processes import CannotRun, raise_file_limit
from benchmarks.result import Result
from benchmarks.rounds import Left, Plan
from benchmarks.workloads import QUICK, WORKLOADS, Workload, chosen

ROUNDS, SECONDS = 5, 2.0
QUICK_ROUNDS, QUICK_SECONDS = 3, 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 when something cannot be measured or means nothing, or a ratio is above --max-ratio."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that everything is cleaned up
    try:
        if options.list:
            print("\n".join(table.aligned([[each.name, each.says] for each in WORKLOADS.values()], words=True)))
            return 0
        if options.compare:
            print(compare(*map(read, options.compare)))
            return 0
        return _measure(options)
    except CannotRun as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workload", nargs="*", help="default: all")
    parser.add_argument("--list", action="store_true", help="the workloads")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--seconds", type=float, help="of each run; default: 2")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second for half-rate")
    parser.add_argument("--long", type=float, default=30.0, help="seconds of each run of stalls; default: 30")
    parser.add_argument("--peers", help=f"with commas between; default: {','.join(n for n in PEERS if n != OURS)}")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} beside {BASE} only, and short")
    parser.add_argument("--max-ratio", type=float, help=f"exit code 1 when a median ratio to {BASE} is above it")
    parser.add_argument("--json", metavar="FILE", help="write everything there, - for standard output")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument("--write", metavar="FILE", type=Path, help="put them between the markers of this file")
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"), help="two files of --json")
    options = parser.parse_args(arguments)
    options.workload = options.workload or (list(QUICK) if options.quick else [])
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    if options.peers is None:
        options.peers = BASE if options.quick else ",".join(PEERS)
    return options


def _measure(options: argparse.Namespace) -> int:
    workloads = chosen(options.workload)
    peers = _peers(options.peers)
    if options.write is not None:
        table.parted(options.write)  # better now than after half an hour
    raise_file_limit()
    results, failed = [], False
    plan = Plan(options.rounds, options.seconds, peers, options.rate, options.long)
    for workload in workloads:
        try:
            results.append(measured(workload, plan))
        except CannotRun as error:  # costs the workload, and the exit code, but not what was measured before
            print(f"bench: {workload.name}: {error}\n", file=sys.stderr)
            failed = True
        else:
            quiet = options.json == "-" or options.markdown
            print(table.text(results[-1]) + "\n", flush=True, file=sys.stderr if quiet else sys.stdout)
    _report(options, results, about(peers))
    return 1 if _above(options.max_ratio, results) or failed else 0


def measured(workload: Workload, plan: Plan) -> Result:
    """Measure one workload. Raises CannotRun."""
    peers = tuple(peer for peer in plan.peers if workload.peers is None or peer.name in workload.peers)
    plan = replace(plan, rounds=1 if workload.once else plan.rounds, peers=peers)
    left_out: Left = {}
    rounds = tuple(workload.measure(plan, left_out))
    return Result(workload.name, workload.says, workload.columns, rounds, left_out)


def _report(options: argparse.Namespace, results: list[Result], where: dict[str, str]) -> None:
    if options.json is not None:
        everything = {
            "about": where,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "results": [result.asdict() for result in results],
        }
        body = json.dumps(everything, indent=1) + "\n"
        if options.json == "-":
            sys.stdout.write(body)
        else:
            Path(options.json).write_text(body)
    if options.markdown:
        print(table.markdown(results, where))
    if options.write is not None:
        table.write_between(options.write, table.markdown(results, where))


def _above(limit: float | None, results: list[Result]) -> bool:
    """Is a ratio above the limit, or unknown although it should be known? Says so."""
    found = False
    for result in results:
        peers, ratio = WORKLOADS[result.workload].peers, result.ratio(OURS, BASE)
        if limit is None or (peers is not None and BASE not in peers) or (ratio is not None and ratio <= limit):
            continue
        said = "is unknown" if ratio is None else f"{ratio:.2f} is above {limit:g}"
        print(f"bench: {result.workload}: the ratio to {BASE} {said}", file=sys.stderr)
        found = True
    return found


def _peers(names: str) -> tuple[Peer, ...]:
    """Ours first, whether it is named or not."""
    wanted = {OURS, *(name.strip() for name in names.split(",") if name.strip())}
    if unknown := wanted - PEERS.keys():
        raise CannotRun(f"there is no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return tuple(peer for peer in PEERS.values() if peer.name in wanted)
