"""Taking turns."""

from __future__ import annotations

from collections.abc import Sequence

from lbservice.core.pick import PickInfo, Policy
from lbservice.core.server import Server


class RoundRobin(Policy):
    """Smooth weighted round robin: weights 5, 1, 1 give `a a b a c a a`, never `a a a a a b c`.

    Each candidate's credit grows by its weight; the largest credit wins and pays the total (the
    algorithm of nginx's upstream module). Credits are bounded by the total weight, and survive
    when a server leaves for a while. Equal weights need no credits: they are a plain rotation.
    """

    def __init__(self) -> None:
        self._credit: dict[Server, int] = {}
        self._equal = False
        self._turn = -1

    def rebuild(self, servers: Sequence[Server]) -> None:
        self._equal = len({server.weight for server in servers}) < 2
        self._credit = {server: self._credit.get(server, 0) for server in servers}

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        if self._equal:
            self._turn = turn = (self._turn + 1) % len(candidates)
            return candidates[turn]
        return self.smooth(candidates)

    def smooth(self, candidates: Sequence[Server]) -> Server:
        """One step of the weighted rotation among `candidates`."""
        credit, total, most = self._credit, 0, None
        best = candidates[0]
        for server in candidates:
            total += server.weight
            credit[server] = mine = credit.get(server, 0) + server.weight
            if most is None or mine > most:
                best, most = server, mine
        credit[best] -= total
        return best
