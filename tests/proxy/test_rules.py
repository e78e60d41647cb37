"""What a frontend does to requests before a server is sought, seen from both ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, globalLogPublisher

from lbservice.core.settings import (
    BackendSettings,
    Conditions,
    RateSettings,
    Rule,
)
from lbservice.proxy.rules import stripped
from tests.support.actors import answer, body_of, response, responses
from tests.support.house import House

MakeHouse = Callable[..., House]
API = BackendSettings("api")


def get(path: bytes = b"/", *fields: bytes, host: bytes = b"app.example") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: %b" % host, *fields]) + b"\r\n\r\n"


def post(body: bytes, *fields: bytes, path: bytes = b"/form") -> bytes:
    head = [b"POST %b HTTP/1.1" % path, b"Host: app.example", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, path: bytes = b"/form") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def route(backend: str, strip: str = "", **conditions: Any) -> Rule:
    return Rule(backend, Conditions(**conditions), backend=backend, strip=strip)


def redirect(location: str, status: int = 302, **conditions: Any) -> Rule:
    return Rule("r", Conditions(**conditions), location=location, status=status)


TO_HTTPS = redirect("https://{host}{uri}", 301, secure=False)


class TestRoutes:
    def test_each_request_of_a_connection_goes_its_own_way(self, make_house: MakeHouse) -> None:
        house = make_house(others=[API], frontend={"rules": (route("api", paths=("/api",)),)})
        app, api = house.origin(1, answer(b"app")), house.other(1, answer(b"api"))
        client = house.client()
        paths = [b"/", b"/api/x", b"/", b"/api", b"/apis", b"/api/y"]
        assert [response(client.ask(get(path))).body for path in paths] == [b"app", b"api"] * 2 + [b"app", b"api"]
        assert [access.backend for access in house.log] == ["app", "api"] * 2 + ["app", "api"]
        assert [access.server for access in house.log[:2]] == ["s1", "o1"]
        assert (len(app.connections), len(api.connections)) == (1, 1)
        assert api.requests[0].startswith(b"GET /api/x HTTP/1.1\r\nHost: app.example\r\n")

    def test_pipelined_requests_keep_their_order(self, make_house: MakeHouse) -> None:
        house = make_house(others=[API], frontend={"rules": (route("api", paths=("/api",)),)}, default=False)
        house.other(1, answer(b"api"))
        got = responses(house.client().ask(get(b"/api/1") + get(b"/none") + get(b"/api/2") + get(b"/none")))
        assert [each.status for each in got] == [200, 404, 200, 404]

    def test_what_meets_no_route_and_has_no_backend_is_not_found(self, make_house: MakeHouse) -> None:
        house = make_house(others=[API], frontend={"rules": (route("api", hosts=("api.example",)),)}, default=False)
        house.other()
        client = house.client()
        for _ in range(2):  # the second time it is said again
            got = response(client.ask(get(b"/x", b"X-Request-ID: abc")))
            assert (got.status, got["X-Request-ID"]) == (404, "abc")
            assert response(client.ask(get(host=b"API.example.:80"))).status == 200
        assert house.endings == ["404 LR", "200 --"] * 2
        access = house.log[0]
        assert (access.frontend, access.backend, access.server) == ("www", "www", "<NOSRV>")
        assert access.request_line == b"GET /x HTTP/1.1"
        assert (access.head_done >= access.began, access.connected, access.responded) == (True, -1.0, -1.0)
        assert house.frontend.requests == 4
        assert house.frontend.statuses[4] == 2

    def test_an_answer_to_head_has_no_body(self, make_house: MakeHouse) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        raw = house.client().ask(b"HEAD / HTTP/1.1\r\nHost: b\r\n\r\n")
        assert raw.endswith(b"\r\n\r\n")
        assert response(raw, to_head=True).status == 404

    def test_a_flood_from_a_client_that_does_not_read_is_held_and_then_served(self, make_house: MakeHouse) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        client = house.client()
        client.stop_reading()
        client.send(get(b"/" + b"x" * 100) * 5000)
        house.run(1)
        assert client.unsent > 0
        assert len(house.log) < 5000
        client.read_on()
        house.run(1)
        assert client.take().count(b"HTTP/1.1 404 Not Found\r\n") == 5000
        assert response(client.ask(get())).status == 404

    def test_a_client_that_stays_silent_after_our_answer_is_closed(self, make_house: MakeHouse) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        client = house.client()
        client.ask(get())
        house.run(29)
        assert not client.eof
        house.run(2)
        assert (client.eof, house.endings) == (True, ["404 LR"])

    def test_a_service_that_stops_closes_after_our_answer(self, make_house: MakeHouse) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        client = house.client()
        house.factory.stopping = True
        got = response(client.ask(get()))
        assert (got.status, got["Connection"], client.eof) == (404, "close", True)

    def test_an_http_10_client_is_closed_after_our_answer(self, make_house: MakeHouse) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        client = house.client()
        got = response(client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
        assert (got.status, got["Connection"], client.eof) == (404, "close", True)

    @pytest.mark.parametrize("request_of", ["long", "chunked", "expected"])
    def test_a_long_body_that_nobody_wants_costs_the_connection(self, make_house: MakeHouse, request_of: str) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        client = house.client()
        requests = {
            "long": post(b"x" * 65537),
            "chunked": chunked(b"x"),
            "expected": post(b"x", b"Expect: 100-continue"),
        }
        got = response(client.ask(requests[request_of] + get()))
        assert (got.status, got["Connection"]) == (404, "close")
        house.run(3)
        assert (client.eof, house.endings) == (True, ["404 LR"])

    @pytest.mark.parametrize("segment", [1, 50, 100_000])
    def test_a_short_body_is_read_for_the_sake_of_the_connection(self, make_house: MakeHouse, segment: int) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("app.example",)),)})
        house.other()
        house.network.segment = segment
        client = house.client()
        wrong = post(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").replace(b"app.example", b"b.example", 1)
        got = responses(client.ask(wrong + post(b"x") + wrong + wrong + get()))
        assert [each.status for each in got] == [404, 200, 404, 404, 200]
        assert house.endings == ["404 LR", "200 --", "404 LR", "404 LR", "200 --"]
        assert client.fate is None

    def test_a_short_body_that_does_not_come_is_not_waited_for_long(self, make_house: MakeHouse) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        dribbling, leaving, late = house.client(), house.client(), house.client()
        for client in (dribbling, leaving, late):
            assert response(client.ask(post(b"x" * 100)[:-90])).status == 404
        leaving.abort()
        for _ in range(31):
            dribbling.send(b"x")
            house.run(1)
        assert dribbling.eof
        assert late.eof
        assert house.endings == ["404 LR"] * 3

    def test_a_short_body_comes_to_its_end_though_the_service_stops(self, make_house: MakeHouse) -> None:
        house = make_house(default=False, others=[API], frontend={"rules": (route("api", hosts=("a",)),)})
        client = house.client()
        assert response(client.ask(post(b"x" * 100)[:-90])).all("Connection") == []
        house.factory.stopping = True
        client.ask(b"x" * 90)
        assert client.eof

    def test_fields_methods_and_upgrades_decide(self, make_house: MakeHouse) -> None:
        rules = (
            Rule("ws", Conditions(fields=(("upgrade", "websocket"),)), status=410),
            Rule("beta", Conditions(fields=(("x-beta", "yes"),)), status=403),
            Rule("put", Conditions(methods=("PUT",)), status=503),
        )
        house = make_house(frontend={"rules": rules})
        house.origin()
        client = house.client()
        upgrade = (b"Connection: Upgrade", b"Upgrade: websocket")
        assert response(client.ask(get(b"/", *upgrade))).status == 410
        assert response(client.ask(get(b"/", upgrade[0], b"Upgrade: x/1, WebSocket"))).status == 410
        assert response(client.ask(get(b"/", upgrade[0], b"Upgrade: websockets"))).status == 200
        assert response(client.ask(get(b"/", b"x-BETA: no", b"X-Beta:  yes"))).status == 403
        assert response(client.ask(get(b"/", b"X-Beta: yes2"))).status == 200
        assert response(client.ask(b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n")).status == 503
        assert house.endings == ["410 PR", "410 PR", "200 --", "403 PR", "200 --", "503 PR"]

    def test_a_path_that_could_be_another_is_refused(self, make_house: MakeHouse) -> None:
        house = make_house(others=[API], frontend={"rules": (route("api", paths=("/api",)),)})
        app = house.origin()
        client = house.client()
        for path in (b"/x/../api", b"//api", b"/%61pi", b"/x/..%2fapi?q=1"):
            assert response(client.ask(get(path))).status == 400
        assert response(client.ask(get(b"/x?to=/../api"))).status == 200
        assert len(app.requests) == 1
        assert house.endings == ["400 PR"] * 4 + ["200 --"]

    @pytest.mark.parametrize("tail", [b"", b"/" + b"x" * 1000], ids=["short", "long"])
    def test_what_is_remembered_of_one_request_is_not_said_of_another(self, make_house: MakeHouse, tail: bytes) -> None:
        rules = (
            Rule("a", Conditions(hosts=("a",), paths=("/x",), methods=("GET",), secure=False), status=403),
            Rule("b", Conditions(hosts=("a",), paths=("/x",)), status=404),
            Rule("c", Conditions(hosts=("a",)), status=410),
        )
        house = make_house(frontend={"rules": rules, "trusted": ("198.51.100.7/32",)})
        house.origin()
        client = house.client()
        for _ in range(2):
            asked = [
                get(b"/x" + tail, host=b"a"),
                get(b"/x" + tail, b"X-Forwarded-Proto: https", host=b"a"),
                get(b"/x" + tail, host=b"a").replace(b"GET", b"PUT"),
                get(b"/y" + tail, host=b"a"),
                get(b"/x" + tail, host=b"b"),
                get(b"/y/../x" + tail, host=b"a"),
            ]
            assert [response(client.ask(each)).status for each in asked] == [403, 404, 404, 410, 200, 400]

    def test_an_absolute_target_is_routed_by_its_own_words(self, make_house: MakeHouse) -> None:
        house = make_house(others=[API], frontend={"rules": (route("api", hosts=("api.example",), paths=("/x",)),)})
        house.other(1, answer(b"api"))
        raw = house.client().ask(b"GET http://api.example/x HTTP/1.1\r\nHost: api.example\r\n\r\n")
        assert response(raw).body == b"api"

    def test_a_backend_that_is_down_is_the_one_that_was_chosen(self, make_house: MakeHouse) -> None:
        house = make_house(others=[API], frontend={"rules": (route("api", paths=("/api",)),)})
        house.origin()
        assert response(house.client().ask(get(b"/api"))).status == 503
        assert (house.log[0].backend, house.endings) == ("api", ["503 SC"])

    @pytest.mark.parametrize(
        ("path", "sent"),
        [
            (b"/api/users?x=/api", b"/users?x=/api"),
            (b"/api", b"/"),
            (b"/api/", b"/"),
            (b"/api?x", b"/?x"),
            (b"/api//evil.example/x", b"/evil.example/x"),
            (b"/api/api/x", b"/api/x"),
        ],
    )
    def test_a_prefix_is_stripped(self, make_house: MakeHouse, path: bytes, sent: bytes) -> None:
        house = make_house(others=[API], frontend={"rules": (route("api", "/api", paths=("/api",)),)})
        api = house.other()
        client = house.client()
        for _ in range(2):
            assert response(client.ask(get(path))).status == 200
        assert [request.split(b" ")[1] for request in api.requests] == [sent] * 2
        assert house.log[1].request_line == b"GET %b HTTP/1.1" % path

    @pytest.mark.parametrize("path", [b"/caf%c3%a9/x", b"/caf%C3%A9/x"])
    def test_a_prefix_is_stripped_however_its_bytes_are_written(self, make_house: MakeHouse, path: bytes) -> None:
        rule = route("api", "/caf%c3%a9", paths=("/caf%c3%a9",))
        house = make_house(others=[API], frontend={"rules": (rule,)})
        api = house.other()
        assert response(house.client().ask(get(path))).status == 200
        assert api.requests[0].startswith(b"GET /x HTTP/1.1\r\n")

    def test_nobody_climbs_out_of_a_prefix_to_get_past_a_refusal(self, make_house: MakeHouse) -> None:
        rules = (Rule("no", Conditions(paths=("/api/api/secret",)), status=403), route("api", "/api", paths=("/api",)))
        house = make_house(others=[API], frontend={"rules": rules})
        api = house.other()
        client = house.client()
        assert response(client.ask(get(b"/api/api/secret"))).status == 403
        for path in (b"/api/../api/secret", b"/api/x/../..//api/secret", b"/api/%2e%2e/api/secret"):
            assert response(client.ask(get(path))).status == 400
        assert response(client.ask(get(b"/api/x/../y"))).status == 200
        assert [request.split(b" ")[1] for request in api.requests] == [b"/x/../y"]


@given(st.from_regex(rb"/api(?:[/?][!-\"$-~]{0,20})?", fullmatch=True))
def test_a_stripped_target_is_still_one_and_keeps_what_is_behind(target: bytes) -> None:
    sent = stripped(target, b"/api")
    assert (sent[:1], sent[:2] == b"//") == (b"/", False)
    assert sent.lstrip(b"/") == target[4:].lstrip(b"/")


class TestRedirects:
    def test_to_https_keeps_host_and_target(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"rules": (TO_HTTPS,)})
        client = house.client()
        for _ in range(2):
            got = response(client.ask(get(b"/a?b=c", host=b"App.example:8080")))
            assert (got.status, got["Location"], got.all("Connection")) == (301, "https://app.example/a?b=c", [])
        assert house.endings == ["301 LR"] * 2
        assert client.fate is None

    def test_a_client_without_a_host_cannot_be_sent_anywhere(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"rules": (TO_HTTPS,)})
        assert response(house.client().ask(b"GET / HTTP/1.0\r\n\r\n")).status == 400
        assert response(house.client().ask(get(b"/evil.example/", host=b"."))).status == 400

    @pytest.mark.parametrize(("status", "kept"), [(301, []), (308, []), (302, ["no-store"]), (307, ["no-store"])])
    def test_what_is_for_good_may_be_remembered(self, make_house: MakeHouse, status: int, kept: list[str]) -> None:
        house = make_house(frontend={"rules": (redirect("/new", status),)})
        assert response(house.client().ask(get())).all("Cache-Control") == kept

    def test_the_whole_server_is_its_root(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"rules": (TO_HTTPS,)})
        got = response(house.client().ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert got["Location"] == "https://a/"

    def test_who_came_by_tls_before_a_trusted_proxy_is_there_already(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"rules": (TO_HTTPS,), "trusted": ("198.51.100.7/32",)})
        house.origin()
        client = house.client()
        assert response(client.ask(get(b"/", b"X-Forwarded-Proto: https"))).status == 200
        assert response(client.ask(get(b"/", b"X-Forwarded-Proto: http"))).status == 301
        assert response(client.ask(get(b"/"))).status == 301
        stranger = house.client("203.0.113.1")
        assert response(stranger.ask(get(b"/", b"X-Forwarded-Proto: https"))).status == 301

    def test_elsewhere_with_the_path(self, make_house: MakeHouse) -> None:
        rules = (
            redirect("https://new.example/old{path}", 308, hosts=("old.example",)),
            redirect("/new", 307, paths=("/old",)),
        )
        house = make_house(frontend={"rules": rules})
        house.origin()
        client = house.client()
        got = response(client.ask(get(b"//evil.example/x?q", host=b"old.example")))
        assert (got.status, got["Location"]) == (308, "https://new.example/old//evil.example/x")
        assert response(client.ask(get(b"/old/x")))["Location"] == "/new"
        assert response(client.ask(get(b"/x"))).status == 200


@pytest.fixture
def said() -> Any:
    """The events that are logged meanwhile."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("event") in ("client-denied", "client-limited"):
            events.append(event)

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


