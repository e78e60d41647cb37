"""A named set of servers with one policy. It lends servers out and takes them back.

Two immutable tuples hold the decision in the hot path to one lookup: `available` (ready, up, and
backups only when nothing else is) and `candidates` (the available ones with room). They are
replaced when health, weight, admin state or membership changes, and `candidates` also when a
server fills up or gets room again, or rests.

The queue holds what came when every available server was full, or every one that had not failed it
before. It obeys one invariant: while somebody waits, no candidate suits him. So nobody overtakes, and
a freed slot goes to the one who is first of those whom it suits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from lbservice.core.events import Access
from lbservice.core.pick import OK, Outcome, PickInfo, Policy, Result
from lbservice.core.queue import Queue, Ticket
from lbservice.core.retry import RetryBudget
from lbservice.core.server import Admin, Server
from lbservice.core.settings import BackendSettings

Listener = Callable[[Server, Outcome], bool]
"""Hears how a use of a server went; does it want to hear of the next one, even if all goes well?"""


class Lease:
    """One use of one server: counted when taken, ended exactly once by `done`."""

    __slots__ = ("_streamed", "backend", "open", "server")

    def __init__(self, backend: Backend, server: Server) -> None:
        self.backend = backend
        self.server = server
        self.open = True

    def done(self, outcome: Outcome) -> None:
        """Give the server back and say how it went. A second call changes nothing."""
        if not self.open:
            return
        self.open = False
        backend, server = self.backend, self.server
        server.in_flight -= 1
        backend.in_flight -= 1
        server.bytes_in += outcome.bytes_in
        server.bytes_out += outcome.bytes_out
        result = outcome.result
        server.statuses[min(outcome.status // 100, 5) if result is OK else 0] += 1
        if result is Result.CONNECT_FAILED:
            server.connect_errors += 1
        elif result is Result.TIMED_OUT:
            server.timeouts += 1
        elif result is Result.RESET:
            server.resets += 1
        if outcome.bad:
            backend.policy.failed(server, outcome)
        if backend.learns:
            outcome.streamed = self._has_streamed()
            backend.policy.learn(server, outcome)
        if backend.listeners:
            backend.tell(server, outcome)
        self._make_room()

    def streams(self) -> None:
        """Its response head has come, and it goes on, perhaps for long."""
        if self.backend.learns and not self._has_streamed():
            self._streamed = True
            self.backend.policy.streams(self.server)

    def _has_streamed(self) -> bool:
        return hasattr(self, "_streamed")  # so that the fast path need not set it

    def note_load(self, access: Access) -> None:
        """Note for the log whose server this is, and the load beside it."""
        server = self.server
        access.server = server.name
        access.server_active = server.in_flight - 1
        access.backend_active = self.backend.in_flight - 1

    def succeeded(self, access: Access) -> None:
        """The fast path of `note_load` and `done`, for a whole response: no object for nobody who learns.

        A response that says that the server has failed goes the general way.
        """
        backend, server, status = self.backend, self.server, access.status
        if status >= 500 or backend.learns or not self.open:
            self.note_load(access)
            self.done(Outcome(OK, status, access.responded - access.connected, access.bytes_in, access.bytes_out))
            return
        self.open = False
        access.server_active = server.in_flight = server.in_flight - 1
        access.backend_active = backend.in_flight = backend.in_flight - 1
        server.bytes_in += access.bytes_in
        server.bytes_out += access.bytes_out
        server.statuses[status // 100] += 1
        if server.maxconn or server.leaving:
            self._make_room()

    def repeats(self) -> Lease:
        """The same use, as a repetition's."""
        return Repetition(self.backend, self.server)

    def _make_room(self) -> None:
        backend, server = self.backend, self.server
        maxconn = server.maxconn
        if maxconn and server.in_flight == maxconn - 1:
            backend.room_changed()
        if server.leaving and not server.in_flight:
            backend.drop(server)

    def __repr__(self) -> str:
        return f"<Lease of {self.server.path}{'' if self.open else ', done'}>"


class Repetition(Lease):
    """The lease of a request that a server may have begun with before: while it is open, the budget counts it."""

    __slots__ = ()

    def done(self, outcome: Outcome) -> None:
        if self.open:
            self.backend.budget.give_back()
        super().done(outcome)

    def succeeded(self, access: Access) -> None:
        self.note_load(access)
        self.done(Outcome(OK, access.status, access.responded - access.connected, access.bytes_in, access.bytes_out))


