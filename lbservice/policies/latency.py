"""By how fast the servers answer, and by their load.

What is measured is the time from a connection to the whole response head. Where there is no such thing, in tcp mode,
both policies go by load alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import exp

from lbservice.core.pick import ABORTED, OK, Outcome, PickInfo, Policy
from lbservice.core.server import Server
from lbservice.policies.guard import NONE, Guard
from lbservice.policies.rotation import RoundRobin

SHARE = 0.05
"""What a new time counts in least-time's average."""
IDLE = 10.0
"""Seconds without an answer after which least-time's average halves, so that a slow server gets another chance."""
BUCKET = 0.02
"""Seconds that make no difference to least-time: without them, noise alone would choose among equal servers."""
CAP = 5.0
"""Seconds; what takes longer is no worse."""
TAU = 10.0
"""Seconds in which peak-ewma forgets all but 1/e of a time."""


class _Scored(Policy):
    """The lowest score wins; the tied ones take turns by weight."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._guard = Guard(seconds)
        self._turns = RoundRobin()
        self._last = -1

    @abstractmethod
    def _scores(self, candidates: Sequence[Server], errors: Mapping[Server, int], now: float) -> list[float]:
        """A score for each candidate; per weight, unless they all have the same."""

    def rebuild(self, servers: Sequence[Server]) -> None:
        self._turns.rebuild(servers)
        self._guard.rebuild(servers)

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        errors = self._guard.counts() if self._guard.errors else NONE
        scores = self._scores(candidates, errors, self._seconds())
        least = min(scores)
        if self._turns.equal and len(candidates) == len(self._turns.ring):
            try:  # the next one around the ring, as in leastconn
                self._last = scores.index(least, self._last + 1)
            except ValueError:
                self._last = scores.index(least)
            return candidates[self._last]
        if scores.count(least) == 1:
            return candidates[scores.index(least)]
        return self._turns.smooth([server for server, score in zip(candidates, scores, strict=True) if score == least])

    def failed(self, server: Server, outcome: Outcome) -> None:
        self._guard.failed(server, outcome)


def _is_sample(outcome: Outcome) -> bool:
    """Does it tell how fast the server works? An error does not, however fast it came."""
    return outcome.seconds >= 0 and outcome.status < 500 and outcome.result in (OK, ABORTED)


class _Times:
    """What least-time knows of a server."""

    __slots__ = ("average", "due", "heard", "starts", "steps", "streams")

    def __init__(self, now: float) -> None:
        self.average = -1.0
        """Seconds; -1 before the first answer: then the servers' common average counts."""
        self.heard = now
        self.starts: deque[float] = deque()
        """When what waits for a response head began, taken as if it were answered in order."""
        self.streams = 0
        """Uses whose response head has come, and which go on."""
        self.steps = 1
        """The time that counts, in buckets."""
        self.due = now
        """Until then `steps` is right, if nothing happens."""


class LeastTime(_Scored):
    """The least time to a response head, times the requests in flight and this one, per weight.

    The time is a moving average, or the age of the oldest request in flight where that is larger: so a server that
    hangs is noticed before anything times out. Who the oldest is nobody says; that servers answer in order is
    near enough, and keeps one request that waits for ever from counting for ever. A long response and a tunnel have
    been answered: their age says nothing. Nor does any, while no response head has ever been seen, as in tcp mode.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__(seconds)
        self._times: dict[Server, _Times] = {}
        self._common = 0.0
        self._known: Sequence[Server] = ()
        self._theirs: list[_Times] = []
        """The times of `_known`, in its order."""

    def rebuild(self, servers: Sequence[Server]) -> None:
        super().rebuild(servers)
        self._known = ()
        now = self._seconds()
        for server in servers:
            if server not in self._times:
                self._times[server] = _Times(now)
        for server in [server for server in self._times if server.leaving]:
            del self._times[server]

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        server = super().pick(candidates, info)
        times = self._times[server]
        now = self._seconds()
        if not times.starts:
            times.due = now
        times.starts.append(now)
        return server

    def _scores(self, candidates: Sequence[Server], errors: Mapping[Server, int], now: float) -> list[float]:
        if candidates is not self._known:  # the backend keeps its tuple for as long as nothing changes
            self._known = candidates
            self._theirs = [self._times[server] for server in candidates]
        theirs = self._theirs
        for times in theirs:
            if now >= times.due:
                self._renew(times, now)
        if errors:
            loads = [1 + server.in_flight + errors.get(server, 0) for server in candidates]
        else:
            loads = [1 + server.in_flight for server in candidates]
        if self._turns.equal:
            return [times.steps * load for times, load in zip(theirs, loads, strict=True)]
        return [
            times.steps * load / server.effective_weight
            for times, load, server in zip(theirs, loads, candidates, strict=True)
        ]

    def _renew(self, times: _Times, now: float) -> None:
        halvings = (now - times.heard) // IDLE
        if halvings:
            times.heard += halvings * IDLE
            if times.average > 0:
                times.average *= 0.5**halvings
        known = times.average >= 0
        time = times.average if known else self._common
        times.due = times.heard + IDLE if known else now
        if times.starts and self._common:
            age = now - times.starts[0]
            times.due = min(times.due, now + BUCKET if age >= time else times.starts[0] + time)
            time = max(time, age)
        times.steps = 1 + int(min(time, CAP) / BUCKET)

    def learn(self, server: Server, outcome: Outcome) -> None:
        times = self._times.get(server)
        if times is None:
            return
        times.streams -= outcome.streamed
        now = self._answered(times, server)
        if _is_sample(outcome):
            times.heard = now
            new = outcome.seconds
            times.average = (1 - SHARE) * times.average + SHARE * new if times.average >= 0 else new
            self._common = (1 - SHARE) * self._common + SHARE * new if self._common else new

    def streams(self, server: Server) -> None:
        times = self._times.get(server)
        if times is not None:
            times.streams += 1
            self._answered(times, server)

    def _answered(self, times: _Times, server: Server) -> float:
        """One less waits for its head; what time is it?"""
        times.due = now = self._seconds()
        # Who was the only candidate was taken without being picked, so there may be fewer starts than requests.
        while len(times.starts) > server.in_flight - times.streams:
            times.starts.popleft()
        return now


class _Cost:
    """What peak-ewma knows of a server."""

    __slots__ = ("at", "known", "rested", "seconds")

    def __init__(self, seconds: float, *, known: bool) -> None:
        self.seconds = seconds
        """The average when it was last measured."""
        self.at = 0.0
        self.rested = seconds
        """The same as if it had been measured at the policy's epoch, or last picked then; see PeakEwma."""
        self.known = known


