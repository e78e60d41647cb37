"""Header fields that are set, added and removed on their way, and error pages from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lbservice.core.settings import BackendSettings, Conditions, Edit, Rule
from lbservice.errors import StartError
from tests.support.actors import answer, field, fields_of, response, then_close
from tests.support.house import House

MakeHouse = Callable[..., House]
DATED = b"Date: Sun, 06 Nov 1994 08:49:37 GMT"


def get(*fields: bytes, path: bytes = b"/", host: bytes = b"app.example") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: %b" % host, *fields]) + b"\r\n\r\n"


def values(request: bytes, name: str) -> list[str]:
    return [value for key, value in fields_of(request) if key.lower() == name.lower()]


class TestRequests:
    def test_set_add_and_remove(self, make_house: MakeHouse) -> None:
        edits = (Edit("X-Set", "set", "ours"), Edit("x-add", "add", "more"), Edit("User-Agent", "remove"))
        house = make_house(frontend={"request_edits": edits})
        origin = house.origin()
        client = house.client()
        theirs = (b"X-Set: a", b"x-set: b", b"X-Add: first", b"User-Agent: curl", b"X-Set-Too: stays")
        for _ in range(3):  # the first on the general path, then said again
            assert response(client.ask(get(*theirs))).status == 200
        for request in origin.requests:
            assert (values(request, "X-Set"), values(request, "X-Add")) == (["ours"], ["first", "more"])
            assert (values(request, "User-Agent"), values(request, "X-Set-Too")) == ([], ["stays"])
            assert values(request, "X-Forwarded-For") == ["198.51.100.7"]
            assert len(values(request, "X-Request-ID")) == 1
        assert (
            len({tuple(sorted(line for line in fields_of(r) if line[0] != "X-Request-ID")) for r in origin.requests})
            == 1
        )

    def test_variables_are_those_of_the_request(self, make_house: MakeHouse) -> None:
        edits = (Edit("X-Real-IP", "set", "{client}"), Edit("X-Is", "set", "{scheme}://{host} {request_id} {}"))
        house = make_house(frontend={"request_edits": edits, "trusted": ("198.51.100.9/32",)})
        origin = house.origin()
        client, proxy = house.client(), house.client("198.51.100.9")
        for _ in range(2):
            client.ask(get(b"X-Real-IP: 6.6.6.6", host=b"App.example:8080"))
            request = origin.requests[-1]
            assert field(request, "X-Real-IP") == "198.51.100.7"
            assert field(request, "X-Is") == f"http://app.example {field(request, 'X-Request-ID')} {{}}"
            assert field(request, "X-Request-ID") == house.log[-1].request_id.decode()
        for address in (b"192.0.2.1", b"192.0.2.2"):
            proxy.ask(get(b"X-Forwarded-For: " + address, b"X-Forwarded-Proto: https"))
            assert field(origin.requests[-1], "X-Real-IP") == address.decode()
            assert str(field(origin.requests[-1], "X-Is")).startswith("https://app.example ")

    def test_what_is_said_again_has_an_id_of_its_own_and_other_fields_are_seen(self, make_house: MakeHouse) -> None:
        edits = (Edit("X-Id", "set", "{request_id}"), Edit("X-Host", "set", "{host}"))
        by_id = make_house(frontend={"request_edits": edits})
        by_host = make_house(frontend={"request_edits": edits[1:]})
        for house in (by_id, by_host):
            origin, client = house.origin(), house.client()
            for host in (b"a", b"a", b"b", b"b", b"a", b"a"):
                client.ask(get(b"X-Theirs: " + host, host=host))
                request = origin.requests[-1]
                assert [field(request, name) for name in ("Host", "X-Host", "X-Theirs")] == [host.decode()] * 3
                assert field(request, "X-Request-ID") == house.log[-1].request_id.decode()
                if house is by_id:
                    assert field(request, "X-Id") == field(request, "X-Request-ID")
            assert len({field(request, "X-Request-ID") for request in origin.requests}) == 6

    def test_each_backend_has_its_own_and_the_frontends_come_first(self, make_house: MakeHouse) -> None:
        api = BackendSettings("api", request_edits=(Edit("X-A", "set", "api"), Edit("X-B", "remove")))
        rules = (Rule("api", Conditions(paths=("/api",)), backend="api"),)
        edits = (Edit("X-A", "set", "web"), Edit("X-B", "add", "web"))
        house = make_house(frontend={"request_edits": edits, "rules": rules}, others=[api])
        app, other = house.origin(), house.other()
        client = house.client()
        for path in (b"/", b"/api", b"/", b"/api"):  # with the same fields
            client.ask(get(b"X-B: theirs", path=path))
        assert [(values(r, "X-A"), values(r, "X-B")) for r in app.requests] == [(["web"], ["theirs", "web"])] * 2
        assert [(values(r, "X-A"), values(r, "X-B")) for r in other.requests] == [(["api"], [])] * 2

    def test_the_host_for_the_server_can_be_another(self, make_house: MakeHouse) -> None:
        house = make_house(request_edits=(Edit("Host", "set", "app.internal:81"),))
        origin = house.origin()
        client = house.client()
        for _ in range(2):
            client.ask(get())
        house.client().ask(b"GET / HTTP/1.0\r\n\r\n")
        assert [field(request, "Host") for request in origin.requests] == ["app.internal:81"] * 3
        assert field(origin.requests[1], "X-Forwarded-Host") == "app.example"

    def test_the_fields_of_proxies_can_be_edited_but_the_framing_stays(self, make_house: MakeHouse) -> None:
        edits = (Edit("X-Forwarded-Proto", "set", "https"), Edit("Via", "remove"), Edit("Host", "set", "b"))
        house = make_house(request_edits=edits)
        origin = house.origin()
        client = house.client()
        client.ask(get())
        client.ask(get())
        client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
        for request in origin.requests:
            assert (values(request, "X-Forwarded-Proto"), values(request, "Via")) == (["https"], [])
        assert values(origin.requests[2], "Transfer-Encoding") == ["chunked"]

    def test_a_retry_is_edited_once(self, make_house: MakeHouse) -> None:
        house = make_house(2, request_edits=(Edit("X-A", "add", "1"),))
        house.origin(1, then_close(b""))
        second = house.origin(2)
        assert response(house.client().ask(get())).status == 200
        assert values(second.requests[0], "X-A") == ["1"]

    def test_an_upgrade_still_is_one(self, make_house: MakeHouse) -> None:
        house = make_house(request_edits=(Edit("X-A", "set", "1"),), response_edits=(Edit("X-B", "set", "1"),))
        origin = house.origin(1, b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        client = house.client()
        got = response(client.ask(get(b"Connection: Upgrade", b"Upgrade: chat")))
        assert (got.status, got["Upgrade"]) == (101, "chat")
        assert (field(origin.requests[0], "Upgrade"), field(origin.requests[0], "X-A")) == ("chat", "1")


class TestResponses:
    @pytest.mark.parametrize("dated", [(), (DATED,)], ids=["no date", "dated"])
    def test_set_add_and_remove(self, make_house: MakeHouse, dated: tuple[bytes, ...]) -> None:
        edits = (Edit("Server", "remove"), Edit("X-Frame", "set", "DENY"), Edit("Link", "add", "</b>"))
        house = make_house(frontend={"response_edits": edits})
        house.origin(1, answer(b"hello", b"Server: x", b"SERVER: y", b"x-frame: ALLOW", b"Link: </a>", *dated))
        client = house.client()
        for _ in range(3):
            got = response(client.ask(get()))
            assert (got.body, got.all("Server"), got.all("X-Frame")) == (b"hello", [], ["DENY"])
            assert (got.all("Link"), len(got.all("Date")), got["Content-Length"]) == (["</a>", "</b>"], 1, "5")
        assert house.endings == ["200 --"] * 3

    def test_heads_of_other_clients_are_not_touched(self, make_house: MakeHouse) -> None:
        rules = (Rule("api", Conditions(paths=("/api",)), backend="api"),)
        api = BackendSettings("api", response_edits=(Edit("X-A", "set", "1"),))
        house = make_house(frontend={"rules": rules}, others=[api])
        house.origin(1, answer(b"app", DATED))
        house.other(1, answer(b"app", DATED))  # the same head, which is remembered once
        client = house.client()
        for _ in range(2):
            assert response(client.ask(get(path=b"/api"))).all("X-A") == ["1"]
            assert response(client.ask(get())).all("X-A") == []

    def test_variables(self, make_house: MakeHouse) -> None:
        house = make_house(response_edits=(Edit("X-Me", "set", "{client} {request_id}"),))
        house.origin(1, answer(b"hello", DATED))
        client = house.client()
        for _ in range(2):
            got = response(client.ask(get()))
            assert got["X-Me"] == f"198.51.100.7 {got['X-Request-ID']}"

    def test_the_frontends_come_last(self, make_house: MakeHouse) -> None:
        house = make_house(
            frontend={"response_edits": (Edit("X-A", "set", "web"),)}, response_edits=(Edit("X-A", "set", "app"),)
        )
        house.origin(1, answer(b"hello", DATED))
        assert response(house.client().ask(get()))["X-A"] == "web"

    def test_any_kind_of_body(self, make_house: MakeHouse) -> None:
        house = make_house(response_edits=(Edit("X-A", "add", "1"),))
        house.origin(
            1,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 X-A: 9\r\nContent-Length: 0\r\n\r\n",
            then_close(b"HTTP/1.0 200 OK\r\n\r\nabc"),
        )
        client = house.client()
        assert [response(client.ask(get())).all("X-A") for _ in range(4)] == [["1"]] * 4

    def test_our_own_pages_are_not_changed(self, make_house: MakeHouse) -> None:
        house = make_house(response_edits=(Edit("X-A", "set", "1"),))
        got = response(house.client().ask(get()))
        assert (got.status, got.all("X-A")) == (503, [])


class TestErrorPages:
    def page(self, tmp_path: Path, name: str, text: bytes) -> str:
        (tmp_path / name).write_bytes(text)
        return str(tmp_path / name)

    def test_the_backends_come_before_the_frontends(self, make_house: MakeHouse, tmp_path: Path) -> None:
        web, api = self.page(tmp_path, "web.html", b"<p>web</p>"), self.page(tmp_path, "api.json", b'{"error": 503}')
        rules = (
            Rule("api", Conditions(paths=("/api",)), backend="api"),
            Rule("no", Conditions(paths=("/no",)), status=404),
        )
        house = make_house(
            frontend={"rules": rules, "pages": ((503, web), (404, web), (400, web))},
            others=[BackendSettings("api", pages=((503, api), (404, api)))],
        )
        client = house.client()
        got = response(client.ask(get(path=b"/api")))
        assert (got.status, got.body, got["Content-Type"]) == (503, b'{"error": 503}', "application/json")
        assert got["Retry-After"]
        got = response(client.ask(get()))
        assert (got.status, got.body, got["Content-Type"]) == (503, b"<p>web</p>", "text/html; charset=utf-8")
        got = response(client.ask(get(path=b"/no")))
        assert (got.status, got.body) == (404, b"<p>web</p>")
        raw = client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (response(raw, to_head=True)["Content-Length"], raw.endswith(b"\r\n\r\n")) == ("10", True)
        got = response(client.ask(b"nonsense\r\n\r\n"))
        assert (got.status, got.body) == (400, b"<p>web</p>")

    def test_a_status_without_one_has_ours(self, make_house: MakeHouse, tmp_path: Path) -> None:
        house = make_house(pages=((502, self.page(tmp_path, "a.txt", b"x")),))
        assert b"No server is available" in response(house.client().ask(get())).body

    def test_a_page_that_has_gone_since_is_a_failed_start(self, make_house: MakeHouse, tmp_path: Path) -> None:
        house = make_house(pages=((502, self.page(tmp_path, "a.txt", b"x")),))
        (tmp_path / "a.txt").unlink()
        with pytest.raises(StartError, match=r"error-page 502: .*a\.txt cannot be read: No such file"):
            house.factory.listen()
