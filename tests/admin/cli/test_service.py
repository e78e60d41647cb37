"""Where the service is, and what is said when it cannot be reached or understood."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lbservice.admin.cli.failure import Unreachable
from lbservice.admin.cli.place import find
from lbservice.admin.cli.service import Service
from tests.admin.cli.service import FakeService, fake_service, lbservice


def ini(text: str) -> str:
    Path("lb.ini").write_text(f"[admin]\nlisten = {text}\n")
    return "lb.ini"


class TestPlace:
    @pytest.mark.parametrize(
        ("listen", "place"),
        [
            ("unix:run/admin.sock", "unix:run/admin.sock"),
            ("127.0.0.1:8404, unix:a.sock", "unix:a.sock"),
            ("127.0.0.1:8404", "http://127.0.0.1:8404"),
            ("*:8404", "http://127.0.0.1:8404"),
            ("[::]:8404", "http://[::1]:8404"),
            ("10.0.0.1:8404 tls cert=a.pem client-ca=b.pem, 127.0.0.1:1", "https://10.0.0.1:8404"),
        ],
    )
    def test_of_lb_ini(self, listen: str, place: str) -> None:
        assert str(find(ini(listen))) == place

    @pytest.mark.parametrize(
        "api", ["unix:/run/a.sock", "http://127.0.0.1:8404", "https://lb.example", "http://[::1]:8404/"]
    )
    def test_of_a_url(self, api: str) -> None:
        assert str(find("nowhere.ini", api)).startswith(api.rstrip("/"))

    @pytest.mark.parametrize(
        "api", ["127.0.0.1:8404", "ftp://x", "http://x/path", "http://x:99999", "http://", "http://["]
    )
    def test_a_url_that_is_none_says_how_to_write_one(self, api: str) -> None:
        with pytest.raises(Unreachable, match="http://HOST:PORT"):
            find("lb.ini", api)

    def test_a_broken_file_still_says_where_the_service_is(self) -> None:
        Path("lb.ini").write_text("[frontend\nhalf an\n[admin]\nlisten = unix:a.sock\ncolour = blue\n\xff")
        assert find("lb.ini").unix == "a.sock"

    def test_a_socket_beside_the_file_is_found_from_elsewhere(self, folder: Path) -> None:
        (folder / "etc").mkdir()
        (folder / "etc" / "lb.ini").write_text("[admin]\nlisten = unix:a.sock\n")
        assert find("etc/lb.ini").unix == "a.sock"
        (folder / "etc" / "a.sock").touch()
        assert find("etc/lb.ini").unix == "etc/a.sock"

    def test_a_token_is_of_the_environment_or_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LBSERVICE_TOKEN", "abc")
        Path("token").write_text("from-file\n")
        assert find("x", "http://h:1").token == "abc"
        assert find("x", "http://h:1", "token").token == "from-file"
        Path("token").write_text("two\nlines")
        with pytest.raises(Unreachable, match="one token"):
            find("x", "http://h:1", "token")


class TestUnreachable:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (None, "there is no lb.ini here"),
            ("[frontend web]\n", "no [admin] section"),
            ("[admin]\nlisten = nonsense\n", "names no address"),
            ("[admin]\nlisten = unix:none.sock\n", "there is no such socket; start the service"),
            ("[admin]\nlisten = 127.0.0.1:1\n", "nobody listens there"),
        ],
    )
    def test_it_is_exit_code_3_and_says_what_to_do(self, text: str | None, why: str) -> None:
        if text is not None:
            Path("lb.ini").write_text(text)
        result = lbservice("servers")
        assert (result.exit_code, result.stdout) == (3, "")
        assert why in result.stderr

    def test_a_socket_of_a_dead_service(self) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind("a.sock")
        ini("unix:a.sock")
        result = lbservice("servers")
        assert result.exit_code == 3
        assert "lbservice run --config lb.ini" in result.stderr

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
    def test_a_socket_of_somebody_else(self, fake: FakeService) -> None:
        Path("admin.sock").chmod(0)
        assert "another user" in lbservice("servers").stderr

    @pytest.mark.parametrize(
        ("status", "body", "why"),
        [
            (200, b"<html>", "not the API of lbservice"),
            (404, b"not found", "not the API of lbservice"),
            (500, b"[]", "not the API of lbservice"),
            (200, b"[" * 100_000, "not the API of lbservice"),
        ],
    )
    def test_somebody_else_answers(self, fake: FakeService, status: int, body: bytes, why: str) -> None:
        fake.answers["GET /v1/servers"] = (status, body)
        result = lbservice("servers")
        assert result.exit_code == 3
        assert why in result.stderr

    def test_no_answer_at_all(self) -> None:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            port = deaf.getsockname()[1]
            with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
                Service(find("x", f"http://127.0.0.1:{port}"), timeout=0.1).ask("servers")


def test_over_tcp_with_a_token() -> None:
    with fake_service() as (fake, api):
        fake.answers["GET /v1/servers"] = (200, {"items": []})
        result = lbservice("servers", "--api", api, env={"LBSERVICE_TOKEN": "s3cret"})
        assert (result.exit_code, result.stdout) == (0, "no servers\n")
        assert fake.asked[0].headers["authorization"] == "Bearer s3cret"


def test_who_is_not_let_in_hears_of_tokens() -> None:
    with fake_service() as (fake, api):
        fake.answers["GET /v1/servers"] = (401, {"detail": "a token is needed"})
        result = lbservice("servers", "--api", api)
        assert result.exit_code == 1
        assert "LBSERVICE_TOKEN" in result.stderr


def test_lbservice_config_names_the_file(fake: FakeService, folder: Path) -> None:
    fake.answers["GET /v1/servers"] = (200, {"items": []})
    (folder / "lb.ini").rename(folder / "other.ini")
    assert lbservice("servers", env={"LBSERVICE_CONFIG": "other.ini"}).exit_code == 0
