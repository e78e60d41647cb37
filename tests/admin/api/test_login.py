"""Who is let in, and what he may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import capturedLogs

from lbservice import tokens
from lbservice.admin.api.desk import PENALTY
from lbservice.admin.api.login import Login, TokenFile
from lbservice.admin.api.problem import Problem
from lbservice.admin.api.route import Level
from lbservice.core.server import Admin
from lbservice.core.settings import AdminListen, ListenTls
from lbservice.errors import StartError
from tests.admin.fakes import FakeControl, events
from tests.support.api import JSON, ApiHouse

MADE = {level: tokens.make(f"a-{level}", level) for level in tokens.LEVELS}
OUTSIDE = AdminListen(host="192.0.2.1", port=8404)


def bearer(level: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {MADE[level][0]}"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("\n".join(line for _, line in MADE.values()))
    path.chmod(0o600)
    return path


@pytest.fixture
def guarded(control: FakeControl, path: Path) -> Iterator[ApiHouse]:
    house = ApiHouse(control, OUTSIDE, str(path))
    yield house
    house.close()


class TestTokens:
    def test_each_level_may_what_it_may(self, guarded: ApiHouse) -> None:
        asked: list[tuple[str, str, Any]] = [
            ("GET", "/v1/servers", None),
            ("POST", "/v1/servers/app/s1/drain", {}),
            ("POST", "/v1/changes/1/undo", {}),
        ]
        statuses = {level: [guarded.ask(*each, bearer(level)).status for each in asked] for level in tokens.LEVELS}
        assert statuses == {"viewer": [200, 403, 403], "operator": [200, 200, 403], "admin": [200, 200, 200]}

    def test_its_name_and_where_it_came_from_are_in_the_journal(self, guarded: ApiHouse) -> None:
        change = guarded.ask("POST", "/v1/servers/app/s1/drain", {}, bearer("operator")).json
        assert change["actor"] == "a-operator (token) at 192.0.2.7"

    @pytest.mark.parametrize(
        "authorization",
        [
            "",
            "Bearer",
            "Bearer x",
            f"Bearer {MADE['admin'][0]}x",
            f"Basic {MADE['admin'][0]}",
            MADE["admin"][0],
            "Bearer " + tokens.parse(MADE["admin"][1])[0].digest,
            "Bearer \xff",
        ],
        ids=["none", "empty", "short", "longer", "basic", "bare", "its hash", "no text"],
    )
    def test_who_has_none_waits_and_is_told_so_and_the_log_too(
        self, guarded: ApiHouse, control: FakeControl, authorization: str
    ) -> None:
        headers = {**JSON, "Authorization": authorization}
        with capturedLogs() as logged:
            wire = guarded.raw(
                b"POST /v1/servers/app/s1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
                + "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value).encode("latin-1")
                + b"\r\n{}"
            )
            guarded.clock.advance(PENALTY * 0.9)
            assert wire.value() == b""
            guarded.clock.advance(PENALTY * 0.2)
        assert wire.value().startswith(b"HTTP/1.1 401")
        assert b"\r\nWWW-Authenticate: Bearer " in wire.value()
        assert control.app["s1"].admin is Admin.READY
        (refused,) = events(logged, "refused")  # type: ignore[arg-type]
        assert refused["actor"] == "somebody at 192.0.2.7"
        secret = authorization.removeprefix("Bearer ")
        assert len(secret) < 5 or secret not in str(logged)

    def test_who_leaves_while_he_waits(self, guarded: ApiHouse) -> None:
        channel, wire = guarded.connect()
        channel.dataReceived(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.abortConnection()
        channel.connectionLost()
        assert guarded.clock.getDelayedCalls() == []

    def test_health_needs_none(self, guarded: ApiHouse) -> None:
        assert guarded.ask("GET", "/healthz").status == 200
        assert guarded.ask("GET", "/ready").status == 200

    def test_nothing_is_told_to_strangers(self, guarded: ApiHouse) -> None:
        for method, path in (("GET", "/v1/nope"), ("OPTIONS", "/v1/servers"), ("PUT", "/v1/servers"), ("GET", "/")):
            assert guarded.ask(method, path).status == 401

    def test_one_that_was_taken_out_of_the_file_is_not_let_in_again(self, guarded: ApiHouse, path: Path) -> None:
        assert guarded.ask("GET", "/v1/servers", headers=bearer("viewer")).status == 200
        path.write_text(MADE["admin"][1])
        assert guarded.ask("GET", "/v1/servers", headers=bearer("viewer")).status == 401
        assert guarded.ask("GET", "/v1/servers", headers=bearer("admin")).status == 200

    def test_a_file_that_became_unusable_lets_in_nobody_and_the_log_says_why(
        self, guarded: ApiHouse, path: Path
    ) -> None:
        path.chmod(0o644)
        with capturedLogs() as logged:
            assert guarded.ask("GET", "/v1/servers", headers=bearer("admin")).status == 401
        assert "mode 0644" in events(logged, "tokens-unusable")[0]["reason"]  # type: ignore[arg-type]
        path.chmod(0o600)
        assert guarded.ask("GET", "/v1/servers", headers=bearer("admin")).status == 200

    def test_one_that_is_unusable_at_the_start(self, path: Path) -> None:
        path.chmod(0o644)
        with pytest.raises(StartError, match=r"^\[admin\] tokens = .* run chmod 600"):
            TokenFile(str(path)).start()


class TestCertificates:
    LISTEN = AdminListen(host="192.0.2.1", port=8404, tls=ListenTls("cert.pem"), client_ca="ca.pem")

    @staticmethod
    def transport(name: str | None) -> Any:
        certificate = SimpleNamespace(get_subject=lambda: SimpleNamespace(commonName=name))
        return SimpleNamespace(
            getPeerCertificate=lambda: certificate, getPeer=lambda: SimpleNamespace(host="192.0.2.7")
        )

    def test_its_name_is_who_it_is_and_it_may_everything(self) -> None:
        who = Login(self.LISTEN, None).who(self.transport("alice"), [])
        assert (who.actor, who.level) == ("alice (certificate) at 192.0.2.7", Level.ADMIN)

    def test_unless_the_file_of_tokens_says_otherwise(self, path: Path) -> None:
        path.write_text("alice viewer -\n" + MADE["operator"][1])
        login = Login(self.LISTEN, TokenFile(str(path)))
        assert login.who(self.transport("alice"), []).level is Level.VIEWER
        assert login.who(self.transport("a-operator"), []).level is Level.ADMIN  # that line is a token's

    @pytest.mark.parametrize("name", [None, "", "a\nb", "x" * 65])
    def test_names_that_are_none(self, name: str | None) -> None:
        with pytest.raises(Problem, match="has no common name"):
            Login(self.LISTEN, None).who(self.transport(name), [])
