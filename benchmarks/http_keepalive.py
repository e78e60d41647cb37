"""CPU per small keep-alive GET: this balancer and HAProxy, side by side, both with access logs.

    python benchmarks/http_keepalive.py [--rounds 3] [--seconds 5] [--connections 50] [--json]

Both run on one thread before the same three nginx servers, and take turns under the same wrk. CPU
is what the kernel says of the proxy process (/proc/PID/task/*/schedstat), so that wrk and nginx,
which share the machine, change it little; requests/s and p99 they do change.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict

from side_by_side import CannotRun, Round, Run, measure, median_ratio

HEAD = "round |      lbservice: CPU   requests/s        p99 |        HAProxy: CPU   requests/s        p99 | ratio"


def main() -> int:
    """Exit code 0, or 1 when it cannot be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=int, default=5, help="of each run; default: 5")
    parser.add_argument("--connections", type=int, default=50, help="default: 50")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that everything is cleaned up

    rounds: list[Round] = []
    try:
        for each in measure(options.rounds, options.seconds, options.connections):
            rounds.append(each)
            if not options.json:
                print_round(len(rounds), each)
    except CannotRun as error:
        print(f"http_keepalive: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    if options.json:
        print(json.dumps(report(options, rounds), indent=2))
    else:
        print(f"\nMedian ratio of CPU per request, lbservice / HAProxy: {median_ratio(rounds):.2f}")
    return 0


def print_round(number: int, each: Round) -> None:
    """One line of the table, after its head."""
    if number == 1:
        print(HEAD)
    print(f"{number:5} | {words(each.lbservice)} | {words(each.haproxy)} | {each.ratio:5.2f}", flush=True)


def words(run: Run) -> str:
    """As the table shows it."""
    return f"{run.cpu_us:16.1f} us {run.per_second:12,.0f} {run.p99_ms:7.2f} ms"


def report(options: argparse.Namespace, rounds: list[Round]) -> dict[str, object]:
    """As --json shows it."""
    return {
        "seconds": options.seconds,
        "connections": options.connections,
        "rounds": [asdict(each) | {"ratio": round(each.ratio, 3)} for each in rounds],
        "median_ratio": round(median_ratio(rounds), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
