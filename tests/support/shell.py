"""What a running balancer says of itself, asked through its unix manhole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lbservice.admin.client import run_script

MANHOLE = "[manhole]\nlisten = unix:run/manhole.sock\n"
"""The section of lb.ini that opens it."""

_COUNT = """
from operator import attrgetter
uptime, frontends, backends = lb.stats().parts
print(sum(map(attrgetter("in_flight"), lb.servers())), sum(map(attrgetter("in_flight"), backends)),
      sum(map(attrgetter("waiting"), backends)), sum(map(attrgetter("connections"), frontends)))
"""


@dataclass(frozen=True)
class Counters:
    """Sums over everything: leases (as the servers and as the backends count them), the queues, client connections."""

    in_flight: int
    lent: int
    waiting: int
    connections: int


AT_REST = Counters(0, 0, 0, 0)


def ask(folder: Path, script: str) -> str:
    """Run a script in the balancer whose folder that is; its output. An error there is an AssertionError here."""
    output, error = run_script(str(folder / "run" / "manhole.sock"), script)
    assert not error, error
    return output


def counters(folder: Path) -> Counters:
    """Its counters now."""
    return Counters(*map(int, ask(folder, _COUNT).split()))
