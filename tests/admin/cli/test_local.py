"""The command line: what it prints, and the exit code that a script goes by."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lbservice import __version__
from lbservice.admin import cli
from lbservice.admin.cli import local
from lbservice.config import load

MANHOLE = "[manhole]\nlisten = unix:m.sock\n"
WEB = "[frontend web]\nlisten = 127.0.0.1:8080\nbackend = app\n[backend app]\nserver s1 = 127.0.0.1:9001\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test is in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lbservice(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, words, input=text)


class Service:
    """Somebody at m.sock who answers one connection with `answer` and keeps what was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heard = b""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("m.sock")
        self.listener.listen()
        self.thread = Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.sendall(b"greeting >>> ")
            while self.heard.count(b"\0") < 2:
                self.heard += connection.recv(4096)
            connection.sendall(self.answer)

    def close(self) -> None:
        self.thread.join(5)
        self.listener.close()


@pytest.fixture
def answering(folder: Path) -> Iterator[Any]:
    """A function that starts a Service in this folder, with an lb.ini that names it."""
    services = []
    (folder / "lb.ini").write_text(MANHOLE + WEB)

    def answer(text: bytes) -> Service:
        services.append(Service(text))
        return services[-1]

    yield answer
    for service in services:
        service.close()


class TestCheck:
    def test_a_good_file_is_summed_up(self, folder: Path) -> None:
        (folder / "lb.ini").write_text(WEB + "server s2 = 127.0.0.1:9002\n[backend spare]\n")
        result = lbservice("check", "lb.ini")
        assert (result.exit_code, result.stdout) == (0, "lb.ini: ok, 1 frontend, 2 backends, 2 servers\n")

    def test_every_mistake_is_a_line_on_stderr_and_the_answer_is_no(self, folder: Path) -> None:
        (folder / "lb.ini").write_text(WEB + "balance = leestconn\ncolour = blue\n")
        result = lbservice("check", "lb.ini")
        assert result.exit_code == 1
        assert result.stdout == ""
        first, second = result.stderr.splitlines()
        assert first.startswith("lb.ini:6: [backend app] balance")
        assert second.startswith("lb.ini:7: [backend app] colour")

    def test_a_file_that_is_not_there_is_a_no(self) -> None:
        result = lbservice("check", "nowhere.ini")
        assert result.exit_code == 1
        assert result.stderr.startswith("nowhere.ini: no such file")


class TestInit:
    def test_what_it_prints_passes_check(self, folder: Path) -> None:
        result = lbservice("init")
        assert result.exit_code == 0
        (folder / "lb.ini").write_text(result.stdout)
        assert lbservice("check", "lb.ini").stdout == "lb.ini: ok, 1 frontend, 1 backend, 3 servers\n"
        assert load("lb.ini").manhole is not None, "so that lbservice shell works from the start"

    def test_it_is_short(self) -> None:
        assert 20 <= len(lbservice("init").stdout.splitlines()) <= 30


class TestShell:
    def test_a_script_from_a_pipe_is_sent_whole_and_its_output_printed(self, answering: Any) -> None:
        service = answering(b"\0SERVER  STATE\napp/s1  UP\n\0")
        result = lbservice("shell", text="lb.servers()\n")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "SERVER  STATE\napp/s1  UP\n", "")
        assert service.heard == b"\0lb.servers()\n\0"

    def test_an_error_goes_to_stderr_and_is_a_no(self, answering: Any) -> None:
        answering(b"\0first\n\0no server 's9' in backend app\n")
        result = lbservice("shell", text="lb.drain('app/s9')\n")
        assert (result.exit_code, result.stdout, result.stderr) == (1, "first\n", "no server 's9' in backend app\n")

    def test_a_service_that_goes_away_has_not_answered(self, answering: Any) -> None:
        answering(b"\0half an ans")
        result = lbservice("shell", text="lb.servers()\n")
        assert result.exit_code == 3
        assert "went away before it had answered" in result.stderr

    @pytest.mark.parametrize("words", [(), ("--socket", "m.sock")])
    def test_no_service_is_exit_code_3_and_says_what_to_do(self, folder: Path, words: tuple[str, ...]) -> None:
        (folder / "lb.ini").write_text(MANHOLE + WEB)
        result = lbservice("shell", *words, text="lb.servers()\n")
        assert result.exit_code == 3
        assert result.stdout == ""
        assert "cannot reach the service at unix:m.sock" in result.stderr
        assert "lbservice run" in result.stderr

    def test_a_socket_that_nobody_listens_at_is_exit_code_3(self, folder: Path) -> None:
        (folder / "lb.ini").write_text(MANHOLE + WEB)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind("m.sock")
        result = lbservice("shell", text="")
        assert result.exit_code == 3
        assert "nobody listens there any more" in result.stderr

    @pytest.mark.parametrize(
        ("ini", "why"),
        [
            (WEB, "add [manhole] with listen = unix:run/manhole.sock"),
            (WEB + "[manhole]\nlisten = ssh:127.0.0.1:2222\nauthorized-keys = lb.ini\n", "ssh -p 2222 127.0.0.1"),
            ("[frontend", "cannot tell where the service is"),
        ],
    )
    def test_without_a_socket_to_go_to_it_says_why(self, folder: Path, ini: str, why: str) -> None:
        (folder / "lb.ini").write_text(ini)
        result = lbservice("shell", text="")
        assert result.exit_code == 3
        assert why in result.stderr


class TestRun:
    def test_it_becomes_twistd_of_this_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ran: list[list[str]] = []
        monkeypatch.setattr(os, "execv", lambda program, words: ran.append([program, *words]))
        lbservice("run", "--config", "other.ini")
        ((program, first, *rest),) = ran
        assert program == first == sys.executable
        assert rest[-3:] == ["loadbalancer", "--config", "other.ini"]
        assert "--nodaemon" in rest

    def test_twistd_is_the_one_beside_this_python(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", str(folder / "python"))
        assert local.twistd()[1] == "-c"
        (folder / "twistd").touch(0o755)
        assert local.twistd() == [str(folder / "python"), str(folder / "twistd")]


def test_a_word_that_is_no_command_is_usage() -> None:
    assert lbservice("serve").exit_code == 2


def test_the_version() -> None:
    assert lbservice("--version").stdout == f"lbservice, version {__version__}\n"