class TestWhoMayCome:
    @pytest.mark.parametrize(
        ("allow", "deny", "status"),
        [
            ((), ("198.51.100.0/24",), 403),
            ((), ("203.0.113.0/24",), 200),
            (("198.51.100.0/24",), (), 200),
            (("203.0.113.0/24",), (), 403),
            (("198.51.100.0/24",), ("198.51.100.7/32",), 403),
        ],
    )
    def test_by_address(
        self, make_house: MakeHouse, said: list[LogEvent], allow: tuple[str], deny: tuple[str], status: int
    ) -> None:
        house = make_house(frontend={"allow": allow, "deny": deny})
        house.origin()
        client = house.client()
        for _ in range(2):
            assert response(client.ask(get())).status == status
        assert house.frontend.denied == (2 if status == 403 else 0)
        assert house.endings == ["403 PR" if status == 403 else "200 --"] * 2
        assert len(said) == (status == 403)

    def test_behind_a_trusted_proxy_the_client_counts(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"deny": ("203.0.113.0/24",), "trusted": ("198.51.100.7/32",)})
        house.origin()
        proxy, stranger = house.client(), house.client("198.51.100.8")
        bad, good = b"X-Forwarded-For: 192.0.2.1, 203.0.113.5", b"X-Forwarded-For: 203.0.113.5, 192.0.2.1"
        assert response(proxy.ask(get(b"/", bad))).status == 403
        assert response(proxy.ask(get(b"/", good))).status == 200
        assert response(proxy.ask(get())).status == 200
        assert response(stranger.ask(get(b"/", bad))).status == 200

    def test_in_tcp_mode_they_are_closed_at_once(self, make_house: MakeHouse, said: list[LogEvent]) -> None:
        house = make_house(mode="tcp", frontend={"deny": ("203.0.113.0/24",)})
        origin = house.origin(1, raw=True)
        bad = house.client("203.0.113.1")
        house.client()
        house.run()
        assert (bad.fate is None, len(origin.connections)) == (False, 1)
        assert (house.frontend.denied, house.frontend.connections, len(said)) == (1, 1, 1)


