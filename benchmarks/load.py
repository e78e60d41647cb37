"""What a load generator found, and wrk, which makes most of the loads."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.processes import CannotRun, debian
from benchmarks.scene import Proxy

TIMES = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
"""wrk's units of time, in milliseconds."""
SIZES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
"""wrk's units of size, in bytes."""


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` that were answered well; `transfers` of them, with the parts of those that were cut off at the end.

    `lines` of access log are the least that must come of it. Times are in milliseconds.
    """

    requests: int
    transfers: float
    lines: int
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    more: Mapping[str, float] | None = None


def wrk(proxy: Proxy, seconds: float, *, connections: int, path: str = "/", close: bool = False, size: int = 0) -> Load:
    """One run on one thread. With `size`, bytes of a body, transfers are counted by bytes.

    `close`: a new connection for each request. Raises CannotRun when anything failed.
    """
    whole = max(1, round(seconds))
    header = ["-H", "Connection: close"] if close else []
    command = [debian("wrk"), "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "20s", "--latency", *header]
    done = subprocess.run([*command, proxy.url + path], capture_output=True, text=True, timeout=whole + 60, check=False)
    if done.returncode != 0:
        raise CannotRun(f"wrk failed on {proxy.name}:\n{done.stdout}{done.stderr}")
    lines = connections if proxy.scene.mode == "tcp" else None
    return read_wrk(done.stdout, proxy.name, size=size, lines=lines)


def read_wrk(output: str, name: str, *, size: int = 0, lines: int | None = None) -> Load:
    """What wrk printed. `lines`: log lines that are due, when not one for each request."""
    if "Non-2xx" in output or "Socket errors" in output:
        raise CannotRun(f"{name} failed requests:\n{output}")
    requests = int(_found(r"(\d+) requests in", output)[0])
    if not requests:
        raise CannotRun(f"{name} answered nothing:\n{output}")
    amount, unit = _found(r"requests in [\d.]+\w+, ([\d.]+)([KMGT]?B) read", output)
    transfers = float(amount) * SIZES[unit] / size if size else requests
    (per_second,) = _found(r"Requests/sec:\s+([\d.]+)", output)
    times = [_found(pattern, output) for pattern in (_percent(50), _percent(99), _LONGEST)]
    p50, p99, longest = (float(number) * TIMES[unit] for number, unit in times)
    return Load(requests, transfers, requests if lines is None else lines, float(per_second), p50, p99, longest)


_LONGEST = r"Latency\s+[\d.]+\w+\s+[\d.]+\w+\s+([\d.]+)(us|ms|s|m|h)\b"


def _percent(number: int) -> str:
    return rf"{number}%\s+([\d.]+)(us|ms|s|m|h)\b"


def _found(pattern: str, output: str) -> tuple[str, ...]:
    match = re.search(pattern, output)
    if match is None:
        raise CannotRun(f"wrk answered without {pattern!r}:\n{output}")
    return match.groups()
