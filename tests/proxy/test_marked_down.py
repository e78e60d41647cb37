"""`on-marked-down = shutdown-sessions`: what a server that is down was doing is done elsewhere, or ended."""

from __future__ import annotations

from collections.abc import Callable

from tests.core.build import goes_down
from tests.support.actors import OK, hang, response
from tests.support.house import House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart of it"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


def down(house: House, number: int = 1) -> None:
    goes_down(house.backend, house.server(number))
    house.factory.marked_down(house.server(number))
    house.run()


def test_a_request_without_an_answer_so_far_goes_to_another_server(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, hang)
    house.origin(2, OK)
    client = house.client()
    client.send(GET)
    house.run()
    down(house)
    assert response(client.take()).status == 200
    assert (house.log[0].server, house.log[0].termination, house.log[0].redispatched) == ("s2", "--", True)
    assert house.server(1).resets == 0, "the server has not broken it off"


def test_one_that_may_not_be_repeated_gets_503(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, hang)
    origin = house.origin(2, OK)
    client = house.client()
    client.send(POST)
    house.run()
    down(house)
    assert response(client.take()).status == 503
    assert (house.endings, len(origin.requests)) == (["503 DH"], 0)


def test_one_without_another_server_gets_503(house: House) -> None:
    house.origin(1, hang)
    client = house.client()
    client.send(GET)
    house.run()
    down(house)
    assert (response(client.take()).status, house.endings) == (503, ["503 SC"])


def test_a_response_on_its_way_breaks_off(house: House) -> None:
    house.origin(1, LONG)
    client = house.client()
    client.send(GET)
    house.run()
    down(house)
    assert (client.fate, house.endings) == ("reset", ["200 DD"])


def test_a_tunnel_is_cut(house: House) -> None:
    house.origin(1, SWITCHING)
    client = house.client()
    client.send(UPGRADE)
    house.run()
    down(house)
    assert (client.fate, house.endings) == ("reset", ["101 DD"])


def test_a_session_of_tcp_mode_is_cut(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp")
    house.origin(1, raw=True)
    client = house.client()
    client.send(b"hello")
    house.run()
    down(house)
    assert (client.fate, house.endings) == ("reset", ["DD"])


def test_what_other_servers_do_goes_on(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, hang)
    house.origin(2, LONG)
    clients = [house.client(), house.client()]
    for client in clients:
        client.send(GET)
    idle = house.client()
    house.run()
    down(house)
    assert house.endings == []
    assert (clients[1].fate, idle.fate) == (None, None)