class TestRateLimit:
    def limited(self, make_house: MakeHouse, rate: RateSettings, **frontend: Any) -> House:
        house = make_house(frontend={"rate_limit": rate, **frontend})
        house.origin()
        return house

    def test_more_than_the_burst_is_429_until_there_is_a_token(
        self, make_house: MakeHouse, said: list[LogEvent]
    ) -> None:
        house = self.limited(make_house, RateSettings(0.5, 2))
        client, other, again = house.client(), house.client("192.0.2.9"), house.client()
        assert [response(client.ask(get())).status for _ in range(2)] == [200] * 2
        got = response(client.ask(get()))
        assert (got.status, got["Retry-After"], client.fate) == (429, "2", None)
        assert response(again.ask(get())).status == 429
        assert response(other.ask(get())).status == 200
        house.run(2)
        assert response(client.ask(get())).status == 200
        assert (house.frontend.limited, len(said)) == (2, 1)
        assert house.endings == ["200 --"] * 2 + ["429 PR"] * 2 + ["200 --"] * 2

    def test_by_the_value_of_a_field(self, make_house: MakeHouse) -> None:
        house = self.limited(make_house, RateSettings(0.1, 1, "x-api-key"))
        client = house.client()
        long = b"X-Api-Key: " + b"k" * 1000
        for key in (b"X-Api-Key: a", b"X-API-KEY: b", long, long + b"2", b"X-Other: 1"):
            assert response(client.ask(get(b"/", key))).status == 200
            assert response(client.ask(get(b"/", key))).status == 429

    def test_who_has_the_field_twice_gets_no_fresh_bucket(self, make_house: MakeHouse) -> None:
        house = self.limited(make_house, RateSettings(0.1, 1, "x-api-key"))
        client = house.client()
        asked = [get(b"/", b"X-Api-Key: new%d" % number, b"X-Api-Key: mine") for number in range(3)]
        assert [response(client.ask(each)).status for each in asked] == [200, 429, 429]

    def test_ipv6_clients_count_by_64(self, make_house: MakeHouse) -> None:
        house = self.limited(make_house, RateSettings(0.1, 1))
        assert response(house.client("2001:db8::1").ask(get())).status == 200
        assert response(house.client("2001:db8::2").ask(get())).status == 429
        assert response(house.client("2001:db8:0:1::1").ask(get())).status == 200

    def test_behind_a_trusted_proxy_each_client_counts(self, make_house: MakeHouse) -> None:
        house = self.limited(make_house, RateSettings(0.1, 1), trusted=("198.51.100.7/32",))
        proxy = house.client()
        for client in (b"192.0.2.1", b"192.0.2.2"):
            assert response(proxy.ask(get(b"/", b"X-Forwarded-For: " + client))).status == 200
            assert response(proxy.ask(get(b"/", b"X-Forwarded-For: " + client))).status == 429


