"""The pool of idle connections, and how connections grow old in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from lbservice.core.health import Health
from lbservice.core.server import Server
from lbservice.core.settings import ServerSettings
from lbservice.proxy.http_client import HttpClientProtocol
from lbservice.proxy.idle import IdlePool
from lbservice.reactor import TURN
from tests.support.actors import OK, wait
from tests.support.house import House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Parked:
    """As much of a connection as the pool touches."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.moves = server.moves
        self.closed = False

    def is_open(self, sure: bool) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


def parked(server: Server, pool: IdlePool, number: int) -> list[Any]:
    connections = [Parked(server) for _ in range(number)]
    assert all(pool.put(cast(HttpClientProtocol, connection)) for connection in connections)
    return connections


def a_server(name: str = "s1") -> Server:
    return Server("app", ServerSettings(name, "10.0.0.1", 80), Health())


def test_the_newest_is_taken_first() -> None:
    pool, server = IdlePool(), a_server()
    first, second = parked(server, pool, 2)
    assert [pool.take(server), pool.take(server), pool.take(server)] == [second, first, None]


def test_servers_do_not_share() -> None:
    pool, one, two = IdlePool(), a_server("s1"), a_server("s2")
    parked(one, pool, 1)
    assert (pool.take(two), len(pool)) == (None, 1)


def test_32_are_kept_for_each_server() -> None:
    pool, one, two = IdlePool(), a_server("s1"), a_server("s2")
    parked(one, pool, 32)
    assert not pool.put(cast(HttpClientProtocol, Parked(one)))
    parked(two, pool, 1)
    assert len(pool) == 33


def test_what_is_forgotten_is_not_taken() -> None:
    pool, server = IdlePool(), a_server()
    first, second = parked(server, pool, 2)
    pool.forget(second)
    pool.forget(second)
    assert [pool.take(server), pool.take(server)] == [first, None]


def test_a_server_that_leaves_gets_nothing_back() -> None:
    pool, server = IdlePool(), a_server()
    (connection,) = parked(server, pool, 1)
    server.leaving = True
    pool.drop(server)
    assert (connection.closed, pool.put(cast(HttpClientProtocol, Parked(server))), len(pool)) == (True, False, 0)


def test_a_closed_pool_keeps_nothing() -> None:
    pool, server = IdlePool(), a_server()
    connections = parked(server, pool, 3)
    pool.close()
    assert all(connection.closed for connection in connections)
    assert (pool.put(cast(HttpClientProtocol, Parked(server))), len(pool)) == (False, 0)


def test_the_oldest_of_who_has_most_are_spared() -> None:
    pool = IdlePool()
    few, many = parked(a_server("s1"), pool, 1), parked(a_server("s2"), pool, 3)
    assert pool.spare(2) == 2
    assert [each.closed for each in few + many] == [False, True, True, False]
    assert pool.spare(5) == 2
    assert (len(pool), pool.spare(1)) == (0, 0)


def test_an_idle_connection_is_closed_after_60_seconds(house: House) -> None:
    origin = house.origin()
    house.client().ask(GET)
    house.run(59.9)
    assert (len(house.pool), origin.open) == (1, 1)
    house.run(0.2)
    assert (len(house.pool), origin.open) == (0, 0)


def test_its_use_starts_the_60_seconds_again(house: House) -> None:
    origin = house.origin()
    for _ in range(5):
        house.client().ask(GET)
        house.run(50)
    assert (len(origin.connections), origin.open) == (1, 1)


def test_a_long_timeout_does_not_outlive_the_request(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=1000.0)
    origin = house.origin()
    house.client().ask(GET)
    house.run(60.1)
    assert (len(house.pool), origin.open) == (0, 0)


def test_what_is_not_needed_grows_old_though_others_are_busy(house: House) -> None:
    origin = house.origin(1, wait(1), wait(1), OK)
    one, two = house.client(), house.client()
    one.send(GET)
    two.send(GET)
    house.run(2)
    for _ in range(7):
        house.client().ask(GET)
        house.run(10)
    assert (len(house.pool), origin.open) == (1, 1)


def test_a_burst_leaves_32_connections(house: House) -> None:
    origin = house.origin(1, wait(1))
    for _ in range(40):
        house.client().send(GET)
    house.run(2)
    assert (len(house.pool), origin.open) == (32, 32)


def test_a_server_that_is_removed_loses_its_idle_connections(house: House) -> None:
    origin = house.origin(1, OK, wait(1))
    client = house.client()
    client.ask(GET)
    server = house.server()
    client.send(GET)
    house.run(0.5)
    house.backend.remove(server)
    assert (list(house.backend), server.in_flight) == ([server], 1)
    house.run(1)
    assert (list(house.backend), origin.open, len(house.pool)) == ([], 0, 0)


def test_in_a_turn_its_events_tell_but_not_of_what_has_answered_in_it(house: House) -> None:
    house.origin(1)
    client = house.client()
    client.send(GET)
    house.run()
    (connection,) = next(iter(house.pool._idle.values()))
    TURN.to_come, TURN.number = {}, 7
    try:
        connection._is_quiet = lambda: False
        connection.pooled_in = 6
        assert connection.is_open(sure=False)
        connection.pooled_in = 7
        assert not connection.is_open(sure=False)
    finally:
        TURN.to_come = None
    house.run()
