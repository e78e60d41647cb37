"""Where and with what it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers import Peer
from benchmarks.processes import Missing, debian, first_line


def about(peers: Iterable[Peer]) -> dict[str, str]:
    """Date, machine and versions, in words."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{_cpu()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "lbservice": f"{version('lbservice')}, commit {_commit()}",
        "Python": f"{_python()}, Twisted {version('Twisted')}, cryptography {version('cryptography')}",
        "programs": ", ".join(_versions(peers)),
    }


def _versions(peers: Iterable[Peer]) -> Iterable[str]:
    for peer in peers:
        try:
            if peer.name != "lbservice":
                yield f"{peer.name}: {peer.version(peer.find())}"
        except Missing:
            continue
    try:
        yield " ".join(first_line(debian("wrk"), "-v").split()[:2])
    except Missing:
        pass


def _python() -> str:
    """Version and origin: as distributions build it, the interpreter costs some 10 % less."""
    own = Path(sys.executable).resolve().parent == Path("/usr/bin")
    return f"{platform.python_version()} ({'of the distribution' if own else 'another than the distribution has'})"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """Of the checkout that this file lies in; with a + when something has been changed."""
    here = Path(__file__).parent
    command = ("git", "-C", str(here), "describe", "--always", "--dirty=+")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
