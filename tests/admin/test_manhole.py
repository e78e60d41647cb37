"""The shell's socket: who may open it, who is told to have come, and how it comes and goes."""

from __future__ import annotations

import os
import pwd
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs

from lbservice.admin import client
from lbservice.admin.manhole import manhole
from lbservice.admin.unix import LONGEST_SCRIPT, UnixManhole
from lbservice.core.server import Admin
from lbservice.core.settings import ManholeSettings
from lbservice.errors import StartError
from tests.admin.fakes import FakeControl, events


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Relative, as in lb.ini: pytest's own folders are too deep for a socket's path."""
    monkeypatch.chdir(tmp_path)
    return "run/manhole.sock"


@pytest_twisted.async_yield_fixture  # type: ignore[untyped-decorator]  # the plugin has no types
async def started(path: str, control: FakeControl) -> AsyncIterator[UnixManhole]:
    service = manhole(ManholeSettings(unix=path), control, reactor)
    assert isinstance(service, UnixManhole)
    service.startService()
    yield service
    await service.stopService()


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """Everything logged; nothing may be worse than information."""
    with capturedLogs() as seen:
        yield seen  # type: ignore[misc]  # a list of LogEvent, which is a dict
    assert [event for event in seen if event.get("log_level", LogLevel.info) >= LogLevel.warn] == []


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


async def until(happened: Callable[[], bool]) -> None:
    """Let the reactor turn until it has happened; the test's own time-out is two seconds."""
    for _ in range(2000):
        if happened():
            return
        turn: Deferred[None] = Deferred()
        clock: Any = reactor
        clock.callLater(0.001, turn.callback, None)
        await turn
    raise AssertionError("did not happen")


class TestSocketFile:
    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_it_is_for_its_owner_only(self, started: UnixManhole, path: str) -> None:
        assert mode(path) == 0o600
        assert mode("run") == 0o700

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_there_is_no_moment_with_another_mode(
        self, path: str, control: FakeControl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "chmod", lambda *_: None)  # what Twisted does only after it was bound
        before = os.umask(0)
        try:
            service = UnixManhole(path, control, reactor)
            service.startService()
            assert mode(path) == 0o600
            assert os.umask(0) == 0, "the process keeps its umask"
        finally:
            os.umask(before)
            await service.stopService()

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_it_goes_with_the_service(self, path: str, control: FakeControl) -> None:
        service = UnixManhole(path, control, reactor)
        service.startService()
        await service.stopService()
        assert not os.path.exists(path)

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_stop_does_not_mind_that_it_is_gone(self, path: str, control: FakeControl) -> None:
        service = UnixManhole(path, control, reactor)
        service.startService()
        os.unlink(path)
        await service.stopService()

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_stop_leaves_the_socket_of_another_alone(self, path: str, control: FakeControl) -> None:
        service = UnixManhole(path, control, reactor)
        service.startService()
        os.rename(path, f"{path}.old")  # keeps the inode from being used again
        Path(path).write_text("somebody else's")
        await service.stopService()
        assert Path(path).read_text() == "somebody else's"

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_what_a_dead_process_left_is_replaced(self, path: str, control: FakeControl) -> None:
        os.mkdir("run")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        service = UnixManhole(path, control, reactor)
        service.startService()
        output, error = await deferToThread(client.run_script, path, "6 * 7")
        assert (output, error) == ("42\n", "")
        await service.stopService()

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_living_one_is_not(self, started: UnixManhole, path: str, control: FakeControl) -> None:
        with pytest.raises(StartError, match=r"run/manhole\.sock: another process is listening there"):
            UnixManhole(path, control, reactor).startService()
        output, _ = await deferToThread(client.run_script, path, "6 * 7")
        assert output == "42\n", "the living one goes on"

    def test_a_file_that_is_no_socket_is_left_alone(self, path: str, control: FakeControl) -> None:
        os.mkdir("run")
        Path(path).write_text("precious")
        with pytest.raises(StartError, match="is no socket"):
            UnixManhole(path, control, reactor).startService()
        assert Path(path).read_text() == "precious"

    def test_a_path_too_long_for_a_socket_is_said_so(self, path: str, control: FakeControl) -> None:
        with pytest.raises(StartError, match="too long"):
            UnixManhole(f"run/{'x' * 110}.sock", control, reactor).startService()

    def test_a_folder_that_cannot_be_made_is_said_so(self, path: str, control: FakeControl) -> None:
        Path("run").write_text("a file")
        with pytest.raises(StartError, match="the folder run/deeper cannot be made: Not a directory"):
            UnixManhole("run/deeper/manhole.sock", control, reactor).startService()


class TestConnection:
    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_the_kernel_says_who_came(
        self, started: UnixManhole, path: str, logged: list[dict[str, Any]]
    ) -> None:
        await deferToThread(client.run_script, path, 'lb.drain("app/s1")')
        await until(lambda: not started.factory.doors)
        name = pwd.getpwuid(os.getuid()).pw_name
        told = [
            (event["event"], event["actor"])
            for event in events(logged, "shell-opened", "shell", "change", "shell-closed")
        ]
        who = f"{name} (uid {os.getuid()}) at the shell"
        assert told == [("shell-opened", who), ("shell", who), ("change", who), ("shell-closed", who)]

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_script_has_its_output_and_its_error(self, started: UnixManhole, path: str) -> None:
        output, error = await deferToThread(client.run_script, path, 'print("a\\0ü\\ud800")\nlb.drain("s1")\n')
        assert output == "a\\0ü\\ud800\n"
        assert error == "'s1': name a server as BACKEND/SERVER, e.g. app/s1\n"

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_script_that_broke_off_is_not_run(
        self, started: UnixManhole, path: str, control: FakeControl, logged: list[dict[str, Any]]
    ) -> None:
        with client.connect(path) as connection:
            connection.sendall(b'\0lb.drain("app/s1")\nlb.drain("app/s2")')
        await until(lambda: bool(events(logged, "shell-closed")))
        assert control.app["s1"].admin is Admin.READY

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_script_has_a_greatest_length(self, started: UnixManhole, path: str) -> None:
        _, error = await deferToThread(client.run_script, path, "#" * (LONGEST_SCRIPT + 100_000))
        assert "at most" in error

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_lines_from_a_pipe_are_answered_before_the_end(self, started: UnixManhole, path: str) -> None:
        def pipe() -> bytes:  # echo 'lb.servers()' | socat - unix:PATH
            with client.connect(path) as connection:
                connection.sendall(b"lb.servers()\n")
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(4096), b""))

        assert b"app/s2" in await deferToThread(pipe)

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_client_that_vanishes_leaves_no_trace(
        self, started: UnixManhole, path: str, logged: list[dict[str, Any]]
    ) -> None:
        for typed in (b"", b"\0", b"lb.serv", b"print('x' * 10_000_000)\r", b"\x1b["):
            with client.connect(path) as connection:
                connection.sendall(typed)
        await until(lambda: len(events(logged, "shell-closed")) == 5)

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_stop_ends_the_sessions(self, path: str, control: FakeControl) -> None:
        service = UnixManhole(path, control, reactor)
        service.startService()
        with client.connect(path) as connection:
            await until(lambda: bool(service.factory.doors))
            await service.stopService()
            end = await deferToThread(lambda: b"".join(iter(lambda: connection.recv(4096), b"")))
        assert end.endswith(b"\x1b[4l\r\n")
