"""To write a policy of one's own, and to try policies out: all that is needed for it is imported from here.

    report = PolicyHarness("leastconn", [SimServer("s1"), SimServer("s2", seconds=0.5)]).run(rate=50)
    print(report)

The harness has servers that are simulated, requests that come by chance, and a clock of its own: a minute takes about
a second, and the same seed gives the same minute. Choosing, counting, weights and queues are the balancer's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, pairwise
from random import Random
from typing import Any

from lbservice import policies
from lbservice.core.backend import Backend, Lease
from lbservice.core.health import Health
from lbservice.core.pick import Outcome, PickInfo, Policy, Result
from lbservice.core.server import Server
from lbservice.core.settings import BackendSettings, ServerSettings
from lbservice.policies.own import construct

__all__ = ["Fault", "Outcome", "PickInfo", "Policy", "PolicyHarness", "Report", "Result", "Server", "SimServer"]


@dataclass(frozen=True, slots=True)
class Fault:
    """From `begin` to `end` a server does not do well.

    With `slower` it takes so many times as long. Else it fails after `seconds`: with `status`, or, if that is 0, by
    refusing the connection.
    """

    begin: float
    end: float
    slower: float = 0.0
    status: int = 0
    seconds: float = 0.001


@dataclass(frozen=True, slots=True)
class SimServer:
    """A simulated server. It takes `seconds` for a request, on the average (exponentially distributed).

    It works at `workers` requests at a time, and the others wait inside it; 0: at all of them. `weight` and
    `maxconn` are as in lb.ini.
    """

    name: str
    seconds: float = 0.05
    workers: int = 0
    weight: int = 1
    maxconn: int = 0
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """How it went. Times are seconds; the dictionaries are by the servers' names."""

    requests: int
    failed: int
    """Requests that got an error in the end."""
    shares: dict[str, float]
    """Of all the requests that were sent to servers."""
    p50: float
    p99: float
    """Of the times from a request's coming to its response, errors not counted."""
    starved: dict[str, float]
    """The longest time without a request."""
    recovery: dict[str, float | None]
    """From the end of a server's last fault until it got half its share for a second; None: it never did."""

    def __str__(self) -> str:
        times = f"p50 {self.p50 * 1000:.0f} ms, p99 {self.p99 * 1000:.0f} ms"
        lines = [f"{self.requests} requests, {self.failed} failed, {times}"]
        for name, share in self.shares.items():
            line = f"  {name:12} {share:6.1%}, at most {self.starved[name]:.1f} s without a request"
            if name in self.recovery:
                back = self.recovery[name]
                line += ", never recovered" if back is None else f", recovered after {back:.0f} s"
            lines.append(line)
        return "\n".join(lines)


