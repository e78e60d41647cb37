"""Servers that fail at once while requests wait: each would be the first with room again, and draw them all."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.logger import Logger

from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Seldom, Timer
from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Server

SHORTEST = 0.01
"""Seconds of the first rest; each further one is twice as long."""
LONGEST = 1.0
TELL = 10.0
"""Seconds between two sentences about a backend."""


@dataclass(slots=True)
class _Run:
    """Failures without a success between them."""

    successes: int
    """How many the server had when the run began."""
    rest: float
    """Seconds that the next failure brings."""


class Backoff:
    """Lets a server rest that fails a second time in a row while its backend has a queue, longer each time.

    When all other servers are full, no policy can avoid the one that has room because it has just failed. So for the
    queue a failure lasts at least as long as the rest (decision 26).
    """

    log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[Server, _Run] = {}
        self._resting: dict[Server, tuple[Backend, Timer]] = {}
        self._tell: dict[str, Seldom] = {}
        self._stopped = False

    def heard(self, backend: Backend, server: Server, outcome: Outcome) -> bool:
        """A use of the server has ended. It need not hear of those that go well: the server counts them."""
        if outcome.bad and outcome.result is not Result.TIMED_OUT and backend.waiting and not self._stopped:
            self._failed(backend, server, max(0.0, outcome.seconds))
        return False

    def _failed(self, backend: Backend, server: Server, seconds: float) -> None:
        if server.resting:
            return  # it was in flight with the one that began the rest
        successes = sum(server.statuses[1:5])
        run = self._runs.get(server)
        if run is None or run.successes != successes:
            self._runs[server] = _Run(successes, SHORTEST)
            return
        rest, run.rest = run.rest - seconds, min(2 * run.rest, LONGEST)
        if rest <= 0:
            return
        self._resting[server] = backend, self._clock.callLater(rest, self._over, server)
        if self._tell.setdefault(backend.name, Seldom(TELL)).now(self._clock.seconds()):
            self.log.warn(
                "server {server} fails at once while {waiting} wait:"
                " it gets a request now and then until one goes well",
                event="backoff",
                server=server.path,
                waiting=backend.waiting,
            )
        backend.rest(server, True)

    def _over(self, server: Server) -> None:
        backend, _ = self._resting.pop(server)
        backend.rest(server, False)

    def forget(self, server: Server) -> None:
        """Begin anew: it is gone, or back."""
        self._runs.pop(server, None)
        if server in self._resting:
            self._resting[server][1].cancel()
            self._over(server)

    def stop(self) -> None:
        """The service is stopping: what still waits is served by whoever has room."""
        self._stopped = True
        for server in list(self._resting):
            self.forget(server)
