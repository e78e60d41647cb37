"""The shell of a real service: with OpenSSH's client, with `lbservice shell` at a terminal, with socat."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest

from tests.support.debian import need
from tests.support.processes import Balancer, free_port, operated_ini, run

pytestmark = pytest.mark.system

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the Debian package openssh-client")
needs_socat = pytest.mark.skipif(shutil.which("socat") is None, reason="needs the Debian package socat")

CLI = [sys.executable, "-m", "lbservice.admin.cli"]
PATIENCE = 15.0
HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(8))


def config(manhole: str) -> str:
    return operated_ini(f"[manhole]\n{manhole}", grace="1s")


class Terminal:
    """A program that believes to be at a terminal."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.fd, inner = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        os.close(inner)
        self.seen = ""

    def types(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def shows(self, pattern: str) -> str:
        """Wait until that is on the screen; it is used up then."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} did not come; there is {self.seen!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # how a terminal says that nobody is at its other end
                raise AssertionError(f"it ended without {pattern!r}: {self.seen!r}") from None
            self.seen += re.sub(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[A-Za-z=>])", "", data.decode(errors="replace"))
        self.seen = self.seen[match.end() :]
        return match[0]

    def ends(self) -> int:
        return self.process.wait(PATIENCE)


@contextmanager
def terminal(command: list[str], folder: Path) -> Iterator[Terminal]:
    it = Terminal(command, folder)
    try:
        yield it
    finally:
        if it.process.poll() is None:
            it.process.kill()
            it.process.wait()
        os.close(it.fd)


class TestUnixSocket:
    @pytest.fixture
    def balancer(self, tmp_path: Path) -> Iterator[Balancer]:
        with Balancer(tmp_path, config("listen = unix:run/manhole.sock")) as running:
            yield running

    def test_a_person_at_a_terminal(self, balancer: Balancer) -> None:
        with terminal([*CLI, "shell"], balancer.folder) as person:
            person.shows(">>> ")
            person.types("lb.servers()\r")
            person.shows(r"app/s1 +127\.0\.0\.1:9001 +UP")
            person.types('lb.drain("app/s1")\r')
            person.shows("app/s1: set to drain, ready -> drain")
            person.types('lb.drain("app/s7")\r')
            person.shows("no server 's7' in backend app; there are: s1, s2\r\n>>> ")
            person.types("exit()\r")
            assert person.ends() == 0
        balancer.wait_for_log(r"shell \S+ \(uid \d+\) at the shell typed: lb\.servers\(\)")
        balancer.wait_for_log(r"server app/s1 set to drain by \S+ \(uid \d+\) at the shell")
        balancer.wait_for_log("shell closed by")
        assert balancer.process.poll() is None, "leaving the shell leaves the service alone"

    def test_control_d_and_the_escape_key_leave(self, balancer: Balancer) -> None:
        for key in ("\x04", "\x1d"):
            with terminal([*CLI, "shell"], balancer.folder) as person:
                person.shows(">>> ")
                person.types(key)
                assert person.ends() == 0

    def test_a_pipe_gets_plain_text(self, balancer: Balancer) -> None:
        code, output, error = run([*CLI, "shell"], balancer.folder, text="lb.servers()\n")
        assert (code, error) == (0, "")
        assert output.splitlines()[0].split()[:3] == ["SERVER", "ADDRESS", "STATE"]
        assert "\x1b" not in output
        assert ">>>" not in output

    def test_an_error_in_a_pipe_is_exit_code_1(self, balancer: Balancer) -> None:
        code, output, error = run([*CLI, "shell"], balancer.folder, text='print(1)\nlb.drain("app/s7")\nprint(2)\n')
        assert (code, output) == (1, "1\n")
        assert error == "no server 's7' in backend app; there are: s1, s2\n"

    @needs_socat
    def test_socat_will_do(self, balancer: Balancer) -> None:
        with terminal(["socat", "-,raw,echo=0", "unix:run/manhole.sock"], balancer.folder) as person:
            person.shows(">>> ")
            person.types("6 * 7\r")
            person.shows("\r\n42\r\n>>> ")
            person.types("\x04")
            assert person.ends() == 0

    def test_the_socket_is_private_and_goes_with_the_service(self, balancer: Balancer) -> None:
        path = balancer.folder / "run" / "manhole.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        balancer.stop()
        assert not path.exists()
        code, _, error = run([*CLI, "shell"], balancer.folder, text="lb.servers()\n")
        assert code == 3
        assert "lbservice run" in error

    def test_a_second_service_at_the_same_socket_says_why_it_does_not_start(self, balancer: Balancer) -> None:
        other = balancer.folder / "other.ini"
        other.write_text(config("listen = unix:run/manhole.sock"))
        code, output, _ = run([*CLI, "run", "--config", "other.ini"], balancer.folder)
        assert code != 0
        assert "run/manhole.sock: another process is listening there" in output
        assert "Traceback" not in output
        assert run([*CLI, "shell"], balancer.folder, text="6 * 7")[1] == "42\n", "the first goes on"


class TestWhatRunsTooLong:
    @pytest.fixture
    def balancer(self, tmp_path: Path) -> Iterator[Balancer]:
        with Balancer(tmp_path, config("listen = unix:run/manhole.sock\ntime-limit = 300ms")) as running:
            yield running

    @pytest.mark.parametrize(
        "script",
        [
            "while True: pass",
            "while True: lb.servers() and None",
            "def f():\n  while True:\n    pass\nf()",
            "import time\ntime.sleep(60)",
            "while True:\n  try:\n    lb.weight('app/s1', 3)\n    lb.weight('app/s1', 4)\n  except Exception: pass",
        ],
    )
    def test_it_is_ended_and_told(self, balancer: Balancer, script: str) -> None:
        code, _, error = run([*CLI, "shell"], balancer.folder, text=script + "\n")
        assert (code, error) == (1, "ended after 0.3 s, as all traffic waits for it (time-limit in [manhole])\n")
        assert run([*CLI, "shell"], balancer.folder, text="6 * 7\n")[1] == "42\n"
        balancer.wait_for_log(r"everything stood still for \d+ ms \(\d+ ms of them computing\): .* had typed: ")

    def test_at_a_terminal_too(self, balancer: Balancer) -> None:
        with terminal([*CLI, "shell"], balancer.folder) as person:
            person.shows(">>> ")
            person.types("while True: pass\r\r")
            person.shows(r"ended after 0\.3 s, .*\r\n>>> ")
            person.types("6 * 7\r")
            person.shows("\r\n42\r\n>>> ")
            person.types("\x04")
            assert person.ends() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_limit_a_signal_is_the_way_out_of_a_loop(tmp_path: Path, number: signal.Signals) -> None:
    balancer = Balancer(tmp_path, config("listen = unix:run/manhole.sock\ntime-limit = off"))
    with balancer, terminal([*CLI, "shell"], balancer.folder) as person:
        person.shows(">>> ")
        person.types("while True: lb.servers() and None\r\r")
        balancer.wait_for_log("typed: while True")
        balancer.signal(number)
        if number == signal.SIGINT:
            person.shows(r"ended by SIGINT\r\n>>> ")
            person.types("\x04")
            assert person.ends() == 0
            assert balancer.process.poll() is None
        else:
            assert balancer.wait() == 0


def password_file(folder: Path) -> None:
    path = folder / "passwords"
    path.touch(mode=0o600)
    path.write_bytes(b"".join(b"%b:%b\n" % (name, HASH) for name in (b"alice", b"ops")))


class TestTelnet:
    @pytest.fixture
    def port(self) -> int:
        return free_port()

    @pytest.fixture
    def balancer(self, tmp_path: Path, port: int) -> Iterator[Balancer]:
        need("telnet")
        password_file(tmp_path)
        with Balancer(tmp_path, config(f"listen = telnet:127.0.0.1:{port}\npasswords = passwords")) as running:
            yield running

    def test_a_person_at_a_terminal(self, balancer: Balancer, port: int) -> None:
        balancer.wait_for_log(r"warn: the shell listens on telnet:127\.0\.0\.1:\d+: .* plain text")
        with terminal(["telnet", "127.0.0.1", str(port)], balancer.folder) as person:
            person.shows("Name: ")
            person.types("alice\r")
            person.shows("Password: ")
            person.types("open sesame\r")
            assert "sesame" not in person.shows(r">>> ")
            person.types('lb.drain("app/s1")\r')
            person.shows("app/s1: set to drain, ready -> drain")
            person.types("\x04")
            person.ends()
        balancer.wait_for_log(r"server app/s1 set to drain by alice \(telnet\)")
        balancer.wait_for_log(r"shell closed by alice \(telnet\)")
        assert "sesame" not in balancer.log() + balancer.output()

    def test_three_wrong_passwords_end_it(self, balancer: Balancer, port: int) -> None:
        with terminal(["telnet", "127.0.0.1", str(port)], balancer.folder) as person:
            for _ in range(3):
                person.shows("Name: ")
                person.types("alice\r")
                person.shows("Password: ")
                person.types("guess\r")
                person.shows("Refused")
            person.ends()
        balancer.wait_for_log(r"warn: shell refused to alice \(telnet password\) from 127\.0\.0\.1: wrong", times=3)
        assert "guess" not in balancer.log() + balancer.output()
        assert "shell opened" not in balancer.log()

    def test_strangers_leave_no_trace(self, balancer: Balancer, port: int) -> None:
        for said in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\x01",
            b"\xff\xfa" + bytes(range(255)) * 300,
            b"\xff\xfa\x1f\0P\0\x18\xff\xf0\xff\xfa\x1f\0\xff\xf0",
            b"a" * 100_000 + b"\r\n" + b"b" * 100_000,
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stranger:
                stranger.sendall(said)
                try:
                    assert stranger.recv(4096)
                except ConnectionError:
                    pass
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stranger:
            while b"Name: " not in stranger.recv(4096):
                pass


@needs_ssh
class TestSsh:
    @pytest.fixture
    def port(self) -> int:
        return free_port()

    @pytest.fixture
    def balancer(self, tmp_path: Path, port: int) -> Iterator[Balancer]:
        for name in ("alice", "mallory"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)]
            subprocess.run(command, check=True, timeout=PATIENCE)
        (tmp_path / "alice.pub").chmod(0o644)
        with Balancer(tmp_path, config(f"listen = ssh:127.0.0.1:{port}\nauthorized-keys = alice.pub")) as running:
            yield running

    def ssh(self, port: int, *options: str, key: str = "alice") -> list[str]:
        """A client without a configuration that takes the host key as it comes, and never asks."""
        trust = ["-o", "UserKnownHostsFile=known_hosts", "-o", "StrictHostKeyChecking=accept-new"]
        alone = ["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
        return ["ssh", *alone, *trust, "-i", key, "-p", str(port), *options, "ops@127.0.0.1"]

    @pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512", "ssh-rsa"])
    def test_an_rsa_key_with_a_signature_that_is_good_enough(
        self, balancer: Balancer, port: int, algorithm: str
    ) -> None:
        command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(balancer.folder / "rsa")]
        subprocess.run(command, check=True, timeout=PATIENCE)
        (balancer.folder / "alice.pub").write_bytes((balancer.folder / "rsa.pub").read_bytes())
        options = self.ssh(port, "-o", f"PubkeyAcceptedAlgorithms={algorithm}", key="rsa")
        code, output, error = run([*options, "print(6 * 7)"], balancer.folder)
        assert (code, output) == ((255, "") if algorithm == "ssh-rsa" else (0, "42\n")), error

    def test_a_person_at_a_terminal(self, balancer: Balancer, port: int) -> None:
        fingerprint = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(balancer.folder / "alice.pub")],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        ).stdout.split()[1]
        with terminal(self.ssh(port, "-tt"), balancer.folder) as person:
            person.shows(">>> ")
            person.types("lb.servers()\r")
            person.shows(r"app/s2 +127\.0\.0\.1:9002 +UP")
            person.types('lb.weight("app/s1", 5)\r')
            person.shows("app/s1: weight set, weight 1 -> weight 5")
            person.types("exit()\r")
            assert person.ends() == 0
        balancer.wait_for_log(re.escape(f"server app/s1 weight set by ops (ssh {fingerprint}) (weight 1 -> weight 5)"))
        balancer.wait_for_log(re.escape(f"shell closed by ops (ssh {fingerprint})"))
        log = re.sub(".* everything stood still .*", "", balancer.log())  # on a busy machine
        assert not re.search("kex|auth|channel|warn:|error:", log), "conch's own words are no events"
        assert (balancer.folder / "known_hosts").read_text().split()[1] == "ssh-ed25519"

    def test_control_d_ends_it_with_exit_code_0(self, balancer: Balancer, port: int) -> None:
        with terminal(self.ssh(port, "-tt"), balancer.folder) as person:
            person.shows(">>> ")
            person.types("\x04")
            assert person.ends() == 0

    def test_a_changed_window_and_a_killed_client_leave_no_trace(self, balancer: Balancer, port: int) -> None:
        with terminal(self.ssh(port, "-tt"), balancer.folder) as person:
            person.shows(">>> ")
            fcntl.ioctl(person.fd, termios.TIOCSWINSZ, struct.pack("4H", 50, 132, 0, 0))
            person.types("import math\r")
            person.shows(">>> ")
            person.process.kill()
            person.process.wait()
            balancer.wait_for_log("shell closed by")  # and the fixture looks for tracebacks

    def test_a_command_and_a_pipe_are_scripts(self, balancer: Balancer, port: int) -> None:
        command = self.ssh(port)
        code, output, error = run([*command, "print(6 * 7)"], balancer.folder)
        assert (code, output) == (0, "42\n"), error
        code, output, error = run(command, balancer.folder, text='lb.servers()\nlb.drain("app/s7")\n')
        assert code == 1
        assert "app/s2" in output
        assert "\x1b" not in output
        assert "no server 's7'" in error

    def test_much_output_arrives_whole(self, balancer: Balancer, port: int) -> None:
        code, output, _ = run([*self.ssh(port), "print('x' * 5_000_000)"], balancer.folder)
        assert (code, len(output)) == (0, 5_000_001)

    def test_an_unknown_key_and_a_password_are_refused(self, balancer: Balancer, port: int) -> None:
        code, output, error = run([*self.ssh(port, key="mallory"), "print(6 * 7)"], balancer.folder)
        assert code == 255
        assert output == ""
        assert "Permission denied (publickey)" in error
        balancer.wait_for_log(r"shell refused to ops \(ssh SHA256:")
        assert "shell opened" not in balancer.log()

    def test_a_key_that_is_taken_away_is_refused_from_then_on(self, balancer: Balancer, port: int) -> None:
        command = [*self.ssh(port), "print(6 * 7)"]
        assert run(command, balancer.folder)[0] == 0
        (balancer.folder / "alice.pub").write_text("# nobody\n")
        assert run(command, balancer.folder)[0] == 255

    def test_nothing_but_the_shell_can_be_had(self, balancer: Balancer, port: int) -> None:
        code, _, _ = run([*self.ssh(port, "-s"), "sftp"], balancer.folder)
        assert code != 0
        code, _, error = run(self.ssh(port, "-W", "127.0.0.1:22"), balancer.folder)
        assert code != 0
        assert "only sessions here" in error

    def test_strangers_leave_no_trace(self, balancer: Balancer, port: int) -> None:
        for said in (
            b"",
            b"SSH-2.0-x",
            b"GET / HTTP/1.1\r\n\r\n",
            b"SSH-2.0-x\r\n" + bytes(range(256)) * 8,
            b"SSH-1.0-x\r\n",
            b"SSH-2.0-x\r\n" + struct.pack(">LB", 12, 4) + b"\x14truncated!",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stranger:
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                try:
                    while stranger.recv(4096):
                        pass
                except ConnectionError:
                    pass
        balancer.wait_for_log(r"ssh: nonsense from 127\.0\.0\.1:\d+")
        assert run([*self.ssh(port), "print(6 * 7)"], balancer.folder)[1] == "42\n"

    def test_a_password_is_let_in_where_there_is_a_file_of_them(self, tmp_path: Path, port: int) -> None:
        password_file(tmp_path)
        options = ["-o", "NumberOfPasswordPrompts=1", "-o", "PubkeyAuthentication=no"]
        command = [word.replace("BatchMode=yes", "BatchMode=no") for word in self.ssh(port, *options)]
        asking = tmp_path / "ask"
        with Balancer(tmp_path, config(f"listen = ssh:127.0.0.1:{port}\npasswords = passwords")) as balancer:
            for password, code in (("open sesame", 0), ("guess", 255)):
                asking.write_text(f"#!/bin/sh\necho '{password}'\n")
                asking.chmod(0o700)
                done = subprocess.run(
                    [*command, "print(6 * 7)"],
                    cwd=tmp_path,
                    env=os.environ | {"SSH_ASKPASS": str(asking), "SSH_ASKPASS_REQUIRE": "force"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
                assert done.returncode == code, done.stderr
                assert done.stdout == ("42\n" if code == 0 else "")
            balancer.wait_for_log(r"shell opened by ops \(ssh password\)", times=1)
            balancer.wait_for_log(r"warn: shell refused to ops \(ssh password\) from 127\.0\.0\.1: wrong password")
            assert "guess" not in balancer.log() + balancer.output()

    def test_the_host_key_stays_and_is_private(self, balancer: Balancer, port: int) -> None:
        key = balancer.folder / "lbservice_host_ed25519"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        before = key.read_bytes()
        balancer.stop()
        key.chmod(0o644)
        code, output, _ = run([*CLI, "run"], balancer.folder)
        assert code != 0
        assert "lets others read it; run chmod 600 lbservice_host_ed25519" in output
        assert "Traceback" not in output
        key.chmod(0o600)
        balancer.start()
        assert key.read_bytes() == before
        assert run([*self.ssh(port), "print(6 * 7)"], balancer.folder)[1] == "42\n"
