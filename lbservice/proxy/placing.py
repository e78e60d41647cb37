"""Finding a server for one request or session: lease, wait if all are full, connect, and try the next one.

The one loop of retries is `Placement.place`. Cancelling the Deferred that runs it gives everything
back: the place in the queue, the connection being opened, the lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from lbservice.core.backend import Backend, Lease
from lbservice.core.clock import Clock
from lbservice.core.events import Access
from lbservice.core.pick import Outcome, PickInfo, Result
from lbservice.core.server import Server
from lbservice.proxy.dial import Dial, DialedProtocol, DialError
from lbservice.proxy.transport import Network

Connection = TypeVar("Connection", bound=DialedProtocol)


class Site(Protocol):
    """Where a request is placed: what a frontend's connections share."""

    @property
    def network(self) -> Network: ...

    @property
    def clock(self) -> Clock: ...

    def lacking(self, error: OSError | str) -> None:
        """There is no open file left: give up what is idle."""


class Unplaced(Exception):
    """No server could be had. Its text is the log's pair of letters: SC, sC, RC, SQ or sQ."""


class Placement(Generic[Connection]):
    """The servers that one request has tried, and the search for the next.

    `idle(server)` gives a connection at hand, or None; `make(server)` the protocol to dial with; `rank()` the
    request's class, if it has to queue.
    """

    def __init__(
        self,
        site: Site,
        backend: Backend,
        info: PickInfo,
        access: Access,
        idle: Callable[[Server], Connection | None],
        make: Callable[[Server], Connection],
        rank: Callable[[], int] | None = None,
    ) -> None:
        self.waiting = False
        """Is it in the backend's queue now?"""
        self._site = site
        self._backend = backend
        self._network = site.network
        self._clock = site.clock
        self._info = info
        self._access = access
        self._idle = idle
        self._make = make
        self._rank = rank
        self._tried: tuple[Server, ...] = ()
        self._repeating = False
        """Does the backend's retry budget count this request now?"""

    async def place(self, lease: Lease | None = None) -> tuple[Lease, Connection]:
        """A lease, beginning with `lease` if there is one, and a connection to its server. Raises Unplaced."""
        try:
            lease, connection = await self._place(lease)
        except BaseException:
            if self._repeating:
                self._repeating = False
                self._backend.budget.give_back()
            raise
        if self._repeating:  # from now on the lease stands for it
            self._repeating = False
            lease = lease.repeats()
        return lease, connection

    async def _place(self, lease: Lease | None) -> tuple[Lease, Connection]:
        access, backend = self._access, self._backend
        while True:
            if lease is None:
                lease = backend.acquire(self._info, self._tried) or await self._queue()
            server = lease.server
            if self._tried and server is not self._tried[-1]:
                access.redispatched = True
            if access.leased < 0:
                access.leased = self._clock.seconds()
            connection = self._idle(server)
            if connection is None:
                connection = self._make(server)
                try:
                    await self._dial(server, connection)
                except CancelledError:
                    give_back(lease, access, Outcome(Result.ABORTED))
                    raise
                except DialError as error:
                    error.__traceback__ = None  # its frames know the error: without this all of it is a cycle
                    give_back(lease, access, Outcome(Result.ABORTED if error.local else Result.CONNECT_FAILED))
                    lease = None
                    if not self.another_try(server, repeats=False):
                        raise Unplaced("RC" if error.local else "sC" if error.timed_out else "SC") from error
                    if error.local:
                        await self._make_room(error)
                    continue
            return lease, connection

    def another_try(self, failed: Server, *, repeats: bool) -> bool:
        """Is a retry left? Counts it, and keeps it away from the servers that have failed.

        `repeats`: the server has had the request, so that another one is to do the same again. Place it then at once.
        """
        backend = self._backend
        if len(self._tried) >= backend.settings.retries or not backend.retry(failed, repeats=repeats):
            return False
        self._tried += (failed,)
        self._access.retries += 1
        self._repeating = self._repeating or repeats
        return True

    async def _make_room(self, error: DialError) -> None:
        """Let idle connections be closed, which takes until the next turn."""
        self._site.lacking(error.detail)
        closed: Deferred[None] = Deferred()
        call = self._clock.callLater(0, closed.callback, None)
        try:
            await closed
        finally:
            if call.active():
                call.cancel()

    async def _dial(self, server: Server, connection: Connection) -> None:
        timeout = self._backend.settings.timeout_connect
        await Dial(self._network, self._clock, server.settings, connection, timeout).done

    async def _queue(self) -> Lease:
        """Wait for a server with room."""
        backend = self._backend
        if not backend.available:
            raise Unplaced("SC")
        if backend.queue_full:
            raise Unplaced("SQ")
        granted: Deferred[Lease | None] = Deferred(lambda _: backend.leave(ticket))
        rank = 0 if self._rank is None else self._rank()
        ticket = backend.wait(self._info, granted.callback, self._tried, rank)
        self._access.backend_queue = ticket.place
        granted.addTimeout(backend.settings.queue_patience, cast(IReactorTime, self._clock))
        self.waiting = True
        try:
            lease = await granted
        except DeferredTimeout:
            raise Unplaced("sQ") from None
        finally:
            self.waiting = False
        if lease is None:  # the last server has become unavailable
            raise Unplaced("SC")
        return lease


def give_back(lease: Lease, access: Access, outcome: Outcome) -> None:
    """End a lease, after noting for the log whose it was and the load beside it."""
    lease.note_load(access)
    lease.done(outcome)
