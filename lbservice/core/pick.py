"""The seam between a backend and the policy that chooses for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lbservice.core.server import Server


@dataclass(slots=True)
class PickInfo:
    """What a policy may know of the client that a server is wanted for."""

    source: str
    """The client's address, without the port."""


class Result(Enum):
    """How a use of a server ended."""

    OK = "ok"
    CONNECT_FAILED = "connect failed"
    TIMED_OUT = "timed out"
    RESET = "reset"
    ABORTED = "aborted"
    """Given up by the client or by us; says nothing about the server."""


OK = Result.OK


@dataclass(slots=True)
class Outcome:
    """How one use of a server went. `status` is 0 and `seconds` -1 where there was no response head."""

    result: Result
    status: int = 0
    seconds: float = -1.0
    bytes_in: int = 0
    bytes_out: int = 0


class Policy(ABC):
    """Chooses one of the available servers. Only `pick` must be written."""

    @abstractmethod
    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        """One of `candidates`, which is never empty and holds no unavailable server."""

    def rebuild(self, servers: Sequence[Server]) -> None:  # noqa: B027 - optional by design
        """The backend's available servers or their weights have changed."""

    def learn(self, server: Server, outcome: Outcome) -> None:  # noqa: B027 - optional by design
        """A use of `server` has ended."""
