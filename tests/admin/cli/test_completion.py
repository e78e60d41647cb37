"""The Tab key: commands and options from here, names from the running service."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from lbservice.admin.cli import main, names
from tests.admin.cli.service import FakeService, change, lbservice, row


def completions(*words: str) -> list[str]:
    """What Tab offers for the last word."""
    complete = ShellComplete(main, {}, "lbservice", "_LBSERVICE_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def running(fake: FakeService) -> FakeService:
    fake.answers |= {
        "GET /v1/servers": (200, {"items": [row("app/s1"), row("app/s2"), row("api/a1")]}),
        "GET /v1/backends": (200, {"items": [{"backend": "app", "available": 1, "servers": 2}]}),
        "GET /v1/frontends": (200, {"items": [{"frontend": "web", "listen": "*:80"}]}),
        "GET /v1/sessions": (200, {"items": [{"session": "web/127.0.0.1:5", "doing": "idle"}]}),
        "GET /v1/changes": (200, {"items": [change(number=12), change(number=3)]}),
    }
    return fake


class TestNames:
    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            (("server", "drain", "app/"), ["app/s1", "app/s2"]),
            (("server", "add", "a"), ["app"]),
            (("servers", ""), ["app"]),
            (("sessions", ""), ["web", "app", "app/s1", "app/s2", "api/a1"]),
            (("kick", "web"), ["web/127.0.0.1:5"]),
            (("undo", "1"), ["12"]),
            (("log", "follow", "--server", "api"), ["api/a1"]),
            (("server", "dr"), ["drain"]),
            (("completion", ""), ["bash", "zsh", "fish"]),
        ],
    )
    def test_of_the_running_service(self, running: FakeService, words: tuple[str, ...], offered: list[str]) -> None:
        assert completions(*words) == offered

    def test_of_the_service_that_an_option_names(self, running: FakeService) -> None:
        Path("lb.ini").rename("other.ini")
        assert completions("server", "drain", "app/") == []
        assert completions("server", "drain", "--config", "other.ini", "app/") == ["app/s1", "app/s2"]
        assert completions("server", "drain", "--api", "unix:admin.sock", "app/") == ["app/s1", "app/s2"]

    @pytest.mark.parametrize(
        "answer", [(500, {"detail": "x"}), (200, b"nonsense"), (200, {}), (200, []), (200, {"items": [{}]})]
    )
    def test_whatever_goes_wrong_offers_nothing_and_says_nothing(
        self, fake: FakeService, capfd: pytest.CaptureFixture[str], answer: tuple[int, object]
    ) -> None:
        fake.answers["GET /v1/servers"] = answer
        assert completions("server", "drain", "a") == []
        assert capfd.readouterr() == ("", "")

    def test_nobody_waits_for_a_service_that_hangs(self) -> None:
        assert names.PATIENCE <= 0.5


class TestScripts:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_it_is_for_lbservice(self, shell: str) -> None:
        result = lbservice("completion", shell)
        assert result.exit_code == 0
        assert f"_LBSERVICE_COMPLETE={shell}_complete" in result.stdout

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_shell_itself_understands_it(self, shell: str, folder: Path) -> None:
        if not shutil.which(shell):
            pytest.skip(f"there is no {shell} here")
        (folder / "script").write_text(lbservice("completion", shell).stdout)
        done = subprocess.run([shell, "-n", "script"], capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_bash_offers_servers(self, running: FakeService, folder: Path) -> None:
        if not shutil.which("bash"):
            pytest.skip("there is no bash here")
        (folder / "script").write_text(lbservice("completion", "bash").stdout)
        call = "from lbservice.admin.cli import main; main(prog_name='lbservice')"
        (folder / "lbservice").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{call}" "$@"\n')
        (folder / "lbservice").chmod(0o755)
        asked = (
            "PATH=.:$PATH; . ./script; COMP_WORDS=(lbservice server drain app/); COMP_CWORD=3;"
            ' _lbservice_completion lbservice; echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout.split() == ["app/s1", "app/s2"], done.stderr
