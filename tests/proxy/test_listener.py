"""Frontends: where they listen, whom they trust, and how everybody is sent home."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from lbservice.proxy.listener import HttpFactory
from tests.support.actors import OK, Client, answer, hang, response, responses, wait
from tests.support.house import FRONT, House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def stop(house: House) -> None:
    Deferred.fromCoroutine(house.factory.stop_listening())
    house.run()


def drained(house: House) -> list[None]:
    """Becomes non-empty when the last connection has ended."""
    done: list[None] = []
    house.factory.drained().addCallback(done.append)
    return done


def test_an_address_in_use_is_said(house: House) -> None:
    with pytest.raises(CannotListenError):
        house.factory.listen()


@pytest.mark.parametrize(
    ("networks", "host", "trusted"),
    [
        ((), "10.0.0.1", False),
        (("10.0.0.0/8",), "10.0.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", True),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("fe80::/10", "192.0.2.7/32"), "192.0.2.7", True),
    ],
)
def test_whom_it_trusts(make_house: MakeHouse, networks: tuple[str, ...], host: str, trusted: bool) -> None:
    house = make_house(1, frontend={"trusted": networks})
    assert isinstance(house.factory, HttpFactory)
    assert house.factory.trusts(host) is trusted


# -- going home ------------------------------------------------------------------------------


def test_nobody_comes_in_any_more(house: House) -> None:
    stop(house)
    client = Client(house.network, FRONT)
    assert not client.connected


def test_idle_connections_are_closed_and_new_ones_too(house: House) -> None:
    house.origin()
    asked, silent = house.client(), house.client()
    asked.ask(GET)
    done = drained(house)
    assert done == []
    stop(house)
    assert (asked.eof, silent.eof, house.frontend.active, done) == (True, True, 0, [None])


def test_a_busy_connection_ends_with_its_answer(house: House) -> None:
    house.origin(1, wait(5))
    client = house.client()
    client.ask(GET)
    stop(house)
    done = drained(house)
    assert (client.eof, done) == (False, [])
    house.run(6)
    got = response(client.take())
    assert (got.status, got["Connection"], client.eof) == (200, "close", True)
    assert (done, house.endings) == ([None], ["200 --"])


def test_a_local_answer_closes_too(make_house: MakeHouse) -> None:
    house = make_house(1, retries=0, timeout_connect=5.0)
    house.blackhole(1)
    client = house.client()
    client.ask(GET)
    stop(house)
    house.run(6)
    got = response(client.take())
    assert (got.status, got["Connection"], client.eof) == (503, "close", True)


def test_an_answer_whose_head_has_gone_is_finished_and_then_closed(house: House) -> None:
    head, body = OK[:-5], OK[-5:]
    origin = house.origin(1, head)
    client = house.client()
    client.ask(GET)
    stop(house)
    origin.last.send(body)
    house.run()
    assert (client.eof, house.endings, house.frontend.active) == (True, ["200 --"], 0)


def test_half_a_head_may_still_become_a_request(house: House) -> None:
    house.origin()
    client = house.client()
    client.ask(GET[:10])
    stop(house)
    client.send(GET[10:])
    house.run()
    got = response(client.take())
    assert (got.status, got["Connection"], client.eof) == (200, "close", True)


def test_what_is_pipelined_behind_is_not_served(house: House) -> None:
    origin = house.origin(1, wait(1))
    client = house.client()
    client.send(GET * 2)
    house.run(0.5)
    stop(house)
    house.run(5)
    assert (len(responses(client.take())), len(origin.requests), client.fate) == (1, 1, "closed")


def test_abort_ends_everything_at_once(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=2)
    origin = house.origin(1, hang, answer(b"x" * 1_000_000))
    waiting, downloading, queued, idle = (house.client() for _ in range(4))
    waiting.ask(GET)
    downloading.stop_reading()
    downloading.ask(GET)
    queued.ask(GET)
    stop(house)
    done = drained(house)
    assert house.factory.abort() == 3
    house.run()
    assert (done, house.quiet, house.frontend.active, origin.open) == ([None], True, 0, 0)
    # Whoever queued may have been given a place in the last moment.
    assert sorted(house.endings) in (["-1 KH", "-1 KQ", "200 KD"], ["-1 KC", "-1 KH", "200 KD"])
    assert (waiting.fate, queued.fate, idle.fate) == ("reset", "reset", "closed")


def test_cut_ends_what_uses_one_server(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, hang)
    house.origin(2, hang)
    one, two = house.client(), house.client()
    one.ask(GET)
    two.ask(GET)
    house.factory.cut(house.server(1))
    house.run()
    assert (one.fate, two.fate, house.endings) == ("reset", None, ["-1 KH"])
    assert (house.server(1).in_flight, house.server(2).in_flight) == (0, 1)


def test_stopping_twice_is_harmless(house: House) -> None:
    house.client()
    stop(house)
    stop(house)
    assert house.frontend.active == 0
