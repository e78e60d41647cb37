"""The seam between a backend and the policy that chooses for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lbservice.core.server import Server


class PickInfo:
    """What a policy may know of the request that a server is wanted for.

    An exchange is one itself: what stands in the request is looked up only if a policy asks for it.
    """

    __slots__ = ("source",)

    source: str
    """The client's address, without the port."""

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def key(self) -> bytes:
        """The part of the request that the policy `wants`; b"" where the request has none."""
        return b""

    @property
    def cookie(self) -> bytes:
        """What the sticky cookie says; b"" without one."""
        return b""


class Result(Enum):
    """How a use of a server ended."""

    OK = "ok"
    CONNECT_FAILED = "connect failed"
    TIMED_OUT = "timed out"
    RESET = "reset"
    ABORTED = "aborted"
    """Given up by the client or by us; says nothing about the server."""


OK, ABORTED = Result.OK, Result.ABORTED


@dataclass(slots=True)
class Outcome:
    """How one use of a server went. `status` is 0 and `seconds` -1 where there was no response head."""

    result: Result
    status: int = 0
    seconds: float = -1.0
    bytes_in: int = 0
    bytes_out: int = 0
    streamed: bool = False
    """Has the policy heard before that its response head has come (`Policy.streams`)?"""

    @property
    def bad(self) -> bool:
        """Is it the server's failure? What client or balancer gave up says nothing about the server."""
        return self.result is not ABORTED and (self.result is not OK or self.status >= 500)


NOTHING = ("", "")


class Policy(ABC):
    """Chooses one of the available servers. Only `pick` must be written.

    What a use of a server came to is told in two ways. `failed` hears of bad ends alone, and costs nothing
    while all goes well. `learn` hears of every end, and costs each request the object that tells of it, so a policy
    overrides it only when it needs good outcomes too. A bad one goes to both, first to `failed`.
    """

    wants: tuple[str, str] = NOTHING
    """What `PickInfo.key` shall be: ("uri", ""), ("header", NAME), ("cookie", NAME) or ("param", NAME)."""

    @abstractmethod
    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        """One of `candidates`, which is never empty and holds no unavailable server."""

    def rebuild(self, servers: Sequence[Server]) -> None:  # noqa: B027 - optional by design
        """The backend's available servers or their weights have changed."""

    def failed(self, server: Server, outcome: Outcome) -> None:  # noqa: B027 - optional by design
        """A use of `server` has ended badly: no connection, a reset, a timeout, or a status of 500 or more."""

    def learn(self, server: Server, outcome: Outcome) -> None:  # noqa: B027 - optional by design
        """A use of `server` has ended. Its `in_flight` does not count it any more."""

    def streams(self, server: Server) -> None:  # noqa: B027 - optional by design
        """The response head of a use of `server` has come, but the use goes on: a long body, a tunnel.

        Only who learns hears of it.
        """

    def keeper(self, servers: Sequence[Server], info: PickInfo) -> Server | None:
        """The one of `servers`, which get nothing new, that the client is to stay with all the same."""
        return None

    @property
    def learns(self) -> bool:
        """Does it override `learn`? Whoever wraps another policy answers for that one."""
        return type(self).learn is not Policy.learn
