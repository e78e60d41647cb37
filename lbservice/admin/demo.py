"""`lbservice demo`: the real service with three servers behind it, shown in half a minute.

Everything is a child process in a temporary folder; all of it is gone when the demo ends.
"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click

from lbservice.admin.cli import show
from lbservice.admin.cli.failure import Failure
from lbservice.admin.cli.local import twistd
from lbservice.admin.cli.place import Place
from lbservice.admin.cli.service import Service

CONFIG = """\
[loadbalancer]
log = {folder}/load_balancer.log
grace = 2s

[admin]
listen = unix:{folder}/admin.sock

[manhole]
listen = unix:{folder}/manhole.sock

[frontend web]
listen = 127.0.0.1:{port}
backend = app

[backend app]
balance = roundrobin
check = http GET /health expect 200
inter = 500ms
fall = 2
"""

REQUESTS = 30
PATIENCE = 20.0
"""Seconds that the service may take to come up, or a stopped server to be noticed."""


class Failed(Exception):
    """The show did not go as promised."""


def main(port: int, seconds: float | None) -> int:
    """The demo; it ends `seconds` after the show, or (None) on Ctrl-C.

    Returns the exit code: 0, or 1 when the show went wrong.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ExitStack() as cleanup:
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="lbservice-demo-", dir=_short())))
            try:
                _show(folder, _free_port(port), cleanup)
            except Failed as error:
                print(f"\nThe demo failed: {error}\n{_output(folder)}", file=sys.stderr)
                return 1
            _stay(seconds)
        return 0
    except KeyboardInterrupt:
        print("\nDemo ended.")
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(folder: Path, port: int, cleanup: ExitStack) -> None:
    servers = {name: _start_server(name, cleanup) for name in ("s1", "s2", "s3")}
    config = folder / "lb.ini"
    lines = [f"server {name} = 127.0.0.1:{where}" for name, (_, where) in servers.items()]
    config.write_text(CONFIG.format(folder=folder, port=port) + "\n".join(lines) + "\n")
    balancer = _start_balancer(config, folder, cleanup)
    _wait_until_up(port, balancer)
    where = ", ".join(f"{name} on {number}" for name, (_, number) in servers.items())
    print(f"A load balancer on http://127.0.0.1:{port}/ and three servers behind it: {where}.")

    print(f"\n{REQUESTS} requests:")
    _print_shares(_send(port))

    print("\nNow s2 is killed, and the requests go on:")
    _stop(servers["s2"][0])
    shares = _send(port)
    _print_shares(shares)
    if "s2" in shares:
        raise Failed("the killed server has answered")

    log = folder / "load_balancer.log"
    _wait_for_line(log, "app/s2 is DOWN")
    print("\nThe checks have noticed:\n$ lbservice servers")
    click.echo(_servers(folder / "admin.sock"))

    print(f"$ tail -n 8 {log}")
    print("\n".join(log.read_text().splitlines()[-8:]))
    print(f"""
Try it yourself, in another terminal:
  export LBSERVICE_CONFIG={config}
  curl -i http://127.0.0.1:{port}/
  lbservice servers
  lbservice server drain app/s1 --wait
  lbservice top
  lbservice log follow
  lbservice shell
      >>> lb.ready("app/s1")
""")


def _stay(seconds: float | None) -> None:
    if seconds is None:
        print("Ctrl-C ends the demo.", flush=True)
        signal.pause()  # until the KeyboardInterrupt
    else:
        time.sleep(seconds)


# -- children --------------------------------------------------------------------------------


def _start_server(name: str, cleanup: ExitStack) -> tuple[subprocess.Popen[bytes], int]:
    child = subprocess.Popen(
        [sys.executable, "-m", "lbservice.admin.demo_server", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for us; we stop the children in order
    )
    cleanup.callback(_stop, child)
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise Failed(f"the demo server {name} did not start")
    return child, int(line)


def _start_balancer(config: Path, folder: Path, cleanup: ExitStack) -> subprocess.Popen[bytes]:
    with open(folder / "twistd.out", "wb") as output:
        child = subprocess.Popen(
            [*twistd(), "--nodaemon", "--pidfile=", "loadbalancer", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    cleanup.callback(_stop, child)
    return child


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _output(folder: Path) -> str:
    try:
        return "".join((folder / "twistd.out").read_text(errors="replace").splitlines(keepends=True)[-30:])
    except FileNotFoundError:
        return ""


# -- traffic ---------------------------------------------------------------------------------


def _wait_until_up(port: int, balancer: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if balancer.poll() is not None:
                raise Failed(f"the load balancer ended with exit code {balancer.returncode}") from error
            if time.monotonic() > deadline:
                raise Failed(f"the load balancer did not come up in {PATIENCE:.0f} seconds") from error
        time.sleep(0.05)


def _send(port: int) -> Counter[str]:
    shares: Counter[str] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        for number in range(REQUESTS):
            connection.request("GET", f"/hello/{number}")
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise Failed(f"request {number + 1} was answered {response.status}: {body[:200]!r}")
            shares[response.getheader("X-Served-By", "nobody")] += 1
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"a request got no answer: {error!r}") from error
    finally:
        connection.close()
    return shares


def _print_shares(shares: Counter[str]) -> None:
    for name, number in sorted(shares.items()):
        print(f"  {name}  {'#' * number} {number}")
    print(f"  {shares.total()} of {REQUESTS} answered with 200")


def _wait_for_line(log: Path, words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while words not in log.read_text():
        if time.monotonic() > deadline:
            raise Failed(f"in {PATIENCE:.0f} seconds the log has not said: {words}")
        time.sleep(0.05)


def _servers(socket: Path) -> str:
    try:
        return show.table(Service(Place(unix=str(socket))).ask("servers")["items"], empty="no servers")
    except Failure as error:
        raise Failed(error.message) from error


# -- where -----------------------------------------------------------------------------------


def _free_port(wanted: int) -> int:
    """The wanted port of 127.0.0.1, or a free one when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
            print(f"Port {wanted} is taken; this demo uses another one.")
        port: int = probe.getsockname()[1]
        return port


def _short() -> str:
    """A folder for temporary files in which the path of a socket stays below 108 bytes."""
    folder = tempfile.gettempdir()
    return folder if len(folder) < 60 else "/tmp"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
