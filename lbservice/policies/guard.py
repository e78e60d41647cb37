"""What keeps the policies that go by load from falling for a server that fails fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp

from lbservice.core.pick import Outcome
from lbservice.core.server import Server

MEMORY = 10.0
"""Seconds after which an error counts only 1/e of what it did."""

NONE: Mapping[Server, int] = {}


class Guard:
    """Recent errors, which count as if they were requests in flight.

    A server that refuses or answers with an error at once never has much in flight: whoever goes by load alone
    sends it everything. So an error stays for a while, as a request would that takes some ten seconds. A response of
    500 and more that took its time has been in flight for that time, and counts only for the rest of it.
    """

    __slots__ = ("_known", "_seconds", "errors")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.errors: dict[Server, tuple[float, float]] = {}
        """How many, and when that was so. Empty when all goes well: then nobody need ask further."""
        self._known: frozenset[Server] = frozenset()
        self._seconds = seconds

    def rebuild(self, servers: Sequence[Server]) -> None:
        """These are available now. Who was not, and is again, begins anew: it was found well, or its time is up.

        Else a server that died under load, with many errors in one moment, would be let in only after half a minute.
        """
        known, self._known = self._known, frozenset(servers)
        for server in self._known - known:
            self.errors.pop(server, None)

    def failed(self, server: Server, outcome: Outcome) -> None:
        """Note one error."""
        fresh = 1.0 if outcome.seconds < 0 else 1.0 - outcome.seconds / MEMORY
        if fresh > 0:
            now = self._seconds()
            count, since = self.errors.get(server, (0.0, now))
            self.errors[server] = count * exp((since - now) / MEMORY) + fresh, now

    def counts(self) -> Mapping[Server, int]:
        """How many requests in flight each server's errors stand for; servers without any are left out.

        Whole numbers, so that what is long ago is nothing at all, and equal servers are equal again.
        """
        if not self.errors:
            return NONE
        now = self._seconds()
        found: dict[Server, int] = {}
        for server, (count, since) in list(self.errors.items()):
            left = int(count * exp((since - now) / MEMORY) + 0.5)
            if left:
                found[server] = left
            else:
                del self.errors[server]
        return found
