"""Real processes for the system tests: the balancer under its real twistd, and servers behind it.

Every process is a child that is ended by its own pid, also when the test fails. Everything that
waits has a bound.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
TWISTD = [sys.executable, str(SCRIPTS / "twistd")]
TWIST = [sys.executable, str(SCRIPTS / "twist")]
LBSERVICE = [sys.executable, str(SCRIPTS / "lbservice")]

PATIENCE = 15.0
"""Seconds that a process may take to come up or to end."""
INTER, FALL, RISE = 0.3, 3, 2
"""How the usual lb.ini checks: seconds between checks, and how many change the state."""
TROUBLE = re.compile(r"Traceback|Unhandled")

T = TypeVar("T")


def eventually(question: Callable[[], T], seconds: float, what: str) -> T:
    """Ask again and again until the answer is true, for at most that long."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)


def free_port(start: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on; the first one from `start` on, if given."""
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", start))
            except OSError:
                start += 1
                continue
            port: int = probe.getsockname()[1]
            return port


def alive(pid: int) -> bool:
    """Does this process run, and is it no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def serves(pid: int) -> bool:
    """Has the balancer installed its signal handlers? Its listeners are open by then, and its reactor runs."""
    caught = int(_status(pid).get("SigCgt", "0"), 16)
    return all(caught & 1 << number - 1 for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP))


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, in nanoseconds."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def run(command: Sequence[str], folder: Path, *, text: str = "", seconds: float = 20.0) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, output and error output."""
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    return done.returncode, done.stdout, done.stderr


def lb_ini(port: int, servers: Iterable[Server | str], *, top: str = "", frontend: str = "", backend: str = "") -> str:
    """A usual lb.ini: frontend `web` on that port, backend `app` with those servers (or lines), quick checks.

    The other texts are further lines: `top` sections at the beginning, keys for the two sections.
    """
    lines = "\n".join(server if isinstance(server, str) else server.line for server in servers)
    return (
        f"{top}\n[frontend web]\nlisten = 127.0.0.1:{port}\nbackend = app\n{frontend}\n"
        f"[backend app]\ninter = {INTER:g}s\nfall = {FALL}\nrise = {RISE}\n{backend}\n{lines}\n"
    )


def operated_ini(section: str, grace: str) -> str:
    """An lb.ini with this section for operators, whose servers nobody checks."""
    return f"""
[loadbalancer]
grace = {grace}
{section}
[frontend web]
listen = 127.0.0.1:{free_port()}
backend = app
[backend app]
check = none
server s1 = 127.0.0.1:9001
server s2 = 127.0.0.1:9002
"""


class Balancer:
    """The balancer, started in `folder` with an lb.ini of that text.

    As a context manager it must end well: exit code 0 on SIGTERM, and nothing in its log or output
    that looks like a traceback.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        command: Sequence[str] = (*TWISTD, "-n", "--pidfile=", "loadbalancer", "--config", "lb.ini"),
        environment: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.folder = folder
        self.config_path = folder / "lb.ini"
        self.log_path = folder / "load_balancer.log"
        self.output_path = folder / "twistd.out"
        self.config_path.write_text(config)
        self._command = command
        self._environment = environment
        self._pass_fds = pass_fds
        self._process: subprocess.Popen[bytes] | None = None

    # -- life ------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, and wait until it serves."""
        with open(self.output_path, "ab") as output:
            process = self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=os.environ | (self._environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self._pass_fds,
            )
        try:
            eventually(lambda: process.poll() is not None or serves(process.pid), PATIENCE, "the start")
            if process.poll() is not None:
                raise AssertionError(f"it ended at once with {process.returncode}:\n{self.output()}")
        except BaseException:
            self.kill()
            raise
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The child process."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; the exit code (negative: that signal killed it)."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """SIGTERM; it must end well."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"exit code {code}\n{self.output()}"
        self.check_for_trouble()

    def check_for_trouble(self) -> None:
        """Neither the log nor the output may show a traceback."""
        for text in (self.log(), self.output()):
            found = TROUBLE.search(text)
            assert found is None, text[max(0, found.start() - 500) : found.end() + 2000]

    def kill(self) -> None:
        """End it whatever it does; for tests that have failed already."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self.process.poll() is None:
                self.stop()
        finally:
            self.kill()
            if error is not None:
                last = "\n".join(self.log().splitlines()[-20:])
                error.add_note(f"load_balancer.log ends with:\n{last}\nand its output is:\n{self.output()[-2000:]}")

    # -- what it says ----------------------------------------------------------------------

    def output(self) -> str:
        """Everything on its standard output and error output."""
        return self.output_path.read_text(errors="replace") if self.output_path.exists() else ""

    def log(self) -> str:
        """The log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def access_lines(self) -> list[str]:
        """The lines of the log that tell of requests and sessions."""
        return [line for line in self.log().splitlines() if " [lbservice] " not in line and line[:1] not in ("", " ")]

    def wait_for_log(self, expected: str, seconds: float = 5.0, *, times: int = 1) -> str:
        """Wait for a match of that pattern (or so many of them) in the log; the last one."""
        found = eventually(
            lambda: (every := re.findall(expected, self.log()))[times - 1 :] and every,
            seconds,
            f"{expected!r} in the log",
        )
        return str(found[-1])

    def wait_for_access(self, number: int, seconds: float = 5.0) -> list[str]:
        """Wait for that many access lines; they are written in slices."""
        eventually(lambda: len(self.access_lines()) >= number, seconds, f"{number} access lines")
        return self.access_lines()

    # -- what it takes ---------------------------------------------------------------------

    def rss(self) -> int:
        """Resident memory now, in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def peak_rss(self) -> int:
        """The most resident memory there was since the start or `reset_peak`, in bytes."""
        return int(_status(self.pid)["VmHWM"].split()[0]) * 1024

    def reset_peak(self) -> None:
        """Count the peak from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_ns(self) -> int:
        """CPU time so far, in nanoseconds."""
        return cpu_ns(self.pid)


class Server:
    """A process of `tests.support.server`; it keeps its port when it is killed and started again."""

    def __init__(self, name: str, kind: str = "http", *options: str) -> None:
        self.name = name
        self.port = 0
        self._kind = kind
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """As lb.ini and the shell want it."""
        return f"127.0.0.1:{self.port}"

    @property
    def line(self) -> str:
        """Its line of lb.ini."""
        return f"server {self.name} = {self.address}"

    def launch(self) -> None:
        """Start the process without waiting for it."""
        command = [sys.executable, "-m", "tests.support.server", self._kind, "--name", self.name]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), *self._options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ready(self) -> None:
        """Wait until it listens."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server {self.name} did not start"
        self.port = int(line)

    def start(self) -> None:
        """Start it, on the port that it had before."""
        self.launch()
        self.ready()

    def kill(self) -> None:
        """SIGKILL: its connections break, nobody is told."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGSTOP makes a server that hangs."""
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def http_servers(*names: str) -> Iterator[tuple[Server, ...]]:
    """Several http servers at once; without names s1, s2 and s3."""
    with ExitStack() as cleanup:
        servers = tuple(Server(name) for name in names or ("s1", "s2", "s3"))
        for server in servers:
            cleanup.callback(server.kill)
            server.launch()
        for server in servers:
            server.ready()
        yield servers
