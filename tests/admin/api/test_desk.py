"""The API as a client sees it, without a network."""

from __future__ import annotations

import getpass
import json
from typing import Any

import pytest
from twisted.logger import capturedLogs

from lbservice.admin.api.channel import IDLE, LARGEST_BODY, MOST_CONNECTIONS, MOST_DISCARDED, PATIENCE
from lbservice.core.server import Admin
from lbservice.core.settings import AdminListen
from tests.admin.fakes import FakeControl, events
from tests.support.api import JSON, ApiHouse, read


class TestQuestions:
    def test_servers_are_rows_in_items(self, api: ApiHouse) -> None:
        response = api.ask("GET", "/v1/servers")
        assert response.status == 200
        assert response.fields["content-type"] == "application/json"
        assert response.fields["cache-control"] == "no-store"
        assert [row["server"] for row in response.json["items"]] == ["app/s1", "app/s2"]

    def test_those_of_a_backend(self, api: ApiHouse) -> None:
        assert len(api.ask("GET", "/v1/servers?backend=app").json["items"]) == 2
        response = api.ask("GET", "/v1/servers?backend=nope")
        assert response.status == 404
        assert response.fields["content-type"] == "application/problem+json"
        assert response.json["detail"] == "no backend 'nope'; there are: app"

    def test_one_server(self, api: ApiHouse) -> None:
        assert api.ask("GET", "/v1/servers/app/s2").json["address"] == "127.0.0.1:9002"
        assert api.ask("GET", "/v1/servers/app/s9").status == 404

    def test_a_name_may_be_escaped(self, api: ApiHouse) -> None:
        assert api.ask("GET", "/v1/servers/app/%732").json["server"] == "app/s2"
        assert api.ask("GET", "/v1/servers/app%2Fs2").status == 405  # a backend of that name, which has POST

    @pytest.mark.parametrize("path", ["health", "backends", "frontends", "stats", "sessions", "changes"])
    def test_the_others(self, api: ApiHouse, control: FakeControl, path: str) -> None:
        control.fake.everywhere = ()  # type: ignore[attr-defined]
        assert api.ask("GET", "/v1/servers/app/s1/health" if path == "health" else f"/v1/{path}").status == 200

    def test_head_is_get_without_a_body(self, api: ApiHouse) -> None:
        response = api.ask("HEAD", "/v1/servers")
        assert (response.status, response.body) == (200, b"")
        assert int(response.fields["content-length"]) > 100

    def test_other_methods_are_told_what_there_is(self, api: ApiHouse) -> None:
        response = api.ask("PUT", "/v1/servers/app/s1", {})
        assert response.status == 405
        assert response.fields["allow"] == "DELETE, GET, OPTIONS, HEAD"
        response = api.ask("OPTIONS", "/v1/reload")
        assert (response.status, response.fields["allow"]) == (204, "OPTIONS, POST")

    def test_paths_that_are_none(self, api: ApiHouse) -> None:
        for path in ("/", "/v1", "/v1/servers/", "/v1/servers//s1", "/v2/servers", "/v1/servers/app/s1/x/y"):
            assert api.ask("GET", path).status == 404, path
        assert api.ask("GET", "http://localhost/v1/servers").status == 400
        assert api.ask("GET", "/v1/stats?" + "x" * 5000).status == 400

    @pytest.mark.parametrize(
        "query", ["last=x", "last=-1", "last=501", "last=1&last=2", "nope=1", "last=%ff", "last=1&" + "a=1&" * 30]
    )
    def test_queries_that_are_none(self, api: ApiHouse, query: str) -> None:
        assert api.ask("GET", f"/v1/changes?{query}").status in (400, 422)

    def test_health_and_readiness(self, api: ApiHouse, control: FakeControl) -> None:
        assert api.ask("GET", "/healthz").body == b"ok\n"
        assert api.ask("GET", "/ready").status == 200
        for server in control.app.values():
            server.settings = type(server.settings)(server.name, "127.0.0.1", 1, state="maint")
        control.fake.backends["app"].refresh()
        assert api.ask("GET", "/ready").json["detail"] == "no backend has a server that can be used"
        control.fake.running = False
        response = api.ask("GET", "/ready")
        assert (response.status, response.json["detail"]) == (503, "stopping: nothing new is taken")
        assert api.ask("GET", "/healthz").status == 200


