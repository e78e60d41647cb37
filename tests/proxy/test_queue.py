"""Requests that wait for a server with room, and their classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lbservice.core.settings import PrioritySettings
from tests.support.actors import Client, fields_of, wait
from tests.support.house import House

MakeHouse = Callable[..., House]
CLASSES = PrioritySettings("X-Priority", ("high", "normal", "low"), 1)


def ask(house: House, path: str, *fields: str) -> Client:
    client = house.client()
    client.send("\r\n".join((f"GET {path} HTTP/1.1", "Host: a", *fields, "", "")).encode())
    return client


def served(house: House) -> str:
    """The paths of the requests that the only server has got, in their order."""
    return " ".join(request.split(b" ")[1][1:].decode() for request in house.origins[0].requests)


def test_first_come_first_served_and_the_log_says_behind_how_many(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=100.0)
    house.origin(1, wait(1.0))
    for number in range(5):
        ask(house, f"/{number}")
        house.run(0.01)
    house.run(6)
    assert served(house) == "0 1 2 3 4"
    places = {access.request_line.split(b" ")[1]: access.backend_queue for access in house.log}
    assert places == {b"/0": 0, b"/1": 0, b"/2": 1, b"/3": 2, b"/4": 3}
    assert {access.server_queue for access in house.log} == {0}


def test_the_classes_come_in_their_order(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=100.0, priority=CLASSES)
    house.origin(1, wait(1.0))
    for path, fields in (
        ("/first", ("X-Priority: low",)),
        ("/l1", ("X-Priority: low",)),
        ("/n1", ()),
        ("/h1", ("x-priority: HIGH",)),
        ("/l2", ("Accept: */*", "X-Priority: low", "X-Other: high")),
        ("/n2", ("X-Priority: whatever",)),
        ("/h2", ("X-Priority: high",)),
    ):
        ask(house, path, *fields)
        house.run(0.01)
    house.run(8)
    assert served(house) == "first h1 h2 n1 n2 l1 l2"
    assert ("X-Priority", "low") in fields_of(house.origins[0].requests[0]), "the servers see it, too"


@pytest.mark.parametrize("priority", [None, CLASSES])
def test_a_client_that_leaves_is_passed_over(make_house: MakeHouse, priority: PrioritySettings | None) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=100.0, priority=priority)
    house.origin(1, wait(1.0))
    clients = []
    for number in range(4):
        clients.append(ask(house, f"/{number}"))
        house.run(0.01)
    clients[1].abort()
    house.run(5)
    assert served(house) == "0 2 3"
    assert house.endings[0] == "-1 CQ"


def test_in_tcp_mode_there_are_no_classes(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", server_maxconn=1, timeout_queue=100.0, priority=CLASSES)
    house.origin(1, raw=True)
    first, second = house.client(), house.client()
    house.run()
    assert house.backend.waiting == 1
    first.close()
    house.run()
    house.origins[0].connections[0].close()
    house.run(0.1)
    assert (house.backend.waiting, len(house.origins[0].connections)) == (0, 2)
    second.abort()
    house.run()
