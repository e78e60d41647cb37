"""A sticky cookie, seen from both ends: what the client gets, and what the servers do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lbservice.core.server import Admin
from lbservice.core.settings import Edit, StickySettings
from lbservice.policies.sticky import Sticky
from tests.proxy.test_http_exchange import get, post
from tests.support.actors import OK, Client, answer, die, field, response, responses, then_close
from tests.support.house import House

MakeHouse = Callable[..., House]


@pytest.fixture
def sticky(make_house: MakeHouse) -> Callable[..., House]:
    """Three servers that say who they are, and a cookie SRV."""

    def make(**how: Any) -> House:
        house = make_house(3, sticky=StickySettings("SRV", httponly=True), **how)
        for number in (1, 2, 3):
            house.origin(number, answer(b"s%d" % number, b"Date: now", b"Set-Cookie: theirs=1"))
        return house

    return make


def token(house: House, number: int) -> bytes:
    policy = house.backend.policy
    assert isinstance(policy, Sticky)
    return policy.token(house.server(number))


def cookie(house: House, number: int) -> bytes:
    return b"SRV=" + token(house, number)


def set_cookie(house: House, number: int) -> str:
    return f"{cookie(house, number).decode()}; Path=/; HttpOnly"


class TestWhoComesFirst:
    def test_is_placed_by_the_policy_and_gets_a_cookie(self, sticky: MakeHouse) -> None:
        house = sticky()
        for number in (1, 2, 3):
            got = response(house.client().ask(get()))
            assert got.body == b"s%d" % number
            assert got.all("Set-Cookie") == ["theirs=1", set_cookie(house, number)]

    def test_stays_from_then_on_whichever_connection_it_uses(self, sticky: MakeHouse) -> None:
        house = sticky()
        client = house.client()
        first = response(client.ask(get()))
        crumb = first.all("Set-Cookie")[1].partition(";")[0].encode()
        for asking in (client, client, house.client(), house.client()):
            got = response(asking.ask(get(b"Cookie: " + crumb)))
            assert got.body == first.body
            assert got.all("Set-Cookie") == ["theirs=1"], "nothing new to say"


class TestWhatTheServerSees:
    @pytest.mark.parametrize(
        ("sent", "seen"),
        [
            (b"Cookie: a=1; %b; b=2", b"a=1; b=2"),
            (b"Cookie: %b", None),
            (b"Cookie: %b; SRV=forged; a=1", b"a=1"),
            (b"Cookie: a=1", b"a=1"),
        ],
    )
    def test_our_cookie_is_none_of_its_business(self, sticky: MakeHouse, sent: bytes, seen: bytes | None) -> None:
        house = sticky()
        line = sent % cookie(house, 2) if b"%b" in sent else sent
        client = house.client()
        client.ask(get(b"Accept: */*", line))
        client.ask(get(b"Accept: */*", line))  # the same again, which need not be read
        requests = [request for origin in house.origins for request in origin.requests]
        assert len(requests) == 2
        for request in requests:
            assert b"SRV" not in request
            assert field(request, "Cookie") == (None if seen is None else seen.decode())
            assert field(request, "Accept") == "*/*"

    def test_in_a_request_with_a_body(self, sticky: MakeHouse) -> None:
        house = sticky()
        got = response(house.client().ask(post(b"name=value", b"Cookie: " + cookie(house, 3))))
        assert got.body == b"s3"
        assert house.origins[2].requests[0].endswith(b"\r\n\r\nname=value")
        assert b"SRV" not in house.origins[2].requests[0]


class TestACookieThatDoesNotHelp:
    @pytest.mark.parametrize("value", [b"s2", b"0" * 32, b"10.0.0.2:8000", b'"', b"=", b""])
    def test_a_forged_one_is_replaced(self, sticky: MakeHouse, value: bytes) -> None:
        house = sticky()
        got = response(house.client().ask(get(b"Cookie: SRV=" + value)))
        assert got.body == b"s1", "the first one's turn"
        assert got.all("Set-Cookie")[1] == set_cookie(house, 1)

    def test_of_a_server_that_is_out(self, sticky: MakeHouse) -> None:
        house = sticky()
        house.server(2).admin = Admin.MAINT
        house.backend.refresh()
        got = response(house.client().ask(get(b"Cookie: " + cookie(house, 2))))
        assert got.body in (b"s1", b"s3")
        assert got.all("Set-Cookie")[1] == set_cookie(house, int(got.body[1:]))

    def test_of_a_server_that_drains_it_does(self, sticky: MakeHouse) -> None:
        house = sticky()
        house.server(2).admin = Admin.DRAIN
        house.backend.refresh()
        got = response(house.client().ask(get(b"Cookie: " + cookie(house, 2))))
        assert (got.body, got.all("Set-Cookie")) == (b"s2", ["theirs=1"])
        assert {response(house.client().ask(get())).body for _ in range(4)} == {b"s1", b"s3"}

    def test_of_a_server_that_refuses_or_breaks_off(self, sticky: MakeHouse) -> None:
        house = sticky()
        house.origins[1].gone()
        got = response(house.client().ask(get(b"Cookie: " + cookie(house, 2))))
        assert got.all("Set-Cookie")[1] == set_cookie(house, int(got.body[1:]))
        house.origins[0].answers = (die,)
        got = response(house.client().ask(get(b"Cookie: " + cookie(house, 1))))
        assert got.all("Set-Cookie")[1] == set_cookie(house, 3)


class TestEveryWayAResponseCanGo:
    @pytest.mark.parametrize(
        "said",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\n\r\n",
            b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
            answer(b"x" * 300_000),
        ],
    )
    def test_it_carries_the_cookie(self, sticky: MakeHouse, said: bytes) -> None:
        house = sticky()
        house.origins[0].answers = (said,)
        got = response(house.client().ask(get()))
        assert got.all("Set-Cookie") == [set_cookie(house, 1)]

    def test_to_http_1_0_and_to_head(self, sticky: MakeHouse) -> None:
        house = sticky()
        old = response(house.client().ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"))
        assert old.all("Set-Cookie") == ["theirs=1", set_cookie(house, 1)]
        house.origins[1].answers = (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",)
        assert b"\r\nSet-Cookie: %b\r\n" % set_cookie(house, 2).encode() in house.client().ask(
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
        )

    def test_beside_edits(self, sticky: MakeHouse) -> None:
        edits = {"request_edits": (Edit("X-Env", "set", "live"),), "response_edits": (Edit("X-By", "set", "us"),)}
        house = sticky(**edits)
        client = house.client()
        for ask in (get(), get(), get(b"Cookie: a=1; " + cookie(house, 2)), get(b"Cookie: " + cookie(house, 2))):
            got = response(client.ask(ask))
            number = int(got.body[1:])
            fresh = b"SRV" not in ask
            assert got.all("Set-Cookie") == ["theirs=1", *([set_cookie(house, number)] if fresh else [])]
            assert got.all("X-By") == ["us"]
        requests = [request for origin in house.origins for request in origin.requests]
        assert len(requests) == 4
        assert all(field(request, "X-Env") == "live" and b"SRV" not in request for request in requests)

    def test_one_that_ends_with_the_connection(self, sticky: MakeHouse) -> None:
        house = sticky()
        house.origins[0].answers = (then_close(b"HTTP/1.0 200 OK\r\n\r\nhello"),)
        got = response(house.client().ask(get()))
        assert (got.body, got["Set-Cookie"]) == (b"hello", set_cookie(house, 1))

    def test_an_upgrade(self, sticky: MakeHouse) -> None:
        house = sticky()
        house.origins[0].answers = (b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhi",)
        got = house.client().ask(get(b"Connection: Upgrade", b"Upgrade: chat"))
        assert b"\r\nSet-Cookie: %b\r\n" % set_cookie(house, 1).encode() in got
        assert got.endswith(b"\r\n\r\nhi")

    def test_a_head_that_is_remembered_is_not_marked_for_good(self, sticky: MakeHouse) -> None:
        house = sticky()
        for origin in house.origins:
            origin.answers = (OK,)
        two = responses(house.client().ask(get() + get(b"Cookie: " + cookie(house, 1))))
        assert [len(each.all("Set-Cookie")) for each in two] == [1, 0]
        assert len(response(house.client().ask(get())).all("Set-Cookie")) == 1


def test_without_sticky_a_cookie_of_that_name_is_just_a_cookie(make_house: MakeHouse) -> None:
    house = make_house(2)
    origin = house.origin(1)
    got = response(house.client().ask(get(b"Cookie: SRV=1")))
    assert field(origin.requests[0], "Cookie") == "SRV=1"
    assert got.all("Set-Cookie") == []


class TestHashes:
    """What an exchange says of its request, when a policy asks for it."""

    @pytest.mark.parametrize(
        ("balance", "ask"),
        [
            ("uri", lambda key: get(path=b"/%d?x=%d" % (key, key * 7))),
            ("param(id)", lambda key: get(path=b"/?id=%d" % key)),
            ("header(X-User)", lambda key: get(b"X-User: %d" % key)),
            ("header(Host)", lambda key: get(host=b"host%d.example" % key)),
            ("cookie(sid)", lambda key: get(b"Cookie: a=b; sid=%d" % key)),
            ("maglev uri", lambda key: get(path=b"/%d" % key)),
        ],
    )
    def test_the_same_key_has_the_same_server(
        self, make_house: MakeHouse, balance: str, ask: Callable[[int], bytes]
    ) -> None:
        house = make_house(3, balance=balance)
        for number in (1, 2, 3):
            house.origin(number, answer(b"s%d" % number))
        client = house.client()
        homes = {key: response(client.ask(ask(key))).body for key in range(24)}
        assert set(homes.values()) == {b"s1", b"s2", b"s3"}
        for key, home in homes.items():
            assert response(house.client().ask(ask(key))).body == home

    def test_the_client_s_address_is_what_a_trusted_proxy_says(self, make_house: MakeHouse) -> None:
        house = make_house(3, balance="source", frontend={"trusted": ("198.51.100.0/24",)})
        for number in (1, 2, 3):
            house.origin(number, answer(b"s%d" % number))
        proxies = [house.client("198.51.100.1"), house.client("198.51.100.2")]

        def home(client: Client, said: bytes) -> bytes:
            return response(client.ask(get(b"X-Forwarded-For: " + said))).body

        homes = {last: home(proxies[0], b"203.0.113.%d" % last) for last in range(24)}
        assert set(homes.values()) == {b"s1", b"s2", b"s3"}
        for last, server in homes.items():
            assert home(proxies[1], b"9.9.9.9, 203.0.113.%d, 198.51.100.9" % last) == server
            assert response(house.client(f"203.0.113.{last}").ask(get())).body == server, "who comes by himself, too"

    def test_what_a_stranger_says_of_himself_is_not_believed(self, make_house: MakeHouse) -> None:
        house = make_house(3, balance="source", frontend={"trusted": ("10.9.0.0/16",)})
        for number in (1, 2, 3):
            house.origin(number, answer(b"s%d" % number))
        client = house.client()
        got = {response(client.ask(get(b"X-Forwarded-For: 203.0.113.%d" % last))).body for last in range(24)}
        assert len(got) == 1

    def test_the_client_s_address_in_tcp_mode(self, make_house: MakeHouse) -> None:
        house = make_house(3, mode="tcp", balance="source")
        for number in (1, 2, 3):
            house.origin(number, raw=True)
        for last in range(12):
            for _ in range(3):
                house.client(f"198.51.100.{last}").ask(b"hello")
        assert [len(origin.connections) % 3 for origin in house.origins] == [0, 0, 0]
        assert all(origin.connections for origin in house.origins)

    def test_who_waits_in_the_queue_is_hashed_all_the_same(self, make_house: MakeHouse) -> None:
        house = make_house(3, balance="uri", server_maxconn=1)
        for number in (1, 2, 3):
            house.origin(number, raw=True)
        clients = [house.client() for _ in range(6)]
        for key, client in enumerate(clients):
            client.send(get(path=b"/%d" % key))
        house.run()
        assert house.backend.waiting == 3
        for _ in range(2):
            for origin in house.origins:
                for connection in origin.connections:
                    if connection.take():
                        connection.send(OK)
            house.run()
        assert [response(client.take()).status for client in clients] == [200] * 6
