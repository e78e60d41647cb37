"""One address that may be sent to: what people want of it, how it is, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from lbservice.core.agent import Agent, Said
from lbservice.core.health import CheckResult, Health
from lbservice.core.settings import ServerSettings

MAX_WEIGHT = 256


class Admin(Enum):
    """What an operator wants of a server. Never mixed with its health: these are two axes."""

    READY = "ready"
    DRAIN = "drain"
    """Finishes what it has, takes nothing new but from clients that stick to it."""
    MAINT = "maint"
    """Takes nothing and is not checked."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """Why a server was put out, for its errors, and until when (monotonic seconds)."""

    until: float
    why: str


class Server:
    """A server of one backend. Compared by identity; its counters live as long as it does.

    `settings` is what people want, and may change while it runs; `weight` (0-256; 0 takes nothing new) and `admin` are
    parts of it. `ramp` and `ejection` are what its past does to it. Whoever changes one of them calls
    `Backend.refresh`, which keeps its tuple of available servers in step. Policies go by `effective_weight` and the
    backend by `maxconn`, which are what was configured or, for the time being, a part of it. What its agent says never
    overwrites what people said.
    """

    __slots__ = (
        "_admin",
        "_ramp",
        "_settings",
        "agent",
        "backend",
        "bytes_in",
        "bytes_out",
        "connect_errors",
        "effective_weight",
        "ejection",
        "health",
        "in_flight",
        "leaving",
        "maxconn",
        "moves",
        "name",
        "requests",
        "resets",
        "resting",
        "statuses",
        "timeouts",
    )

    def __init__(self, backend: str, settings: ServerSettings, health: Health) -> None:
        self.backend = backend
        self.name = settings.name
        self.health = health
        self.agent: Agent | None = None
        self.effective_weight: float
        self.maxconn: int
        """Requests that it may have in flight at present; 0: any number."""
        self._ramp = 1.0
        self.settings = settings
        self.ejection: Ejection | None = None
        self.leaving = False
        """Removed by an operator, and gone as soon as its last request is done."""
        self.moves = 0
        """How often it got another address: older connections are not used again."""
        self.resting = False
        """Has it failed at once while others waited, so that it gets nothing for a moment? (`Backend.rest`)"""
        self.in_flight = 0
        self.requests = 0
        self.statuses = [0, 0, 0, 0, 0, 0]
        """Responses by class: index 2 counts 2xx; index 0 what was no response."""
        self.connect_errors = 0
        self.timeouts = 0
        self.resets = 0
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def settings(self) -> ServerSettings:
        """What people want of it. Its name stays."""
        return self._settings

    @settings.setter
    def settings(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._admin = Admin(settings.state)
        self._reckon()

    @property
    def weight(self) -> int:
        """What people want its share to be."""
        return self._settings.weight

    @weight.setter
    def weight(self, weight: int) -> None:
        self.settings = replace(self._settings, weight=weight)

    @property
    def admin(self) -> Admin:
        """Whether people want it to be used."""
        return self._admin

    @admin.setter
    def admin(self, admin: Admin) -> None:
        self.settings = replace(self._settings, state=admin.value)

    @property
    def ramp(self) -> float:
        """The part of its share that it gets at present: less than 1 for a while after a recovery."""
        return self._ramp

    @ramp.setter
    def ramp(self, ramp: float) -> None:
        self._ramp = ramp
        self._reckon()

    def hear(self, result: CheckResult, said: Said | None) -> bool:
        """Its agent has been asked (see `Agent.observe`). Is anything new? Then the backend is to be refreshed."""
        assert self.agent is not None
        new = self.agent.observe(result, said)
        self._reckon()
        return new

    def _reckon(self) -> None:
        """What people want, times what agent and recovery leave of it: the one place for such factors."""
        weight: float = self._settings.weight
        most = self._settings.maxconn
        if self.agent is not None:
            weight = min(weight * self.agent.share, MAX_WEIGHT)
            if self.agent.maxconn is not None:
                most = self.agent.maxconn
        self.effective_weight = weight * self._ramp
        self.maxconn = max(1, int(most * self._ramp)) if most else 0

    @property
    def wanted(self) -> bool:
        """Do people, and its agent, want it to be used?"""
        held = self.agent is not None and self.agent.hold != "ready"
        return self.admin is Admin.READY and self.effective_weight > 0 and not held

    @property
    def well(self) -> bool:
        """Do its checks, and its agent, find it up?"""
        return self.health.up and (self.agent is None or self.agent.up)

    @property
    def available(self) -> bool:
        """May it take something new, as far as people, checks, its agent and its errors are concerned?"""
        return self.wanted and self.well and self.ejection is None

    @property
    def in_maint(self) -> bool:
        """Is it in maintenance, as people or its agent want it, so that nobody checks it?"""
        return self.admin is Admin.MAINT or (self.agent is not None and not self.agent.wants_checks)

    @property
    def keeps(self) -> bool:
        """May it go on with clients that stick to it, though it takes no new ones: does it only drain, or weigh 0?"""
        return self.well and self.ejection is None and not (self.in_maint or self.leaving or self.available)

    @property
    def full(self) -> bool:
        """Has it as many requests in flight as it may have?"""
        return 0 < self.maxconn <= self.in_flight

    @property
    def state(self) -> str:
        """For people, what holds it back: the admin state, its health, its agent, its errors; else how far up it is."""
        if self.admin is not Admin.READY:
            return self.admin.name
        if self.health.up and self.agent is not None and not self.agent.admits:
            return f"{self.agent.state} (agent)"
        if self.health.up and self.ejection is not None:
            return "EJECTED"
        return f"{self.health.word} {self._ramp:.0%}" if self._ramp < 1 else self.health.word

    @property
    def reason(self) -> str:
        """The last check, behind what the agent wants other than usual."""
        words = self.agent.words if self.agent is not None else ""
        return f"agent: {words}; {self.health.reason}" if words else self.health.reason

    @property
    def path(self) -> str:
        """`backend/server`, as the log and the shell name it."""
        return f"{self.backend}/{self.name}"

    def __repr__(self) -> str:
        return f"<Server {self.path} {self.settings.address} {self.state}, {self.in_flight} in flight>"