class TestChanges:
    def test_a_change_answers_with_what_changed(self, api: ApiHouse, control: FakeControl) -> None:
        response = api.ask("POST", "/v1/servers/app/s1/drain", {"comment": "ticket 1"})
        assert response.status == 200
        change = response.json
        assert change.pop("at") > 0
        assert change.pop("text").startswith("app/s1: set to drain, ready -> drain (change 1")
        assert change == {
            "verb": "set to drain",
            "target": "app/s1",
            "before": "ready",
            "after": "drain",
            "changed": True,
            "number": 1,
            "saved": False,
            "details": [],
            "actor": "somebody at 192.0.2.7",
            "face": "api",
            "comment": "ticket 1",
        }
        assert control.app["s1"].admin is Admin.DRAIN
        assert api.ask("POST", "/v1/servers/app/s1/drain", {}).json["changed"] is False
        assert [row["number"] for row in api.ask("GET", "/v1/changes").json["items"]] == [1]

    def test_a_server_comes_and_goes(self, api: ApiHouse, control: FakeControl) -> None:
        new = {"name": "s3", "address": "127.0.0.1:9003", "weight": 4, "maxconn": 7, "backup": True}
        assert api.ask("POST", "/v1/servers/app", new).status == 201
        settings = control.app["s3"].settings
        assert (settings.weight, settings.maxconn, settings.backup) == (4, 7, True)
        assert api.ask("POST", "/v1/servers/app", new).status == 409
        response = api.ask("DELETE", "/v1/servers/app/s3?now=true&comment=bye")
        assert (response.status, response.json["comment"]) == (200, "bye")
        assert "s3" not in control.app
        assert api.ask("DELETE", "/v1/servers/app/s3").status == 404

    def test_a_delete_may_have_its_comment_in_a_body(self, api: ApiHouse) -> None:
        assert api.ask("DELETE", "/v1/servers/app/s1", {"comment": "old"}).json["comment"] == "old"
        response = api.ask("DELETE", "/v1/servers/app/s2?comment=a", {"comment": "b"})
        assert response.status == 400

    @pytest.mark.parametrize(
        ("path", "body", "status", "said"),
        [
            ("app", {}, 400, "name is missing"),
            ("app", {"name": "s3"}, 400, "address is missing"),
            ("app", {"name": "s3", "address": "nowhere"}, 422, "app/s3: "),
            ("app", {"name": "s 3", "address": "127.0.0.1:1"}, 422, "app/s 3: "),
            ("app", {"name": 3, "address": "127.0.0.1:1"}, 400, "name: give a string, not 3"),
            ("app", {"name": "s\n3", "address": "127.0.0.1:1"}, 422, "name: has a control character"),
            ("app", {"name": "x" * 2000, "address": "127.0.0.1:1"}, 422, "name: at most 1000 characters"),
            ("nope", {"name": "s3", "address": "127.0.0.1:1"}, 404, "no backend 'nope'"),
            ("app/s1/weight", {"weight": 257}, 422, "weight: 257 is more than 256"),
            ("app/s1/weight", {"weight": -1}, 422, "weight: -1 is less than 0"),
            ("app/s1/weight", {"weight": 1.0}, 400, "weight: give a whole number, not 1.0"),
            ("app/s1/weight", {"weight": True}, 400, "weight: give a whole number, not True"),
            ("app/s1/weight", {}, 400, "weight is missing"),
            ("app/s1/maxconn", {"maxconn": "1"}, 400, "maxconn: give a whole number, not '1'"),
            ("app/s1/address", {"address": "1.2.3.4"}, 422, "address '1.2.3.4': "),
            ("app/s1/drain", {"coment": "x"}, 400, "'coment' is no field here; there are: comment"),
            ("app/s1/drain", {"comment": None}, 400, "comment: give a string, not None"),
            ("app/s1/drain", {"comment": "\ud800"}, 422, "comment: has a control character"),
            ("app/s9/drain", {}, 404, "no server 's9' in backend app"),
        ],
    )
    def test_what_cannot_be(
        self, api: ApiHouse, control: FakeControl, path: str, body: dict[str, Any], status: int, said: str
    ) -> None:
        before = settings_of(control)
        with capturedLogs() as logged:
            response = api.ask("POST", f"/v1/servers/{path}", body)
        assert response.status == status, response.body
        assert response.json["status"] == status
        assert response.json["detail"].startswith(said)
        assert settings_of(control) == before
        assert control.journal.number == 0
        (refused,) = events(logged, "refused")  # type: ignore[arg-type]
        assert (refused["actor"], refused["face"], refused["status"]) == ("somebody at 192.0.2.7", "api", status)

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b"null",
            b"1",
            b'{"comment": NaN}',
            b'{"comment": "a", "comment": "b"}',
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"comment": ' + b"9" * 5000 + b"}",
            b"comment=x",
        ],
    )
    def test_bodies_that_are_malformed(self, api: ApiHouse, control: FakeControl, body: bytes) -> None:
        response = api.ask("POST", "/v1/servers/app/s1/drain", body, JSON)
        assert response.status == 400, response.body
        assert control.app["s1"].admin is Admin.READY

    @pytest.mark.parametrize(
        "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]
    )
    def test_bodies_that_are_not_json(self, api: ApiHouse, control: FakeControl, kind: str) -> None:
        response = api.ask("POST", "/v1/servers/app/s1/drain", b"{}", {"Content-Type": kind})
        assert response.status == 415
        assert control.app["s1"].admin is Admin.READY

    def test_a_change_without_a_body_says_that_it_is_json_too(self, api: ApiHouse) -> None:
        assert api.ask("POST", "/v1/servers/app/s1/drain").status == 415
        assert api.ask("POST", "/v1/servers/app/s1/drain", headers=JSON).status == 200
        assert (
            api.ask("POST", "/v1/servers/app/s1/ready", b"", {"Content-Type": "application/json; charset=utf-8"}).status
            == 200
        )

    def test_questions_change_nothing(self, api: ApiHouse) -> None:
        assert api.ask("GET", "/v1/servers/app/s1/drain", {}).status == 405

    def test_nothing_is_changed_while_the_service_stops(self, api: ApiHouse, control: FakeControl) -> None:
        control.fake.running = False
        assert api.ask("POST", "/v1/servers/app/s1/drain", {}).status == 503
        assert control.app["s1"].admin is Admin.READY
        assert api.ask("GET", "/v1/servers").status == 200

    def test_a_fault_of_ours_is_500_and_told_in_the_log(self, api: ApiHouse, control: FakeControl) -> None:
        control.drain = None  # type: ignore[method-assign, assignment]
        with capturedLogs() as logged:
            response = api.ask("POST", "/v1/servers/app/s1/drain", {})
        assert (response.status, "NoneType" in response.body.decode()) == (500, False)
        assert any("log_failure" in event for event in logged)


