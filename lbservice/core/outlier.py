"""Outlier ejection: a server that fails where the others do not is put out for a while (after Envoy's).

Each time it stays out longer, and what lies back is forgotten: one time for each `ejection` seconds that it was in.
"""

from __future__ import annotations

from lbservice.core.backend import Backend
from lbservice.core.server import Server
from lbservice.core.settings import OutlierSettings


class Outliers:
    """Decides for one backend who may be put out, and for how long. `times(server)` says how often it was."""

    def __init__(self, settings: OutlierSettings) -> None:
        self._settings = settings
        self._past: dict[Server, tuple[int, float]] = {}
        """How often it was put out lately, and when it came back."""

    def sentence(self, backend: Backend, server: Server, now: float) -> float:
        """Seconds that the server is to be out from now on; 0 if it may not be.

        It may not when more than the allowed share of the servers would be out, or all.
        """
        usable = [each for each in backend if each.wanted and each.well]
        out = 1 + sum(each.ejection is not None for each in usable)
        if server not in usable or out > len(usable) * self._settings.share or out == len(usable):
            return 0.0
        times = self._remembered(server, now) + 1
        seconds = min(self._settings.ejection * times, self._settings.longest)
        self._past[server] = times, now + seconds
        return seconds

    def times(self, server: Server) -> int:
        """How often it has been put out lately."""
        return self._past.get(server, (0, 0.0))[0]

    def returned(self, server: Server, now: float) -> None:
        """It is in again, maybe earlier than it was to be."""
        self._past[server] = self.times(server), now

    def forget(self, server: Server) -> None:
        """It is gone for good."""
        self._past.pop(server, None)

    def _remembered(self, server: Server, now: float) -> int:
        times, since = self._past.get(server, (0, now))
        return max(0, times - int(max(0.0, now - since) / self._settings.ejection))