class TestMethods:
    def test_others_are_not_allowed(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"methods": ("GET", "HEAD")})
        origin = house.origin()
        client = house.client()
        assert response(client.ask(get())).status == 200
        got = response(client.ask(post(b"")))
        assert (got.status, got["Allow"], len(origin.requests)) == (405, "GET, HEAD", 1)
        assert house.endings == ["200 --", "405 PR"]


class TestBodyLimit:
    def test_a_body_as_long_as_allowed_goes_through(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"max_body": 10})
        origin = house.origin()
        client = house.client()
        for request in (post(b"0123456789"), chunked(b"01234", b"56789"), chunked(b"0123456789"), post(b"")):
            assert response(client.ask(request)).status == 200
        assert [body_of(request) for request in origin.requests] == [b"0123456789"] * 3 + [b""]

    def test_an_announced_one_that_is_longer_is_refused_before_it_comes(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"max_body": 10})
        origin = house.origin()
        client = house.client()
        got = response(client.ask(post(b"0123456789a", b"Expect: 100-continue")[:-11]))
        assert (got.status, got["Connection"]) == (413, "close")
        assert (house.endings, origin.requests) == (["413 PR"], [])

    @pytest.mark.parametrize("cut", [0, 5, 12])
    def test_a_chunked_one_is_cut_off_when_it_becomes_longer(self, make_house: MakeHouse, cut: int) -> None:
        house = make_house(frontend={"max_body": 10})
        origin = house.origin()
        client = house.client()
        whole = chunked(b"01234", b"56789", b"a")
        end = whole.index(b"\r\n\r\n") + 4 + cut
        client.send(whole[:end])
        house.run()
        got = response(client.ask(whole[end:]))
        assert (got.status, got["Connection"], house.endings) == (413, "close", ["413 PR"])
        assert (origin.requests, origin.open) == ([], 0)
        house.run(3)
        assert client.eof

    def test_a_long_chunk_is_refused_at_its_size(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"max_body": 1_000_000})
        origin = house.origin()
        client = house.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7a120\r\n" + b"x" * 500_000)
        house.run()
        assert origin.last.total > 500_000  # it was on its way
        assert response(client.ask(b"\r\n7a121\r\nyyy")).status == 413
        assert b"yyy" not in origin.last.received

    def test_an_answer_that_has_begun_is_cut(self, make_house: MakeHouse) -> None:
        house = make_house(frontend={"max_body": 10})
        house.origin(1, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun", early=True)
        client = house.client()
        whole = chunked(b"01234", b"567890")
        client.send(whole[:-20])
        house.run()
        assert client.take().endswith(b"begun")
        client.send(whole[-20:])
        house.run()
        assert (client.fate, house.endings) == ("reset", ["200 PR"])

    def test_a_backend_may_have_a_limit_of_its_own(self, make_house: MakeHouse) -> None:
        api, free = BackendSettings("api", max_body=5), BackendSettings("free", max_body=0)
        rules = (route("api", paths=("/api",)), route("free", paths=("/free",)))
        house = make_house(frontend={"max_body": 10, "rules": rules}, others=[api, free])
        house.origin()
        house.other(1)
        house.other(2)
        for path, size, status in ((b"/", 11, 413), (b"/", 6, 200), (b"/api", 6, 413), (b"/free", 99, 200)):
            assert response(house.client().ask(post(b"x" * size, path=path))).status == status
            assert response(house.client().ask(chunked(b"x" * size, path=path))).status == status
