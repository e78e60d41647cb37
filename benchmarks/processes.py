"""Processes that a benchmark starts, asks the kernel about and ends again; only on 127.0.0.0/8."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk"}
"""The Debian package of each program."""
FILES = 65_536
"""Open files that the benchmark and what it starts would like to have."""
START = 15.0
"""Seconds that a program may take until it listens."""


class CannotRun(Exception):
    """The benchmark cannot be run here, or its result would mean nothing; says why."""


class Missing(CannotRun):
    """A program is not installed; says how to get it."""


def debian(program: str) -> str:
    """Where a program of a Debian package is. Raises Missing."""
    where = shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if where is None:
        raise Missing(f"{program} is missing; as root: apt-get install {PACKAGES[program]}")
    return where


def first_line(*command: str) -> str:
    """The first line that a program prints, on whichever stream; for versions."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    return done.stdout.strip().partition("\n")[0]


def start(
    cleanup: ExitStack,
    output: Path,
    command: Sequence[str],
    port: int,
    host: str = "127.0.0.1",
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start a process in the folder of `output` and wait until it accepts connections there; its pid.

    `cleanup` ends it. Raises CannotRun with what it printed.
    """
    with open(output, "wb") as file:
        process = subprocess.Popen(
            command,
            cwd=output.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    cleanup.callback(end, process)
    deadline = time.monotonic() + START
    while not accepts(port, host):
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotRun(f"{output.stem} did not start:\n{output.read_text(errors='replace')[-2000:]}")
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


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Does somebody listen there?"""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


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


def rss_kib(pid: int) -> int:
    """Resident memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise CannotRun(f"process {pid} has ended")


def raise_file_limit() -> int:
    """Let this process and its children have as many open files as is allowed, up to `FILES`; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, FILES), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (ValueError, OSError):  # only root may raise the hard limit
            continue
    return hard
