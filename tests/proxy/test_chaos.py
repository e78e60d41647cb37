"""Whatever clients and servers do in whatever order, nothing leaks and no answer lies.

A seed decides everything, so a failure can be run again. `CHAOS=1000` in the environment tries that many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

import pytest

from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Admin, Ejection, Server
from lbservice.core.settings import PrioritySettings
from tests.support.actors import (
    Client,
    Connection,
    answer,
    die,
    dribble,
    field,
    hang,
    leave,
    response,
    then_close,
    then_die,
    wait,
)
from tests.support.house import House

MakeHouse = Callable[..., House]
CLASSES = PrioritySettings("X-Priority", ("high", "normal", "low"), 1)


def echo(connection: Connection) -> None:
    """Answer with the request's path: who gets another's answer notices."""
    path = connection.request.split(b" ")[1]
    connection.send(answer(path, b"X-Path: " + path))


def chunked_echo(connection: Connection) -> None:
    path = connection.request.split(b" ")[1]
    head = b"HTTP/1.1 200 OK\r\nX-Path: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(path), path)
    connection.send(head)
    connection.later(0.3, lambda: connection.send(body))


BIG = answer(b"x" * 200_000, b"X-Path: any")
SCRIPTS: list[Any] = [
    *[echo] * 6,
    chunked_echo,
    hang,
    die,
    leave,
    BIG,
    BIG,
    BIG,
    wait(1.5, answer(b"late", b"X-Path: any")),
    then_close(b"HTTP/1.1 200 OK\r\nX-Path: any\r\n\r\nuntil close"),
    then_close(BIG[:1000]),
    then_die(BIG[:1000], 0.2),
    then_die(b"HTTP/1.1 2", 0.2),
    dribble(answer(b"y" * 60, b"X-Path: any"), 20, 0.7),
    b"nonsense\r\n\r\n",
    answer(b"surplus", b"X-Path: any") + b"surplus",
    b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(b"hinted", b"X-Path: any"),
]


ODDS = (10, 1, 2, 2, 0.5, 0.7, 0.5)
HALVES = (b"GET /x HT", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")


class Visitor:
    """A client that asks for numbered paths, and may misbehave."""

    def __init__(self, house: House, random: Random, number: int) -> None:
        self.random = random
        self.number = number
        self.asked: list[bytes] = []
        self.methods: list[bytes] = []
        self.spoiled = False
        """It has sent half of something: what follows is not understood."""
        self.client: Client = house.client()
        self.client.lingers = random.random() < 0.3
        self.raw = b""

    def act(self) -> None:
        client, random = self.client, self.random
        if client.fate is not None or client.transport.disconnecting:
            return
        match random.choices(
            ("ask", "half", "pause", "resume", "finish", "abort", "close"), (10, 1, 1, 2, 0.5, 1, 0.5)
        ):
            case ["ask"] if not self.spoiled:
                for _ in range(random.choice((1, 1, 2, 5, 40))):
                    self.ask()
            case ["half"] if not self.spoiled:
                self.spoiled = True
                client.send(
                    random.choice((b"GET /x HT", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"))
                )
            case ["pause"]:
                client.stop_reading()
            case ["resume"] if not client.eof:
                client.read_on()
            case ["finish"]:
                client.finish()
                self.spoiled = True
            case ["abort"]:
                client.abort()
            case ["close"]:
                client.close()

    def ask(self) -> None:
        path = b"/%d-%d" % (self.number, len(self.asked))
        method = self.random.choice((b"GET", b"GET", b"POST", b"PUT", b"HEAD"))
        self.asked.append(path)
        self.methods.append(method)
        body, framing = b"", b""
        if method in (b"POST", b"PUT"):
            body = b"b" * self.random.choice((0, 10, 3000, 100_000))
            if body and self.random.random() < 0.5:
                framing = b"Transfer-Encoding: chunked\r\n"
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            else:
                framing = b"Content-Length: %d\r\n" % len(body)
        framing += self.random.choice((b"", b"X-Priority: high\r\n", b"X-Priority: low\r\n"))
        self.client.send(b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (method, path, framing, body))


@pytest.mark.parametrize("seed", range(int(os.environ.get("CHAOS", "30"))))
def test_chaos(make_house: MakeHouse, seed: int) -> None:
    random = Random(seed)
    house = make_house(
        3,
        server_maxconn=random.choice((0, 0, 1, 2)),
        maxqueue=random.choice((0, 3)),
        timeout_connect=2.0,
        timeout_server=4.0,
        timeout_queue=3.0,
        retry_budget=random.choice((0.2, 1.0, inf)),
        priority=random.choice((None, CLASSES)),
        panic=random.choice((0.0, 0.5)),
        frontend={"timeout_client": 5.0, "timeout_keep_alive": 6.0, "maxconn": random.choice((0, 0, 4))},
    )
    if seed % 2:
        house.backend.listeners = (lambda server, outcome: accused(house, server, outcome, random),)
    house.network.segment = random.choice((700, 1500, 1 << 20))
    house.network.capacity = random.choice((2000, 8192, 65536))
    house.network.latency = random.choice((0.0, 0.1))
    scripts = [random.choice(SCRIPTS) for _ in range(200)]
    origins = [house.origin(number, *scripts[number::3], early=number == 2 and seed % 5 == 0) for number in (1, 2)]
    if random.random() < 0.3:
        house.blackhole(3)
    visitors = [Visitor(house, random, number) for number in range(6)]
    for _ in range(60):
        random.choice(visitors).act()
        if random.random() < 0.05 and origins[0].connections:
            random.choice(origins[0].connections).abort()
        if random.random() < 0.04:
            server = house.server(random.choice((1, 2, 3)))
            server.admin = random.choice((Admin.READY, Admin.READY, Admin.DRAIN))
            house.backend.refresh()
        if random.random() < 0.02:
            house.factory.cut(house.server(random.choice((1, 2))))
        if random.random() < 0.04:
            held_back(house, house.server(random.choice((1, 2, 3))), random)
        house.run(random.choice((0.0, 0.0, 0.05, 0.5, 2.0)))
        assert house.backend.in_flight == sum(server.in_flight for server in house.backend)
        assert all(server.in_flight >= 0 for server in house.backend)
        assert not house.settings.maxqueue or house.backend.waiting <= house.settings.maxqueue
    house.run(600)  # every timeout has passed: nothing may be going on any more, though nobody has left
    assert house.quiet
    assert house.backend.budget.active == 0
    assert house.frontend.active == 0
    assert len(house.pool) == 0
    for visitor in visitors:
        truthful(visitor)


def held_back(house: House, server: Server, random: Random) -> None:
    """A server goes down, comes back slowly, or is put out for its errors."""
    match random.randrange(4):
        case 0:
            server.health.up = False
            house.backend.refresh()
            house.factory.marked_down(server)
        case 1:
            server.health.up, server.ramp, server.ejection = True, random.choice((0.1, 1.0)), None
        case 2:
            server.ejection = Ejection(1.0, "errors")
        case 3:
            server.health.up = True
    house.backend.refresh()


def accused(house: House, server: Server, outcome: Outcome, random: Random) -> bool:
    """Passive health: a failure may take its server down, in the middle of whatever is going on."""
    if outcome.result in (Result.RESET, Result.CONNECT_FAILED, Result.TIMED_OUT) and random.random() < 0.1:
        server.health.up = False
        house.backend.refresh()
        house.factory.marked_down(server)
    return random.random() < 0.5


def truthful(visitor: Visitor) -> None:
    """Each answer is the one to its request, in order; only the last may be incomplete, and then visibly."""
    client, raw = visitor.client, visitor.client.received
    for path, method in zip(visitor.asked, visitor.methods, strict=True):
        head, end, rest = raw.partition(b"\r\n\r\n")
        if not end or head.startswith(b"HTTP/1.1 103"):
            break
        told = field(raw, "X-Path")
        assert told in (None, "any", path.decode()), f"{path!r} got the answer to {told}"
        lengths = response(head + end, to_head=True).all("Content-Length")
        if method == b"HEAD" or not lengths:
            break  # where this one ends is another test's business
        if len(rest) < int(lengths[0]):
            assert not client.eof, "half an answer, and then a clean end"
            break
        raw = rest[int(lengths[0]) :]
