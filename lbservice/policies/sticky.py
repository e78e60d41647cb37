"""A client stays with its server: by a cookie, around any policy."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from lbservice.core.pick import Outcome, PickInfo, Policy
from lbservice.core.server import Server


class Sticky(Policy):
    """The server that the client's cookie stands for; without a good cookie, whom `policy` picks.

    A cookie's value is a keyed hash of the names of backend and server: it tells nobody anything, and nobody without
    `secret` can make one. A value that no available server has, forged or out of date, is as good as none. One that
    drains keeps the clients that it has.
    """

    def __init__(self, policy: Policy, backend: str, secret: bytes) -> None:
        self.policy = policy
        self.wants = policy.wants
        self._backend = backend
        self._secret = blake2b(secret, digest_size=32).digest()
        self._servers: dict[bytes, Server] = {}
        self._tokens: dict[Server, bytes] = {}

    def signs_with(self, secret: bytes) -> bool:
        """Are its cookies made with this secret?"""
        return self._secret == blake2b(secret, digest_size=32).digest()

    def token(self, server: Server) -> bytes:
        """The cookie's value for a server: 32 hexadecimal digits."""
        token = self._tokens.get(server)
        if token is None:
            name = f"{self._backend}/{server.name}".encode()
            token = self._tokens[server] = blake2b(name, digest_size=16, key=self._secret).hexdigest().encode()
        return token

    def rebuild(self, servers: Sequence[Server]) -> None:
        self._tokens = {server: token for server, token in self._tokens.items() if not server.leaving}
        self._servers = {self.token(server): server for server in servers}
        self.policy.rebuild(servers)

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        cookie = info.cookie
        if cookie:
            server = self._servers.get(cookie)
            if server is not None and server in candidates:
                return server
        return self.policy.pick(candidates, info)

    def keeper(self, servers: Sequence[Server], info: PickInfo) -> Server | None:
        cookie = info.cookie
        return next((server for server in servers if self.token(server) == cookie), None) if cookie else None

    def failed(self, server: Server, outcome: Outcome) -> None:
        self.policy.failed(server, outcome)

    def learn(self, server: Server, outcome: Outcome) -> None:
        self.policy.learn(server, outcome)

    def streams(self, server: Server) -> None:
        self.policy.streams(server)

    @property
    def learns(self) -> bool:
        return self.policy.learns
