"""A few at random, and the best of them."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import inf
from random import Random

from lbservice.core.pick import Outcome, PickInfo, Policy
from lbservice.core.server import Server
from lbservice.policies.guard import NONE, Guard


class Draw(Policy):
    """`draws` servers by chance and weight; the one with the least load per weight wins.

    A tie goes to the one with fewer requests per weight in the last second: without that, a backend at low load
    would be left to plain chance. The first two are never the same server. The cost does not grow with the number
    of servers, and several balancers that see only their own load do not all run to the same server
    (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
    """

    def __init__(self, seconds: Callable[[], float], random: Random, draws: int = 2) -> None:
        self._seconds = seconds
        self._chance = random.random
        self._draws = draws
        self._guard = Guard(seconds)
        self._rates = _Rates()
        self._known: Sequence[Server] = ()
        self._bounds: list[float] = []
        """The sums of the weights of `_known`, up to and with each."""

    def rebuild(self, servers: Sequence[Server]) -> None:
        self._known = ()
        self._guard.rebuild(servers)

    def failed(self, server: Server, outcome: Outcome) -> None:
        self._guard.failed(server, outcome)

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        if candidates is not self._known:  # the backend keeps its tuple for as long as nothing changes
            self._known = candidates
            self._bounds = list(accumulate(server.effective_weight for server in candidates))
        now = self._seconds()
        self._rates.roll(now)
        last = len(candidates) - 1
        bounds, total = self._bounds, self._bounds[-1]
        index = bisect(bounds, self._chance() * total, 0, last)
        best = candidates[index]
        if self._draws > 1 and last:
            errors = self._guard.counts() if self._guard.errors else NONE
            other = candidates[self._another(index, last)]
            left = self._draws - 2
            while True:
                load = (best.in_flight + errors.get(best, 0)) / best.effective_weight
                theirs = (other.in_flight + errors.get(other, 0)) / other.effective_weight
                if theirs < load or (theirs == load and self._is_calmer(other, best, now)):
                    best = other
                if not left:
                    break
                left -= 1
                other = candidates[bisect(bounds, self._chance() * total, 0, last)]
        self._rates.now[best] += 1
        return best

    def _another(self, index: int, last: int) -> int:
        """A draw by weight among all but the one at `index`."""
        bounds = self._bounds
        before = bounds[index - 1] if index else 0.0
        weight = bounds[index] - before
        at = self._chance() * (bounds[-1] - weight)
        if at >= before:
            at += weight
        other = bisect(bounds, at, 0, last)
        return other if other != index else index - 1 if index else 1  # a rounding error apart

    def _is_calmer(self, one: Server, than: Server, now: float) -> bool:
        rates = self._rates
        return rates.of(one, now) / one.effective_weight < rates.of(than, now) / than.effective_weight


class _Rates:
    """Requests in the last second: those of this second, and of the one before what still lies in it."""

    __slots__ = ("_began", "before", "now")

    def __init__(self) -> None:
        self.now: Counter[Server] = Counter()
        self.before: Counter[Server] = Counter()
        self._began = -inf

    def roll(self, now: float) -> None:
        if now >= self._began + 1.0:
            self.before = self.now if now < self._began + 2.0 else Counter()
            self.now = Counter()
            self._began = now if now >= self._began + 2.0 else self._began + 1.0

    def of(self, server: Server, now: float) -> float:
        return self.now[server] + self.before[server] * (1.0 - (now - self._began))
