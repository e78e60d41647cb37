"""The servers and the proxies of one workload: started together, and gone together."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import nginx
from benchmarks.peers import BASE, OURS, ROOT, Peer
from benchmarks.processes import Missing, free_ports, start
from benchmarks.scene import Proxy, Scene, Setting

FILES = {"100k": 100 * 1024, "10m": 10_000_000}
"""The files that the servers have, with their sizes in bytes."""
FEW = 10
"""Up to so many servers have a port of 127.0.0.1 each; more of them have one port and an address each."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene with everything started. `left_out` says which peers are not there, and why."""

    scene: Scene
    folder: Path
    servers: tuple[tuple[str, int], ...]
    proxies: dict[str, Proxy] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def setting(self, name: str) -> Setting:
        """A place for one more proxy."""
        return Setting(self.folder / name, free_ports(1)[0], self.servers, self.folder / "site.pem")

    def start(self, cleanup: ExitStack, peers: Iterable[Peer]) -> None:
        """Start the proxies. A missing one is noted, unless it is ours."""
        for peer in peers:
            try:
                self.proxies[peer.name] = peer.start(cleanup, self.scene, self.setting(peer.name))
            except Missing as reason:
                if peer.name == OURS:
                    raise
                self.left_out[peer.name] = str(reason)

    @property
    def base(self) -> Proxy:
        """What the others are compared with: HAProxy, or the first there is."""
        return self.proxies.get(BASE) or next(iter(self.proxies.values()))


@contextmanager
def staged(scene: Scene, peers: Iterable[Peer] = ()) -> Iterator[Stage]:
    """The servers, and these proxies in front of them. Raises CannotRun."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="lbservice-bench-")))
        os.chmod(folder, 0o755)  # nginx, started by root, reads the files as somebody else
        servers = tuple(addresses(scene.servers))
        if scene.tls:
            certificate(folder / "site.pem")
        if scene.sink:
            ports = [str(port) for _, port in servers]
            command: tuple[str, ...] = (sys.executable, "-m", "benchmarks.sink", *ports)
        else:
            for name, size in FILES.items():
                (folder / name).write_bytes(b"x" * size)
            command = nginx.origin(folder, servers)
        start(cleanup, folder / "servers.out", command, servers[-1][1], servers[-1][0], {"PYTHONPATH": str(ROOT)})
        stage = Stage(scene, folder, servers)
        stage.start(cleanup, peers)
        yield stage


def addresses(number: int) -> list[tuple[str, int]]:
    """Where so many servers listen."""
    if number <= FEW:
        return [("127.0.0.1", port) for port in free_ports(number)]
    (port,) = free_ports(1)
    first = int(IPv4Address("127.1.0.1"))
    return [(str(ip_address(first + each)), port) for each in range(number)]


def certificate(pem: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1 (ECDSA, P-256) and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench.invalid")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.touch(mode=0o600)
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
