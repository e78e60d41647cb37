from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from lbservice.admin.probe import ProbeRow, probe
from lbservice.config import parse
from tests.support.actors import Origin, answer
from tests.support.wire import MemoryNetwork

INI = """\
[frontend web]
listen = 127.0.0.1:8080
backend = app
[backend app]
check = http GET /health
agent-check = 8090
server s1 = 10.0.0.1:80
server s2 = 10.0.0.2:80
server s3 = 10.0.0.3:80 no-check
[backend none]
check = none
server s1 = 10.0.0.9:80
"""


def test_every_check_and_every_agent_is_asked_once() -> None:
    network = MemoryNetwork(Clock())
    healthy = Origin(network, ("10.0.0.1", 80), answer(b"", status=b"204 x"))
    agent = Origin(network, ("10.0.0.3", 8090), raw=True, greeting=b"75%\n")
    rows: list[ProbeRow] = []
    done = Deferred.fromCoroutine(probe(parse(INI), network, network.clock))
    done.addCallback(rows.extend)
    network.run(3)
    assert [(row.server, row.by, row.result, row.code) for row in rows] == [
        ("app/s1", "check", "passed", "L7OK"),
        ("app/s1", "agent", "failed", "L4CON"),
        ("app/s2", "check", "failed", "L4CON"),
        ("app/s2", "agent", "failed", "L4CON"),
        ("app/s3", "agent", "passed", "L7OK"),
    ]
    assert (rows[0].took, rows[0].detail) == ("0.0ms", "status 204")
    assert (len(healthy.requests), len(agent.connections)) == (1, 1)
    healthy.gone()
    agent.gone()
    network.run()
    assert (network.sockets, network.clock.getDelayedCalls()) == ([], [])
