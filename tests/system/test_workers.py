"""Many clients in front of a few workers that can do one thing at a time: the queue, as its users meet it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.support.accessline import parse
from tests.support.load import Load
from tests.support.processes import Balancer, eventually, free_port, lb_ini
from tests.support.workers import Workers

pytestmark = pytest.mark.system

CLIENTS, WORKERS, REQUESTS = 200, 20, 3000
ROUNDING = 2
"""Milliseconds by which moments in the log may be off."""


@pytest.mark.parametrize("balance", ["roundrobin", "leastconn"])
def test_twenty_workers_behind_two_hundred_clients(tmp_path: Path, balance: str) -> None:
    port = free_port()
    with Workers(WORKERS) as workers:
        lines = [f"server w{n} = 127.0.0.1:{port} maxconn=1" for n, port in enumerate(workers.ports, 1)]
        backend = f"balance = {balance}\ncheck = none\ntimeout queue = 20s"
        with Balancer(tmp_path, lb_ini(port, lines, backend=backend)) as balancer:
            with Load(port, clients=CLIENTS, pause=0.0) as load:
                eventually(lambda: load.responses >= REQUESTS, 40, "the requests")
            load.check()
            seen = workers.report()
            log = [parse(line) for line in balancer.wait_for_access(load.responses)]

    assert [worker.most for worker in seen] == [1] * WORKERS, "a worker had more than one request at a time"
    assert sum(worker.requests for worker in seen) == load.responses == len(log)
    assert min(worker.requests for worker in seen) > REQUESTS / WORKERS / 3, "nobody is left out"

    log.sort(key=lambda line: arrival(line["id"]))
    assert {(line["state"], line["srv_queue"], line["retries"]) for line in log} == {("--", "0", "0")}
    # Whoever came earlier is served earlier.
    leased = [moment(line["date"]) + int(line["TR"]) + int(line["Tw"]) for line in log]
    latest = leased[0]
    for line, at in zip(log, leased, strict=True):
        assert at >= latest - ROUNDING, f"overtaken: {line}"
        latest = max(latest, at)
    # The place in the queue is how many were before, and nearly all had to wait.
    places = [int(line["backend_queue"]) for line in log]
    assert max(places) < CLIENTS
    assert sum(place > CLIENTS / 2 for place in places) > REQUESTS / 2
    for line, place in zip(log, places, strict=True):
        assert place == 0 or int(line["Tw"]) > 0, line


def arrival(request_id: str) -> int:
    """Requests are numbered as they come; the number is the second half of their id."""
    return int(request_id.partition("-")[2], 16)


def moment(date: str) -> int:
    """The date of an access line, in milliseconds."""
    return round(datetime.strptime(date, "%d/%b/%Y:%H:%M:%S.%f").timestamp() * 1000)
