"""Who waits for a server: by class, and within a class in the order they came.

A lower class waits while a higher one does, but not for ever: after `IN_A_ROW` turns that went over somebody's head
the oldest of all has his turn, whatever his class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING

from lbservice.core.pick import PickInfo
from lbservice.core.server import Server

if TYPE_CHECKING:
    from lbservice.core.backend import Lease

Servers = tuple[Server, ...]

IN_A_ROW = 7
"""Turns by class before one by age: so every eighth turn at least goes to those whom nobody prefers."""


class Ticket:
    """A place in a backend's queue."""

    __slots__ = ("avoid", "granted", "info", "number", "place", "rank")

    def __init__(
        self,
        info: PickInfo,
        granted: Callable[[Lease | None], None],
        avoid: Servers,
        rank: int,
        number: int,
        place: int,
    ) -> None:
        self.info = info
        self.granted: Callable[[Lease | None], None] | None = granted
        self.avoid = avoid
        self.rank = rank
        """Its class: the smaller, the earlier."""
        self.number = number
        """Tickets are numbered as they are handed out."""
        self.place = place
        """How many were waiting before it, as the log's backend queue field says."""


_number = attrgetter("number")


class Queue:
    """The tickets of one backend, for `classes` classes. `waiting` counts those that are neither served nor gone."""

    def __init__(self, classes: int = 1) -> None:
        self.waiting = 0
        self._by_rank = [0] * classes
        self._lines: dict[tuple[int, Servers], deque[Ticket]] = {}
        """By class, and by the servers to avoid, which are nearly always none; the oldest ticket first."""
        self._numbers = count()
        self._left = 0
        self._passed_over = 0

    def __len__(self) -> int:
        """Tickets that are kept, those given up included."""
        return sum(map(len, self._lines.values()))

    def join(self, info: PickInfo, granted: Callable[[Lease | None], None], avoid: Servers, rank: int) -> Ticket:
        """A place behind all of the same class and those before it."""
        place = sum(self._by_rank[: rank + 1])
        ticket = Ticket(info, granted, avoid, rank, next(self._numbers), place)
        self._lines.setdefault((rank, avoid), deque()).append(ticket)
        self.waiting += 1
        self._by_rank[rank] += 1
        return ticket

    def reclass(self, classes: int) -> None:
        """There are so many classes from now on; who waits in one that is no more waits in the last."""
        waiting = sorted((each for line in self._lines.values() for each in line if each.granted), key=_number)
        self._lines = {}
        self._by_rank = [0] * classes
        self._left = 0
        for ticket in waiting:
            ticket.rank = min(ticket.rank, classes - 1)
            self._lines.setdefault((ticket.rank, ticket.avoid), deque()).append(ticket)
            self._by_rank[ticket.rank] += 1

    def leave(self, ticket: Ticket) -> None:
        """Give a place up; harmless when the ticket was served already."""
        if ticket.granted is None:
            return
        ticket.granted = None
        self._one_less(ticket)
        self._left += 1
        if self._left > self.waiting + 16:
            self._left = 0
            for key, line in self._lines.items():
                self._lines[key] = deque(waiter for waiter in line if waiter.granted is not None)

    def next(self, suits: Callable[[Servers], object]) -> Ticket | None:
        """Whose turn it is, of those whom a server `suits` who want to avoid these."""
        first: Ticket | None = None
        by_age = self._passed_over >= IN_A_ROW
        for key, line in list(self._lines.items()):
            while line and line[0].granted is None:
                line.popleft()
            if not line:
                del self._lines[key]
            elif suits(key[1]) and (first is None or self._before(line[0], first, by_age)):
                first = line[0]
        return first

    @staticmethod
    def _before(one: Ticket, other: Ticket, by_age: bool) -> bool:
        if by_age or one.rank == other.rank:
            return one.number < other.number
        return one.rank < other.rank

    def serve(self, ticket: Ticket) -> Callable[[Lease | None], None]:
        """Take out the ticket that `next` has named; who is to be told."""
        self._lines[ticket.rank, ticket.avoid].popleft()
        self._one_less(ticket)
        if self._passed_over >= IN_A_ROW:
            self._passed_over = 0
        elif any(self._by_rank[ticket.rank + 1 :]):
            self._passed_over += 1
        granted, ticket.granted = ticket.granted, None
        assert granted is not None
        return granted

    def _one_less(self, ticket: Ticket) -> None:
        self.waiting -= 1
        self._by_rank[ticket.rank] -= 1
