"""Routes of tcp mode: by the name in a ClientHello, which goes on to the server as it came, and by address."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lbservice.core.settings import BackendSettings, Conditions, Rule
from tests.support.house import House
from tests.wire.test_client_hello import client_hello

MakeHouse = Callable[..., House]
BY_NAME = (Rule("db", Conditions(snis=("db.example", "*.db.example")), backend="db"),)
HELLO = client_hello("db.example")


def make(make_house: MakeHouse, *, default: bool = True, rules: tuple[Rule, ...] = BY_NAME) -> House:
    return make_house(mode="tcp", frontend={"rules": rules}, others=[BackendSettings("db")], default=default)


@pytest.mark.parametrize("segment", [1, 100, 10_000])
def test_the_name_chooses_and_the_server_gets_every_byte(make_house: MakeHouse, segment: int) -> None:
    house = make(make_house)
    house.network.segment = segment
    app, db = house.origin(1, raw=True), house.other(1, raw=True)
    for name, origin in (("db.example", db), ("x.DB.example", db), ("app.example", app), (None, app)):
        client = house.client()
        hello = client_hello(name)
        client.send(hello + b"more")
        house.run()
        assert origin.last.take() == hello + b"more"
        origin.last.send(b"answer")
        house.run()
        assert client.take() == b"answer"
        client.close()
        house.run()
        origin.last.close()
        house.run()
    assert [(access.backend, access.server) for access in house.log] == [("db", "o1")] * 2 + [("app", "s1")] * 2


def test_what_is_no_tls_goes_where_a_client_without_a_name_does(make_house: MakeHouse) -> None:
    house = make(make_house)
    app = house.origin(1, raw=True)
    client = house.client()
    client.send(b"SSH-2.0-x\r\n")
    house.run()
    assert app.last.take() == b"SSH-2.0-x\r\n"


def test_who_says_nothing_is_waited_for_a_while(make_house: MakeHouse) -> None:
    house = make(make_house)
    app = house.origin(1, raw=True, greeting=b"220 ready")
    client = house.client()
    client.send(HELLO[:50])
    house.run(4.9)
    assert (app.connections, client.received) == ([], b"")
    house.run(0.2)
    assert (client.take(), app.last.take()) == (b"220 ready", HELLO[:50])


def test_who_finishes_before_the_end_of_a_hello_has_no_name(make_house: MakeHouse) -> None:
    house = make(make_house)
    app = house.origin(1, raw=True)
    client = house.client()
    client.lingers = True
    client.send(HELLO[:50])
    client.finish()
    house.run()
    assert (app.last.take(), app.last.eof) == (HELLO[:50], True)
    app.last.close()
    house.run()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", client_hello("app.example"), client_hello(None)])
def test_without_a_backend_for_others_they_are_closed(make_house: MakeHouse, data: bytes) -> None:
    house = make(make_house, default=False)
    client = house.client()
    client.send(data)
    house.run()
    assert client.eof
    (access,) = house.log
    assert (access.termination, access.frontend, access.backend, access.server) == ("PR", "www", "www", "<NOSRV>")


def test_a_silent_client_without_a_backend_is_closed(make_house: MakeHouse) -> None:
    house = make(make_house, default=False)
    client = house.client()
    house.run(6)
    assert (client.eof, house.endings) == (True, ["PR"])


def test_a_client_that_leaves_before_it_has_said_a_name(make_house: MakeHouse) -> None:
    house = make(make_house)
    client = house.client()
    client.send(HELLO[:20])
    house.run()
    client.abort()
    house.run()
    assert house.endings == ["CR"]
    house.run(10)
    assert len(house.log) == 1


def test_by_address_nothing_is_waited_for(make_house: MakeHouse) -> None:
    rules = (Rule("db", Conditions(sources=("203.0.113.0/24",)), backend="db"),)
    house = make(make_house, rules=rules)
    app, db = house.origin(1, raw=True), house.other(1, raw=True, greeting=b"hello")
    near, far = house.client("203.0.113.1"), house.client()
    house.run()
    assert (near.take(), far.take(), len(app.connections), len(db.connections)) == (b"hello", b"", 1, 1)
    assert house.frontend.active == 2


def test_a_flood_before_the_name_is_held(make_house: MakeHouse) -> None:
    house = make(make_house)
    house.blackhole(1)
    client = house.client()
    client.send(b"x" * 1_000_000)
    house.run(1)
    assert client.unsent > 0
    client.abort()
    house.run(10)
    assert house.endings == ["CC"]
