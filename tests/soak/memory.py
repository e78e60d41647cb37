"""Does resident memory grow? A straight line through samples of VmRSS, after a warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIB = 1024 * 1024
PER_TEN_MINUTES = 1.0 * MIB
"""By how much memory may grow, in bytes per 10 minutes, when it is watched for `LONG` at least."""
NOISE = 3.0 * MIB
"""By how much it may differ between the ends of a shorter run: it still finds its size then, in steps."""
LONG = 900.0
SHORT = 60.0
"""Seconds of watching; within less than that nothing can be seen."""
WARM_UP = 0.3
"""The part of a run in which pools, caches and the heap find their size."""

Sample = tuple[float, float]
"""Seconds, and bytes."""


def slope(samples: Sequence[Sample]) -> float:
    """Bytes per second, by least squares."""
    number = len(samples)
    middle = sum(at for at, _ in samples) / number
    mean = sum(size for _, size in samples) / number
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return sum((at - middle) * (size - mean) for at, size in samples) / spread


@dataclass(frozen=True)
class Growth:
    """What the samples show. `requests` came within `seconds`, after the warm-up."""

    start: float
    end: float
    seconds: float
    slope: float
    requests: int

    @classmethod
    def of(cls, samples: Sequence[Sample], requests: int) -> Growth:
        """The line through samples from which the warm-up has been left out."""
        return cls(samples[0][1], samples[-1][1], samples[-1][0] - samples[0][0], slope(samples), requests)

    @property
    def allowed(self) -> float:
        """Bytes per second."""
        return PER_TEN_MINUTES / 600 if self.seconds >= LONG else NOISE / self.seconds

    @property
    def good(self) -> bool:
        """Is the slope within what is allowed?"""
        return self.slope <= self.allowed

    def __str__(self) -> str:
        unseen = self.allowed * self.seconds / max(1, self.requests)
        return (
            f"{self.start / MIB:.2f} -> {self.end / MIB:.2f} MiB in {self.seconds:.0f} s, "
            f"slope {self.slope * 600 / MIB:+.2f} MiB per 10 min (allowed {self.allowed * 600 / MIB:.2f}); "
            f"a leak of less than {unseen:.1f} bytes a request would not be seen"
        )