class TestLostUpdates:
    def test_a_tag_that_holds(self, api: ApiHouse) -> None:
        tag = api.ask("GET", "/v1/servers/app/s1").fields["etag"]
        response = api.ask("POST", "/v1/servers/app/s1/weight", {"weight": 3}, {"If-Match": tag})
        assert response.status == 200
        assert response.fields["etag"] not in ("", tag)
        again = api.ask("POST", "/v1/servers/app/s1/weight", {"weight": 5}, {"If-Match": tag})
        assert again.status == 412
        newer = {"If-Match": f'"x", {response.fields["etag"]}'}
        assert api.ask("POST", "/v1/servers/app/s1/weight", {"weight": 5}, newer).status == 200

    def test_it_is_of_one_server_only(self, api: ApiHouse) -> None:
        tag = api.ask("GET", "/v1/servers/app/s1").fields["etag"]
        api.ask("POST", "/v1/servers/app/s2/drain", {})
        assert api.ask("DELETE", "/v1/servers/app/s1", headers={"If-Match": tag}).status == 200

    def test_that_of_a_list_is_of_everything(self, api: ApiHouse, control: FakeControl) -> None:
        tag = api.ask("GET", "/v1/servers").fields["etag"]
        api.ask("POST", "/v1/servers/app/s2/drain", {})
        new = {"name": "s3", "address": "127.0.0.1:9003"}
        assert api.ask("POST", "/v1/servers/app", new, {"If-Match": tag}).status == 412
        assert "s3" not in control.app
        assert api.ask("POST", "/v1/servers/app", new, {"If-Match": "*"}).status == 201

    def test_a_malformed_one_does_not_hold(self, api: ApiHouse) -> None:
        assert api.ask("POST", "/v1/servers/app/s1/drain", {}, {"If-Match": "nonsense"}).status == 412

    def test_a_server_that_has_gone_since_has_no_tag(self, api: ApiHouse) -> None:
        tag = api.ask("GET", "/v1/servers/app/s1").fields["etag"]
        api.ask("DELETE", "/v1/servers/app/s1")
        assert api.ask("POST", "/v1/servers/app/s1/drain", {}, {"If-Match": tag}).status == 412
        assert api.ask("POST", "/v1/servers/app/s1/drain", {}).status == 404