class PeakEwma(_Scored):
    """An average of the times to a response head that rises at once and falls slowly, times the requests in flight.

    A time above the average becomes it; one below moves it down, the more the longer the last is ago (time constant
    ten seconds). The average of a server that gets nothing goes on falling, so that a slow one is asked again some
    time: with one request, for from then on its last average counts anew. That is so whether something is in flight
    there or not: a tunnel may be for hours. A server that is not known yet, or comes back, begins with the mean of the
    others. While nobody is known, as in tcp mode, the load alone counts. After Finagle's balancer of that name.

    All the averages fall by the same factor. So they are kept as of one epoch, and compared as they are, without a
    power for each server.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__(seconds)
        self._epoch = seconds()
        self._costs: dict[Server, _Cost] = {}
        self._blind = True
        """Is nobody known?"""
        self._known: Sequence[Server] = ()
        self._theirs: list[_Cost] = []
        """The costs of `_known`, in its order."""

    def rebuild(self, servers: Sequence[Server]) -> None:
        super().rebuild(servers)
        self._known = ()
        costs = self._costs
        known = [costs[server].seconds for server in servers if server in costs and costs[server].known]
        mean = sum(known) / len(known) if known else 1.0
        self._costs = {server: costs.get(server) or self._new(mean) for server in servers}
        self._blind = not known

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        server = super().pick(candidates, info)
        cost = self._costs[server]
        cost.rested = cost.seconds * self._scale(self._seconds())
        return server

    def _new(self, seconds: float) -> _Cost:
        cost = _Cost(seconds, known=False)
        self._measured(cost, seconds, self._seconds())
        return cost

    def _measured(self, cost: _Cost, seconds: float, now: float) -> None:
        cost.seconds = seconds
        cost.at = now
        cost.rested = seconds * self._scale(now)

    def _scores(self, candidates: Sequence[Server], errors: Mapping[Server, int], now: float) -> list[float]:
        if candidates is not self._known:
            self._known = candidates
            self._theirs = [self._costs[server] for server in candidates]
        if errors:
            loads = [server.in_flight + errors.get(server, 0) for server in candidates]
        else:
            loads = [server.in_flight for server in candidates]
        if self._blind:
            return [(load + 1) / server.effective_weight for load, server in zip(loads, candidates, strict=True)]
        if self._turns.equal:
            return [
                cost.rested * (load + 1) if load else cost.rested
                for cost, load in zip(self._theirs, loads, strict=True)
            ]
        return [
            cost.rested * (load + 1) / server.effective_weight
            for cost, load, server in zip(self._theirs, loads, candidates, strict=True)
        ]

    def _scale(self, now: float) -> float:
        """What an average of now counts at the epoch; which moves, before that grows beyond what a float can hold."""
        if now - self._epoch > 100 * TAU:
            factor = exp((self._epoch - now) / TAU)
            self._epoch = now
            for cost in self._costs.values():
                cost.rested *= factor
        return exp((now - self._epoch) / TAU)

    def learn(self, server: Server, outcome: Outcome) -> None:
        cost = self._costs.get(server)
        if cost is None or not _is_sample(outcome):
            return
        now, new = self._seconds(), outcome.seconds
        if not cost.known:
            if self._blind:
                for other in self._costs.values():  # until now nobody knew what is much
                    self._measured(other, new, now)
            cost.known = True
            self._blind = False
        elif new < cost.seconds:
            kept = exp((cost.at - now) / TAU)
            new = cost.seconds * kept + new * (1 - kept)
        self._measured(cost, new, now)
