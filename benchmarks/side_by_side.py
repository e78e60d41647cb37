"""This balancer and HAProxy under the same load, in front of the same nginx servers, one after the other.

Absolute numbers belong to a machine and a minute; the ratio of two runs next to each other is
what can be compared. So both proxies stay up, and the runs alternate.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk"}
SERVERS = 3
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
"""wrk's units of time, in milliseconds."""

NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
{servers}
}}
"""
NGINX_SERVER = '  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "server {number}\\n"; }} }}'

HAPROXY = """\
global
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option forwardfor
  timeout connect 5s
  timeout client 30s
  timeout server 60s
frontend web
  bind 127.0.0.1:{port}
  default_backend app
backend app
  balance roundrobin
{servers}
"""

LBSERVICE = """\
[frontend web]
listen = 127.0.0.1:{port}
backend = app

[backend app]
balance = roundrobin
{servers}
"""


class CannotRun(Exception):
    """The benchmark cannot be run here, or its result would mean nothing; says why."""


@dataclass(frozen=True)
class Proxy:
    """A running proxy. Its access log is `log`."""

    name: str
    pid: int
    port: int
    log: Path


@dataclass(frozen=True)
class Run:
    """One run of wrk: requests, requests per second, 99th percentile in ms, and the proxy's CPU per request."""

    requests: int
    per_second: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True)
class Round:
    """Both proxies, one right after the other."""

    lbservice: Run
    haproxy: Run

    @property
    def ratio(self) -> float:
        """CPU of lbservice over CPU of HAProxy."""
        return self.lbservice.cpu_us / self.haproxy.cpu_us


def median_ratio(rounds: Sequence[Round]) -> float:
    """The ratio that is to be reported."""
    return statistics.median(each.ratio for each in rounds)


def measure(rounds: int, seconds: int, connections: int) -> Iterator[Round]:
    """The rounds, as they are done. The one that goes first changes from round to round."""
    programs = find_programs()
    with started(programs) as (ours, theirs):
        for proxy in (ours, theirs):
            wrk(programs["wrk"], proxy, 1, connections)  # warm up
        for number in range(rounds):
            order = (ours, theirs) if number % 2 == 0 else (theirs, ours)
            runs = {proxy.name: wrk(programs["wrk"], proxy, seconds, connections) for proxy in order}
            yield Round(runs[ours.name], runs[theirs.name])


def find_programs() -> dict[str, str]:
    """Where the programs are; says which Debian packages are missing."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    found = {name: shutil.which(name, path=path) for name in PACKAGES}
    missing = [PACKAGES[name] for name, where in found.items() if where is None]
    if missing:
        raise CannotRun(f"missing Debian packages; as root: apt-get install {' '.join(missing)}")
    return {name: where for name, where in found.items() if where is not None}


@contextmanager
def started(programs: dict[str, str]) -> Iterator[tuple[Proxy, Proxy]]:
    """nginx with its servers, and both proxies; all of it is gone afterwards."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="lbservice-bench-")))
        ports = free_ports(SERVERS + 2)
        servers, ours, theirs = ports[:SERVERS], ports[-2], ports[-1]
        listening = (NGINX_SERVER.format(port=port, number=number) for number, port in enumerate(servers, 1))
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers="\n".join(listening)))
        lines = (f"server s{number} = 127.0.0.1:{port}" for number, port in enumerate(servers, 1))
        (folder / "lb.ini").write_text(LBSERVICE.format(port=ours, servers="\n".join(lines)))
        lines = (f"  server s{number} 127.0.0.1:{port} check" for number, port in enumerate(servers, 1))
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=theirs, servers="\n".join(lines)) + "\n")

        def start(name: str, *command: str, port: int) -> int:
            return start_process(cleanup, folder / f"{name}.out", command, port)

        start("nginx", programs["nginx"], "-p", str(folder), "-c", str(folder / "nginx.conf"), port=servers[-1])
        twistd = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
        options = ("--nodaemon", "--pidfile=", "loadbalancer", "--config", "lb.ini")
        pid = start("lbservice", *twistd, *options, port=ours)
        first = Proxy("lbservice", pid, ours, folder / "load_balancer.log")
        pid = start("haproxy", programs["haproxy"], "-db", "-f", str(folder / "haproxy.cfg"), port=theirs)
        yield first, Proxy("haproxy", pid, theirs, folder / "haproxy.out")


def start_process(cleanup: ExitStack, output: Path, command: Sequence[str], port: int) -> int:
    """Start a process and wait until it accepts connections at the port; its pid."""
    with open(output, "wb") as file:
        process = subprocess.Popen(
            command, cwd=output.parent, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    cleanup.callback(end, process)
    deadline = time.monotonic() + 10
    while not accepts(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotRun(f"{output.stem} did not start:\n{output.read_text()[-2000:]}")
        time.sleep(0.02)
    return process.pid


def end(process: subprocess.Popen[bytes]) -> None:
    """End a child."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    """Does somebody listen there?"""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(number: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, in nanoseconds."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def wrk(program: str, proxy: Proxy, seconds: int, connections: int) -> Run:
    """One run; raises CannotRun when a request failed, or was not logged."""
    logged, before = proxy.log.stat().st_size, cpu_ns(proxy.pid)
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{proxy.port}/"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    cpu = cpu_ns(proxy.pid) - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise CannotRun(f"{proxy.name} failed requests:\n{output}")
    requests = int(_found(r"(\d+) requests in", output)[0])
    if proxy.log.stat().st_size - logged < 50 * requests:
        raise CannotRun(f"{proxy.name} has not logged its requests in {proxy.log}")
    p99, unit = _found(r"99%\s+([\d.]+)(us|ms|s|m)\b", output)
    (per_second,) = _found(r"Requests/sec:\s+([\d.]+)", output)
    return Run(requests, float(per_second), float(p99) * UNITS[unit], cpu / requests / 1000)


def _found(pattern: str, output: str) -> tuple[str, ...]:
    match = re.search(pattern, output)
    if match is None:
        raise CannotRun(f"wrk answered without {pattern!r}:\n{output}")
    return match.groups()
