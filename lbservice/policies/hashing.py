"""The same server for the same key: a hash of a part of the request, or of the client's address.

The hash is not seeded: every process and every node with servers of the same names gives the same answer, without
talking to the others. What counts is a server's name, not its address or its place in the file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import log
from typing import Any

from lbservice.core.pick import NOTHING, Outcome, PickInfo, Policy
from lbservice.core.server import Server
from lbservice.policies.guard import NONE, Guard
from lbservice.policies.rotation import RoundRobin

REMEMBERED = 10_000
"""Keys whose server is remembered."""


class Hash(Policy):
    """What the hashes have in common. A request without a key takes its turn, by weight.

    `wants` is the part of the request that is the key; NOTHING: the client's address. `factor` bounds the load of a
    server, in percent of its fair share of what is in flight; 0 does not. Who would exceed it goes to the key's next
    server (Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, 2017).
    """

    def __init__(self, seconds: Callable[[], float], wants: tuple[str, str] = NOTHING, factor: int = 0) -> None:
        self.wants = wants
        self._by_source = wants == NOTHING
        self._factor = factor / 100
        self._turns = RoundRobin()
        self._guard = Guard(seconds)

    def rebuild(self, servers: Sequence[Server]) -> None:
        self._turns.rebuild(servers)
        self._guard.rebuild(servers)

    def failed(self, server: Server, outcome: Outcome) -> None:
        if self._factor:
            self._guard.failed(server, outcome)

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        key = info.source.encode() if self._by_source else info.key
        if not key:
            return self._turns.pick(candidates, info)
        digest = blake2b(key, digest_size=16).digest()  # whatever its length, from here on it costs the same
        if not self._factor:
            return self._home(digest, candidates)
        errors = self._guard.counts() if self._guard.errors else NONE
        return self._bounded(digest, candidates, errors)

    def _bounded(self, digest: bytes, candidates: Sequence[Server], errors: Mapping[Server, int]) -> Server:
        total = 1 + sum(server.in_flight for server in candidates)
        if errors:
            total += sum(errors.get(server, 0) for server in candidates)
        bound = self._factor * total / sum(server.effective_weight for server in candidates)
        home = self._home(digest, candidates)
        if home.in_flight + errors.get(home, 0) < bound * home.effective_weight:
            return home
        for server in self._homes(digest, candidates):
            if server.in_flight + errors.get(server, 0) < bound * server.effective_weight:
                return server
        return home  # cannot be: they do not all have more than their share

    @abstractmethod
    def _home(self, digest: bytes, candidates: Sequence[Server]) -> Server:
        """The first of `_homes`."""

    @abstractmethod
    def _homes(self, digest: bytes, candidates: Sequence[Server]) -> Iterable[Server]:
        """The key's servers, the best first; each candidate comes up at least once."""


class Rendezvous(Hash):
    """Each server draws a number for the key, by hashing; the highest wins.

    When a server goes, only its own keys move, to all the others; when a weight changes, only as many as must.
    With weights the number is -w / ln u (Schindelhauer, Schomaker, Weighted Distributed Hash Tables, 2005). The cost
    grows with the number of servers, so the keys that came last are remembered.
    """

    def __init__(self, seconds: Callable[[], float], wants: tuple[str, str] = NOTHING, factor: int = 0) -> None:
        super().__init__(seconds, wants, factor)
        self._servers: Sequence[Server] = ()
        self._shares: list[tuple[Server, float]] = []
        self._names: dict[Server, bytes] = {}
        """What a server's draws are hashed with."""
        self._equal = True
        self._remembered: dict[bytes, Server] = {}
        """The best of all the available servers, for the keys that came last."""

    def rebuild(self, servers: Sequence[Server]) -> None:
        super().rebuild(servers)
        shares = [(server, server.effective_weight) for server in servers]
        if shares == self._shares:
            return  # the change is not one for us: what is remembered stays true
        self._shares = shares
        self._servers = servers
        self._names = {server: self._names.get(server) or _name(server) for server in servers}
        self._equal = len({server.effective_weight for server in servers}) < 2
        self._remembered = {}

    def _home(self, digest: bytes, candidates: Sequence[Server]) -> Server:
        home = self._remembered.get(digest)
        if home is None:
            home = self._best(digest, self._servers)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = home
        # The best of all is the best of some, too, if it is among them.
        if len(candidates) == len(self._servers) or home in candidates:
            return home
        return self._best(digest, candidates)

    def _best(self, digest: bytes, servers: Sequence[Server]) -> Server:
        draws = self._draws(digest, servers)
        return servers[draws.index(max(draws))]

    def _homes(self, digest: bytes, candidates: Sequence[Server]) -> Iterable[Server]:
        draws = self._draws(digest, candidates)
        return [candidates[index] for index in sorted(range(len(draws)), key=draws.__getitem__, reverse=True)]

    def _draws(self, digest: bytes, servers: Sequence[Server]) -> Sequence[Any]:
        """A number for each server, the larger the better; with equal weights the hash itself, in the same order."""
        names = self._names
        hashes = [blake2b(digest, digest_size=8, key=names[server]).digest() for server in servers]
        if self._equal:
            return hashes
        numbers = [int.from_bytes(drawn, "big") >> 12 for drawn in hashes]
        return [
            -server.effective_weight / log((number + 0.5) / 2**52)
            for number, server in zip(numbers, servers, strict=True)
        ]


def _name(server: Server) -> bytes:
    return blake2b(server.name.encode(), digest_size=16).digest()
