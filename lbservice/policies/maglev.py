"""Hashing by a table: as fast with 500 servers as with 5."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from lbservice.core.pick import NOTHING, PickInfo
from lbservice.core.server import Server
from lbservice.policies.hashing import Hash

SLOTS = 65537
"""A prime, more than a hundred times the number of servers."""
WHOLE = SLOTS * SLOTS
SLICE = 20_000
"""Looks at slots, and at turns that a light server does not take, with one pick while a new table is filled. That takes
some 800 000 in all."""

_FREE = 0xFFFF


class Maglev(Hash):
    """Every slot of a table has its server; a key has its slot (Eisenbud et al., Maglev, NSDI 2016).

    Servers take turns, by weight, in taking the next free slot of an order of their own. A server that goes leaves its
    slots to all the others, and a few others move as well. Until a new table is filled, which happens in
    slices with the picks, the old one serves: whose server is not there goes to the next slot's.
    """

    def __init__(self, seconds: Callable[[], float], wants: tuple[str, str] = NOTHING, factor: int = 0) -> None:
        super().__init__(seconds, wants, factor)
        self._table: array[int] = array("H")
        self._order: list[Server] = []
        """Whom the numbers in the table mean."""
        self._shares: list[tuple[str, float]] = []
        """What the newest table is for, be it filled or not."""
        self._next: _Table | None = None
        self._known: Sequence[Server] = ()
        self._among: frozenset[Server] = frozenset()

    def rebuild(self, servers: Sequence[Server]) -> None:
        super().rebuild(servers)
        self._known = ()
        order = sorted(servers, key=lambda server: server.name)
        shares = [(server.name, server.effective_weight) for server in order]
        if shares != self._shares or order != (self._next.order if self._next else self._order):
            self._shares = shares
            self._next = _Table(order) if order else None

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        if candidates is not self._known:
            self._known = candidates
            self._among = frozenset(candidates)
            if self._next is not None and self._among.isdisjoint(self._order):
                self._fill(WHOLE)
        if self._next is not None:
            self._fill(SLICE)
        return super().pick(candidates, info)

    def _fill(self, looks: int) -> None:
        table = self._next
        if table is not None and table.fill(looks):
            self._table, self._order, self._next = table.slots, table.order, None

    def _home(self, digest: bytes, candidates: Sequence[Server]) -> Server:
        return next(iter(self._homes(digest, candidates)))

    def _homes(self, digest: bytes, candidates: Sequence[Server]) -> Iterator[Server]:
        table, order, among = self._table, self._order, self._among
        slot = int.from_bytes(digest[:8], "big") % SLOTS
        for _ in range(SLOTS):
            server = order[table[slot]]
            if server in among:
                yield server
            slot = slot + 1 if slot + 1 < SLOTS else 0
        yield from candidates


class _Table:
    """A table on its way."""

    def __init__(self, order: list[Server]) -> None:
        self.order = order
        self.slots = array("H", [_FREE]) * SLOTS
        self._left = SLOTS
        self._turns = self._taking()

    def fill(self, looks: int) -> bool:
        """Go on for about so many looks; is it full now?"""
        while self._left and looks > 0:
            looks -= next(self._turns)
            self._left -= 1
        return not self._left

    def _taking(self) -> Iterator[int]:
        """Fill one slot after the other; how many looks each took."""
        order, slots = self.order, self.slots
        digests = [blake2b(server.name.encode(), digest_size=16).digest() for server in order]
        at = [int.from_bytes(digest[:8], "big") % SLOTS for digest in digests]
        steps = [int.from_bytes(digest[8:], "big") % (SLOTS - 1) + 1 for digest in digests]
        weights = [server.effective_weight for server in order]
        heaviest = max(weights)
        credit = [0.0] * len(order)
        looks = 0
        while True:
            for number, weight in enumerate(weights):
                looks += 1
                credit[number] += weight
                if credit[number] < heaviest:
                    continue
                credit[number] -= heaviest
                slot, step = at[number], steps[number]
                while slots[slot] != _FREE:
                    looks += 1
                    slot += step
                    if slot >= SLOTS:
                        slot -= SLOTS
                slots[slot] = number
                at[number] = slot
                yield looks
                looks = 0
