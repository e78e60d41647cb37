"""How often somebody may come: token buckets, one a key, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

MOST = 50_000
"""Keys that are remembered one by one."""
SLOTS = 4096
"""What the others owe is remembered for this many groups of them."""


class RateLimit:
    """`rate` uses a second for each key, and up to `burst` at once.

    A bucket is one number: the moment at which it will be full again. (This is the generic cell rate algorithm,
    ITU-T I.371; it decides as a bucket does that is filled continuously.) Whose bucket is full need not be known.

    When more than `most` keys are known, the one that was used longest ago is forgotten; but what it still owed is
    noted for its group, and whoever of that group comes as a stranger owes as much. So nobody gets a fresh bucket by
    making us forget, and nobody loses one because others are many, but for a stranger whose group owes: he waits
    as they would. The groups are by `hash`, which is keyed for texts and bytes: nobody can choose his.
    """

    __slots__ = ("_burst", "_debts", "_every", "_full", "_most")

    def __init__(self, rate: float, burst: int, *, most: int = MOST, slots: int = SLOTS) -> None:
        self._every = 1.0 / rate
        self._burst = (burst - 1) / rate
        self._most = most
        self._full: OrderedDict[Hashable, float] = OrderedDict()
        """When the bucket of each key is full again; who was used last is at the end."""
        self._debts = [float("-inf")] * slots

    def __len__(self) -> int:
        return len(self._full)

    def wait(self, key: Hashable, now: float) -> float:
        """Take one use: 0.0; or the seconds until there is one to take."""
        full = self._full.get(key)
        if full is None:
            full = self._debts[hash(key) % len(self._debts)]
        begin = full if full > now else now
        late = begin - now - self._burst
        if late > 1e-9:
            return late
        self._full[key] = begin + self._every
        self._full.move_to_end(key)
        if len(self._full) > self._most:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """The key that was used longest ago."""
        key, full = self._full.popitem(last=False)
        slot = hash(key) % len(self._debts)
        if full > now and full > self._debts[slot]:
            self._debts[slot] = full
