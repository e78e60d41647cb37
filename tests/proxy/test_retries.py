"""The retry budget, at work."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from tests.support.actors import Client, answer, die, hang, response, responses, wait
from tests.support.house import House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def crash(house: House, requests: int) -> list[Client]:
    """So many requests hang at s1, which dies; s2 answers after a second."""
    s1 = house.origin(1, hang)
    clients = [house.client() for _ in range(requests)]
    for client in clients:
        client.send(GET)
    house.run(0.1)
    assert len(s1.requests) == requests
    house.origin(2, wait(1.0))
    house.server(2).health.up = True
    house.backend.refresh()
    for connection in s1.connections:
        connection.abort()
    return clients


def make(make_house: MakeHouse, **backend: float) -> House:
    """Two servers, the second being down for the moment."""
    house = make_house(2, **backend)
    house.server(2).health.up = False
    house.backend.refresh()
    return house


@pytest.mark.parametrize("requests", [1, 3, 10, 50])
def test_when_a_server_dies_all_that_it_had_is_repeated(make_house: MakeHouse, requests: int) -> None:
    house = make(make_house)
    clients = crash(house, requests)
    house.run(0.1)
    assert house.backend.budget.active == requests
    house.run(2)
    assert [response(client.take()).status for client in clients] == [200] * requests
    assert (house.backend.retries, house.backend.budget.active) == (requests, 0)


def test_when_every_request_dies_a_fifth_is_repeated_after_the_first_ones(make_house: MakeHouse) -> None:
    house = make_house(2)
    origins = [house.origin(number, hang) for number in (1, 2)]
    rounds = []
    for _ in range(5):
        before = house.backend.retries
        clients = [house.client() for _ in range(50)]
        for client in clients:
            client.send(GET)
        for _ in range(1 + house.backend.settings.retries):
            house.run(0.1)
            for origin in origins:
                for connection in origin.connections:
                    connection.abort()
        house.run(0.1)
        assert {response(client.take()).status for client in clients} == {502}
        rounds.append(house.backend.retries - before)
    assert rounds[0] >= 50
    assert max(rounds[1:]) <= 25, rounds
    assert house.backend.budget.refused > 0
    assert house.backend.budget.active == 0


def test_without_a_bound_all_are_repeated(make_house: MakeHouse) -> None:
    house = make(make_house, retry_budget=inf)
    clients = crash(house, 50)
    house.run(2)
    assert [response(client.take()).status for client in clients] == [200] * 50
    assert (house.backend.retries, house.backend.budget.active) == (50, 0)


def test_those_that_found_no_connection_are_not_bounded(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(2, wait(1.0))
    clients = [house.client() for _ in range(40)]
    for client in clients:
        client.send(GET)
    house.run(2)
    assert [response(client.take()).status for client in clients] == [200] * 40
    assert house.backend.retries == 20
    assert {(access.retries, access.redispatched) for access in house.log} == {(0, False), (1, True)}


def test_a_client_that_leaves_while_its_request_is_repeated_gives_the_budget_back(make_house: MakeHouse) -> None:
    house = make(make_house)
    clients = crash(house, 3)
    house.run(0.1)
    assert house.backend.budget.active == 3
    for client in clients:
        client.abort()
    house.run(0.1)
    assert house.backend.budget.active == 0


def test_so_does_one_that_leaves_while_it_is_placed_again(make_house: MakeHouse) -> None:
    house = make(make_house)
    s1 = house.origin(1, hang)
    client = house.client()
    client.send(GET)
    house.run()
    house.blackhole(2)
    house.server(2).health.up = True
    house.backend.refresh()
    s1.last.abort()
    house.run()
    assert (house.backend.budget.active, house.endings) == (1, [])
    client.abort()
    house.run()
    assert (house.backend.budget.active, house.endings) == (0, ["-1 CC"])


def test_one_that_fails_twice_counts_once_and_then_no_more(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, die)
    house.origin(2, die)
    assert response(house.client().ask(GET)).status == 502
    assert (house.backend.retries, house.backend.budget.active) == (2, 0)
    assert (house.log[0].retries, house.log[0].redispatched) == (2, True)


def test_a_repetition_may_stream_its_answer(make_house: MakeHouse) -> None:
    house = make(make_house)
    s1 = house.origin(1, die)
    house.origin(2, answer(b"x" * 1_000_000))
    house.server(2).health.up = True
    house.backend.refresh()
    client = house.client()
    got = responses(client.ask(GET))
    assert [(each.status, len(each.body)) for each in got] == [(200, 1_000_000)]
    assert (len(s1.requests), house.backend.retries, house.backend.budget.active) == (1, 1, 0)
