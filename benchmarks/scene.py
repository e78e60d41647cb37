"""What a workload has the proxies do, and where: the same for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

IDLE_PER_SERVER = 32
"""Idle connections to each server that a proxy may keep, where that can be set; it is what lbservice keeps."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`mode` is "http" or "tcp". `sink`: the servers read uploads. `bulk`: large bodies, so HAProxy may splice."""

    mode: str = "http"
    tls: bool = False
    sink: bool = False
    bulk: bool = False
    servers: int = 3
    balance: str = "roundrobin"
    reuse: bool = False
    """HAProxy: `http-reuse always` instead of its default."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One proxy's place: its folder, the port of 127.0.0.1 it listens on, the servers as (host, port)."""

    folder: Path
    port: int
    servers: tuple[tuple[str, int], ...]
    pem: Path
    """Certificate and key in one file; used when the scene has TLS."""

    def lines(self, form: str) -> str:
        """A line for each server, from a form with {number}, {host} and {port}."""
        return "\n".join(form.format(number=n, host=host, port=port) for n, (host, port) in enumerate(self.servers, 1))


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy. Its access log is `log`."""

    name: str
    pid: int
    port: int
    log: Path
    scene: Scene

    @property
    def url(self) -> str:
        """Where clients find it, without a path."""
        return f"{'https' if self.scene.tls else 'http'}://127.0.0.1:{self.port}"