class TestBrowsers:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:8080"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Host": "evil.example"},
            {"Host": "evil.example:8404"},
            {"Host": "localhost.evil.example"},
        ],
    )
    def test_pages_of_others_are_refused(self, api: ApiHouse, control: FakeControl, headers: dict[str, str]) -> None:
        with capturedLogs() as logged:
            assert api.ask("POST", "/v1/servers/app/s1/drain", {}, headers).status == 403
            assert api.ask("GET", "/v1/servers", headers=headers).status == 403
        assert control.app["s1"].admin is Admin.READY
        assert len(events(logged, "refused")) == 2  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://localhost:8404", "Host": "localhost:8404", "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Host": "LOCALHOST"},
            {"Host": "127.0.0.1:8404"},
            {"Host": "192.0.2.1"},  # the address that was connected to
        ],
    )
    def test_our_own_are_not(self, api: ApiHouse, headers: dict[str, str]) -> None:
        assert api.ask("GET", "/v1/servers", headers=headers).status == 200

    @pytest.mark.parametrize("host", ["", "a b", "[::1", "localhost:x", "localhost/"])
    def test_hosts_that_are_none(self, api: ApiHouse, host: str) -> None:
        assert api.ask("GET", "/v1/servers", headers={"Host": host}).status == 400

    def test_hosts_of_the_configuration(self, control: FakeControl) -> None:
        house = ApiHouse(control, hosts=("lb.example",))
        assert house.ask("GET", "/v1/servers", headers={"Host": "LB.example:8404"}).status == 200
        house.close()


class TestUnixSocket:
    def test_the_kernel_says_who_it_is_and_the_command_line_says_that_it_is_it(self, control: FakeControl) -> None:
        house = ApiHouse(control, AdminListen(unix="run/admin.sock"))
        change = house.ask(
            "POST", "/v1/servers/app/s1/drain", {}, {"User-Agent": "lbservice-cli/0.1.0", "Host": ""}
        ).json
        assert change["actor"].startswith(f"{getpass.getuser()} (uid ")
        assert change["face"] == "cli"
        assert house.ask("POST", "/v1/servers/app/s1/ready", {}).json["face"] == "api"
        house.close()

    def test_over_tcp_nobody_is_the_command_line(self, api: ApiHouse) -> None:
        headers = {"User-Agent": "lbservice-cli/0.1.0"}
        assert api.ask("POST", "/v1/servers/app/s1/drain", {}, headers).json["face"] == "api"


class TestBounds:
    def test_a_body_that_is_too_large(self, api: ApiHouse, control: FakeControl) -> None:
        body = b'{"comment": "' + b"x" * LARGEST_BODY + b'"}'
        with capturedLogs() as logged:
            assert api.ask("POST", "/v1/servers/app/s1/drain", body, JSON).status == 413
        assert control.app["s1"].admin is Admin.READY
        assert len(events(logged, "refused")) == 1  # type: ignore[arg-type]

    def test_one_in_chunks(self, api: ApiHouse) -> None:
        head = b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        channel, wire = api.connect()
        channel.dataReceived(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(LARGEST_BODY // 65536 + 1):
            channel.dataReceived(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert wire.value() == b""
        channel.dataReceived(b"0\r\n\r\n")
        assert read(wire.value()).status == 413

    def test_one_without_an_end(self, api: ApiHouse) -> None:
        channel, wire = api.connect()
        channel.dataReceived(b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(MOST_DISCARDED // 65536 + 1):
            channel.dataReceived(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert wire.aborted

    def test_a_head_that_is_too_large(self, api: ApiHouse) -> None:
        for head in (b"X: " + b"x" * 20000, b"\r\n".join(b"X%d: x" % number for number in range(200))):
            wire = api.raw(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
            assert wire.value()[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")
            assert wire.disconnecting

    def test_a_request_that_takes_its_time(self, api: ApiHouse) -> None:
        channel, wire = api.connect()
        for letter in b"GET /v1/servers HTTP/1.1\r\nHost: localhost\r\n":
            channel.dataReceived(bytes([letter]))
            api.clock.advance(1)
            if wire.aborted:
                break
        assert api.clock.seconds() == pytest.approx(PATIENCE)

    def test_a_connection_without_requests(self, api: ApiHouse) -> None:
        _, wire = api.connect()
        api.clock.advance(IDLE)
        assert wire.disconnecting

    def test_more_connections_than_there_may_be(self, api: ApiHouse) -> None:
        connections = [api.connect() for _ in range(MOST_CONNECTIONS)]
        assert api.factory.buildProtocol(None) is None
        connections[0][1].abortConnection()
        connections[0][0].connectionLost()
        assert api.factory.buildProtocol(None) is not None

    def test_a_last_answer_that_nobody_takes(self, api: ApiHouse) -> None:
        wire = api.raw(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert wire.disconnecting
        api.clock.advance(PATIENCE)
        assert wire.aborted

    def test_requests_one_behind_the_other(self, api: ApiHouse) -> None:
        wire = api.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
        assert wire.value().count(b"200 OK") == 5
        assert not wire.disconnecting


def settings_of(control: FakeControl) -> str:
    return json.dumps({name: repr(server.settings) for name, server in control.app.items()})
