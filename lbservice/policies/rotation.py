"""Taking turns."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from lbservice.core.pick import PickInfo, Policy
from lbservice.core.server import Server


class RoundRobin(Policy):
    """Smooth weighted round robin: weights 5, 1, 1 give `a a b a c a a`, never `a a a a a b c`.

    Each candidate's credit grows by its weight; the largest credit wins and pays the total (the
    algorithm of nginx's upstream module). Credits stay about as small as the total weight, and survive
    when a server is left out for a while. Equal weights need no credits: they go around a ring.
    """

    def __init__(self) -> None:
        self.ring: tuple[Server, ...] = ()
        """The servers, in the order of their turns."""
        self.equal = False
        """Have they all the same weight?"""
        self._turn = -1
        self._credit: dict[Server, float] = {}

    def rebuild(self, servers: Sequence[Server]) -> None:
        self.ring = tuple(servers)
        self.equal = len({server.effective_weight for server in servers}) < 2
        # What was large among large weights would be a long debt, or a burst, among small ones.
        most = sum(server.effective_weight for server in servers)
        self._credit = {server: max(-most, min(most, self._credit.get(server, 0))) for server in servers}

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        if not self.equal:
            return self.smooth(candidates)
        ring = self.ring
        if len(candidates) < len(ring):
            return self._next(candidates)
        self._turn = turn = (self._turn + 1) % len(ring)
        return ring[turn]

    def _next(self, candidates: Sequence[Server]) -> Server:
        """The next candidate of the ring. A retry, which leaves a server out, moves the same turn on.

        With a turn of its own, or one counted in candidates, retries would fall into step with the
        failing server's turns, and give all its requests to the same neighbour.
        """
        ring = self.ring
        for _ in ring:
            self._turn = turn = (self._turn + 1) % len(ring)
            if ring[turn] in candidates:
                return ring[turn]
        return candidates[0]

    def smooth(self, candidates: Sequence[Server]) -> Server:
        """One step of the weighted rotation among `candidates`."""
        credit, total = self._credit, 0.0  # whole weights stay exact as floats
        best, most = candidates[0], -inf
        for server in candidates:
            weight = server.effective_weight
            total += weight
            credit[server] = mine = credit.get(server, 0) + weight
            if mine > most:
                best, most = server, mine
        credit[best] -= total
        return best