class PolicyHarness:
    """One policy, and servers. `policy` is what `balance =` takes, or what makes a policy, as a class does.

    What makes one gets `seconds` and `random` if it has parameters of these names. `factor` is the
    `hash-balance-factor`; a request that was refused is tried `retries` times on another server.
    """

    def __init__(
        self,
        policy: str | Callable[..., Policy],
        servers: Sequence[SimServer],
        *,
        seed: int = 1,
        retries: int = 2,
        factor: int = 0,
    ) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.servers = tuple(servers)
        self.retries = retries
        # The policy's chance is another one than that of the requests: so they are the same for each policy.
        chance = Random(seed + 1)
        if isinstance(policy, str):
            made = policies.make(policy, self.seconds, chance, factor=factor, complain=_raise)
        else:
            made = construct(policy, self.seconds, chance)
        self.backend = Backend(BackendSettings("sim"), made)
        self._sims: dict[Server, _Sim] = {}
        for number, each in enumerate(servers):
            settings = ServerSettings(each.name, "192.0.2.1", 1 + number, weight=each.weight, maxconn=each.maxconn)
            server = Server("sim", settings, Health())
            self._sims[server] = _Sim(self, each)
            self.backend.add(server)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self._times: list[float] = []
        self._requests = 0
        self._failed = 0

    def seconds(self) -> float:
        """The simulated time."""
        return self.now

    def later(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        """Let it happen in so many simulated seconds."""
        heappush(self._events, (self.now + delay, next(self._numbers), call, args))

    def run(self, rate: float, seconds: float = 60.0, *, clients: int = 1000, keys: int = 1000) -> Report:
        """Let requests come for so long, `rate` a second at random moments, and finish them.

        Each is of one of `clients` addresses, and hashes find one of `keys` in it, all equally likely.
        """
        end = self.now + seconds
        self.later(self.random.expovariate(rate), self._arrive, rate, end, clients, keys)
        while self._events:
            self.now, _, call, args = heappop(self._events)
            call(*args)
        return self._report(end)

    def _arrive(self, rate: float, end: float, clients: int, keys: int) -> None:
        if self.now >= end:
            return
        self._requests += 1
        client, key = self.random.randrange(clients), self.random.randrange(keys)
        info = _Info(f"10.0.{client // 250}.{client % 250}", b"/%d" % key)
        _Request(self, info, self.random.expovariate(1.0)).place()
        self.later(self.random.expovariate(rate), self._arrive, rate, end, clients, keys)

    def sim(self, server: Server) -> _Sim:
        """What a server of the backend is in truth."""
        return self._sims[server]

    def ended(self, came: float, *, well: bool) -> None:
        """A request has got its answer."""
        if well:
            self._times.append(self.now - came)
        else:
            self._failed += 1

    def _report(self, end: float) -> Report:
        sims = list(self._sims.values())
        sent = max(1, sum(len(sim.taken) for sim in sims))
        times = sorted(self._times) or [0.0]
        return Report(
            requests=self._requests,
            failed=self._failed,
            shares={sim.settings.name: len(sim.taken) / sent for sim in sims},
            p50=times[len(times) // 2],
            p99=times[len(times) * 99 // 100],
            starved={sim.settings.name: sim.starved(end) for sim in sims},
            recovery={sim.settings.name: self._recovery(sim, end) for sim in sims if sim.settings.faults},
        )

    def _recovery(self, one: _Sim, end: float) -> float | None:
        fair = one.settings.weight / sum(sim.settings.weight for sim in self._sims.values())
        over = max(fault.end for fault in one.settings.faults)
        for second in range(max(0, int(end - over))):
            all_of_them = sum(sim.count(over + second, over + second + 1) for sim in self._sims.values())
            own = one.count(over + second, over + second + 1)
            if own and own >= 0.5 * fair * all_of_them:
                return float(second)
        return None


class _Info(PickInfo):
    __slots__ = ("_key",)

    def __init__(self, source: str, key: bytes) -> None:
        super().__init__(source)
        self._key = key

    @property
    def key(self) -> bytes:
        return self._key


class _Request:
    """One request, on its way to a server and back. `size` is its work: 1 is the average."""

    __slots__ = ("_came", "_harness", "_info", "_lease", "_sent", "_tried", "size")

    def __init__(self, harness: PolicyHarness, info: PickInfo, size: float) -> None:
        self.size = size
        self._harness = harness
        self._info = info
        self._came = harness.now
        self._sent = 0.0
        self._tried: tuple[Server, ...] = ()
        self._lease: Lease | None = None

    def place(self) -> None:
        backend = self._harness.backend
        lease = backend.acquire(self._info, self._tried)
        if lease is None:
            backend.wait(self._info, self._granted, self._tried)
        else:
            self._granted(lease)

    def _granted(self, lease: Lease | None) -> None:
        if lease is None:
            self._harness.ended(self._came, well=False)
            return
        self._lease = lease
        self._sent = self._harness.now
        self._harness.sim(lease.server).take(self)

    def refused(self) -> None:
        lease = self._give_back(Outcome(Result.CONNECT_FAILED))
        if len(self._tried) < self._harness.retries:
            self._tried += (lease.server,)
            self.place()
        else:
            self._harness.ended(self._came, well=False)

    def answered(self, status: int) -> None:
        self._give_back(Outcome(Result.OK, status, self._harness.now - self._sent))
        self._harness.ended(self._came, well=status < 500)

    def _give_back(self, outcome: Outcome) -> Lease:
        lease, self._lease = self._lease, None
        assert lease is not None
        lease.done(outcome)
        return lease


class _Sim:
    """A server at work."""

    __slots__ = ("_busy", "_harness", "_queue", "settings", "taken")

    def __init__(self, harness: PolicyHarness, settings: SimServer) -> None:
        self.settings = settings
        self.taken: list[float] = []
        """When each of its requests came."""
        self._harness = harness
        self._busy = 0
        self._queue: deque[_Request] = deque()

    def take(self, request: _Request) -> None:
        harness = self._harness
        self.taken.append(harness.now)
        fault = self._fault()
        if fault is not None and not fault.slower:
            if fault.status:
                harness.later(fault.seconds, request.answered, fault.status)
            else:
                harness.later(fault.seconds, request.refused)
        elif self.settings.workers and self._busy >= self.settings.workers:
            self._queue.append(request)
        else:
            self._work(request)

    def _work(self, request: _Request) -> None:
        self._busy += 1
        fault = self._fault()
        slower = fault.slower if fault is not None and fault.slower else 1.0
        self._harness.later(request.size * self.settings.seconds * slower, self._finish, request)

    def _finish(self, request: _Request) -> None:
        self._busy -= 1
        if self._queue:
            self._work(self._queue.popleft())
        request.answered(200)

    def _fault(self) -> Fault | None:
        now = self._harness.now
        return next((fault for fault in self.settings.faults if fault.begin <= now < fault.end), None)

    def count(self, begin: float, end: float) -> int:
        """How many requests came between these moments."""
        return bisect_left(self.taken, end) - bisect_left(self.taken, begin)

    def starved(self, end: float) -> float:
        """The longest time without a request."""
        moments = [0.0, *(at for at in self.taken if at < end), end]
        return max(later - earlier for earlier, later in pairwise(moments))


def _raise(why: str, given_up: bool) -> None:
    raise AssertionError(why)