class Backend:
    """Lends servers out by its policy.

    `emptied(backend, empty)` is called when the last server becomes unavailable (True) and when
    the first returns (False); `panicked(backend)` when panic begins or ends; `relented(backend)` when ejected servers
    are used for want of others, and when they are so no more; `gone(server)` when a removed server has nothing left in
    flight; `retried(backend, server, again)` when a request fails on a server and
    could be tried again, and whether it is or the budget forbids it. `listeners` hear how uses of servers went: of
    each that went badly, and of the others while one of them wants to.
    """

    def __init__(
        self,
        settings: BackendSettings,
        policy: Policy,
        *,
        emptied: Callable[[Backend, bool], None] = lambda backend, empty: None,
        gone: Callable[[Server], None] = lambda server: None,
        panicked: Callable[[Backend], None] = lambda backend: None,
        relented: Callable[[Backend], None] = lambda backend: None,
        retried: Callable[[Backend, Server, bool], None] = lambda backend, server, again: None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.policy = policy
        self.learns = True
        """Does the policy, or a listener, want to know how every use of a server goes, not only the bad ones?"""
        self.listeners: tuple[Listener, ...] = ()
        self._attentive = False
        """Is it a listener?"""
        self.sticky = settings.sticky is not None
        """Do clients get a cookie that brings them back to their server?"""
        self.servers: dict[str, Server] = {}
        self.available: tuple[Server, ...] = ()
        self.candidates: tuple[Server, ...] = ()
        self.keepers: tuple[Server, ...] = ()
        """With sticky cookies: those that get no new clients, and keep theirs."""
        self.in_flight = 0
        self.requests = 0
        self.retries = 0
        self.budget = RetryBudget(settings.retry_budget)
        self._places = settings.maxqueue
        """Of the queue; 0: any number."""
        self.panicking = False
        """Are so few servers up that all are used?"""
        self.relenting = False
        """Is no server left but ejected ones, so that these are used?"""
        self._queue = Queue(len(settings.priority.classes) if settings.priority else 1)
        self._serving = False
        self._changing = False
        self._emptied = emptied
        self._gone = gone
        self._panicked = panicked
        self._relented = relented
        self._retried = retried

    def __iter__(self) -> Iterator[Server]:
        return iter(self.servers.values())

    @property
    def mains(self) -> tuple[Server, ...]:
        """The servers that people want to be used, backups only where there are no others; panic uses all of them."""
        wanted = tuple(server for server in self.servers.values() if server.wanted)
        return tuple(server for server in wanted if not server.settings.backup) or wanted

    @property
    def waiting(self) -> int:
        """How many wait in the queue."""
        return self._queue.waiting

    @property
    def queue_full(self) -> bool:
        """Is there no place left in the queue (`maxqueue`)?"""
        return 0 < self._places <= self._queue.waiting

    # -- lending ---------------------------------------------------------------------------

    def acquire(self, info: PickInfo, avoid: tuple[Server, ...] = (), *, first: bool = False) -> Lease | None:
        """A lease of a server with room, another than those to `avoid` if there is one; None if all are full.

        Choosing and counting are one step, so that two picks in one turn see each other. Who waits in the
        queue comes before others; he is the `first` of it.
        """
        if self._serving and self._queue.waiting and not first:
            return None
        server = self._keeper(info, avoid) if self.keepers else None
        if server is None:
            candidates = self._suiting(avoid) if avoid else self.candidates
            if not candidates:
                return None
            server = self.policy.pick(candidates, info) if len(candidates) > 1 else candidates[0]
        server.in_flight += 1
        server.requests += 1
        self.in_flight += 1
        self.requests += 1
        if server.maxconn and server.full:
            self._find_candidates()
        return Lease(self, server)

    def _suiting(self, avoid: tuple[Server, ...]) -> tuple[Server, ...]:
        """The candidates for who wants to avoid these, which he cannot if no other is available."""
        if not avoid or all(server in avoid for server in self.available):
            return self.candidates
        return tuple(server for server in self.candidates if server not in avoid)

    def _keeper(self, info: PickInfo, avoid: tuple[Server, ...]) -> Server | None:
        keepers = [server for server in self.keepers if not server.full and server not in avoid]
        return self.policy.keeper(keepers, info) if keepers else None

    def room_changed(self) -> None:
        """A server that was full is so no more, or one begins or ends a rest."""
        self._find_candidates()
        self._serve_queue()

    def rest(self, server: Server, resting: bool) -> None:
        """Give a server nothing new, as long as another one does not rest; or give it something again."""
        server.resting = resting
        self.room_changed()

    def tell(self, server: Server, outcome: Outcome) -> None:
        """Let the listeners hear how a use of a server went."""
        attentive = False
        for heard in self.listeners:
            attentive = heard(server, outcome) or attentive
        if attentive != self._attentive:
            self._attentive = attentive
            self._learn_or_not()

    def _learn_or_not(self) -> None:
        self.learns = self._attentive or self.policy.learns

    # -- trying again ----------------------------------------------------------------------

    def retry(self, failed: Server, *, repeats: bool) -> bool:
        """A request has failed on this server and may be tried again, unless the budget forbids it.

        `repeats`: the server may have begun with it. Then the budget has counted it, until it is given back.
        """
        in_flight = self.in_flight + self._queue.waiting + 1
        again = not repeats or self.budget.take(in_flight, self.requests)
        if again:
            self.retries += 1
        self._retried(self, failed, again)
        return again

    # -- waiting ---------------------------------------------------------------------------

    def wait(
        self,
        info: PickInfo,
        granted: Callable[[Lease | None], None],
        avoid: tuple[Server, ...] = (),
        rank: int = 0,
    ) -> Ticket:
        """Queue up in a class; `granted` is called once, with a lease, or with None when no server is left."""
        return self._queue.join(info, granted, avoid, rank)

    def leave(self, ticket: Ticket) -> None:
        """Give a place in the queue up; harmless when the ticket was served already."""
        self._queue.leave(ticket)

    def _serve_queue(self) -> None:
        if self._serving or not self._queue.waiting:
            return  # in the first case the loop below, further up the stack, goes on
        self._serving = True
        try:
            while ticket := self._queue.next(self._serves):
                granted = self._queue.serve(ticket)
                granted(self.acquire(ticket.info, ticket.avoid, first=True))
        finally:
            self._serving = False

    def _serves(self, avoid: tuple[Server, ...]) -> bool:
        """Can who wants to avoid these be told something: of a candidate that suits him, or that no server is left?"""
        return bool(self._suiting(avoid)) or not self.available

    # -- changing --------------------------------------------------------------------------

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is changed in this context becomes one change: nobody who waits hears of a state in between."""
        self._changing = True
        try:
            yield
        finally:
            self._changing = False
            self.refresh()

    def add(self, server: Server) -> None:
        """Take a server in. A name that is taken is the caller's mistake (KeyError)."""
        if server.name in self.servers:
            raise KeyError(server.name)
        self.servers[server.name] = server
        self.refresh()

    def remove(self, server: Server) -> None:
        """Let a server go: nothing new from now on; it is gone when its last request is done."""
        server.leaving = True
        server.admin = Admin.DRAIN
        self.refresh()
        if not server.in_flight:
            self.drop(server)

    def change(self, settings: BackendSettings, policy: Policy | None) -> None:
        """Other settings from now on, and another policy if they want one. Its servers are changed one by one."""
        before, self.settings = self.settings, settings
        if policy is not None:
            self.policy = policy
        self.sticky = settings.sticky is not None
        self.keepers = ()
        self.budget.share = settings.retry_budget
        if before.priority != settings.priority:
            self._queue.reclass(len(settings.priority.classes) if settings.priority else 1)
        self.refresh()

    def sort(self, names: Iterable[str]) -> None:
        """Servers of these names first, in this order."""
        order = [*names, *self.servers]
        servers = {name: self.servers[name] for name in dict.fromkeys(order) if name in self.servers}
        if list(servers) != list(self.servers):
            self.servers = servers
            self.refresh()

    def refresh(self) -> None:
        """Health, weight, admin state or membership of a server has changed: decide anew."""
        if self._changing:
            return
        before = self.available
        usable = [server for server in self.servers.values() if server.available]
        self.available = tuple(s for s in usable if not s.settings.backup) or tuple(usable)
        panicked, relented = self.panicking, self.relenting
        self.panicking = False
        if not usable:  # one that fails now and then, and that its checks find well, is better than none
            self.available = tuple(server for server in self.servers.values() if server.wanted and server.well)
        if self.settings.panic:
            self._panic_or_not(len(usable))
        self.relenting = bool(self.available) and not usable and not self.panicking
        if self.sticky:
            self.keepers = tuple(server for server in self.servers.values() if server.keeps)
        self._places = self._count_places()
        self.policy.rebuild(self.available)
        self._learn_or_not()
        self._find_candidates()
        if self.panicking != panicked:
            self._panicked(self)
        if self.relenting != relented:
            self._relented(self)
        if bool(before) != bool(self.available):
            self._emptied(self, not self.available)
        self._serve_queue()

    def _panic_or_not(self, usable: int) -> None:
        """Use all, whatever their health, when so few are up that they would be overrun, and no backup can help."""
        mains = self.mains
        up = sum(server.available for server in mains)
        self.panicking = up < self.settings.panic * len(mains) and usable == up
        if self.panicking:
            self.available = mains

    def _count_places(self) -> int:
        """Its own `maxqueue`, and no more than its available servers allow, if each of them names a limit."""
        own = self.settings.maxqueue
        theirs = [server.settings.maxqueue for server in self.available]
        if not theirs or not all(theirs):
            return own
        return min(own, sum(theirs)) if own else sum(theirs)

    def _find_candidates(self) -> None:
        self.candidates = tuple(server for server in self.available if not (server.full or server.resting))
        if not self.candidates and all(server.resting for server in self.available):
            self.candidates = tuple(server for server in self.available if not server.full)

    def drop(self, server: Server) -> None:
        """A removed server has nothing left in flight: it is gone."""
        if self.servers.get(server.name) is server:
            del self.servers[server.name]
            self._gone(server)

    def __repr__(self) -> str:
        up = sum(1 for server in self if server.available)
        return f"<Backend {self.name}: {up} of {len(self.servers)} up, {self.in_flight} active>"
