"""What a frontend counts. Its sockets and protocols are in `lbservice.proxy`."""

from __future__ import annotations

from collections import Counter

from lbservice.core.settings import FrontendSettings


class Process:
    """What the whole process counts: connections that clients have open now (the log's `ac`).

    `maxconn` is the most that it may have at a time, `ceiling` the same while open files lack; 0: any number.
    """

    __slots__ = ("active", "ceiling", "maxconn")

    def __init__(self, maxconn: int = 0) -> None:
        self.active = 0
        self.ceiling = 0
        self.maxconn = maxconn

    @property
    def full(self) -> bool:
        """Has it as many connections as it may have?"""
        return 0 < self.maxconn <= self.active or 0 < self.ceiling <= self.active


class Frontend:
    """An address that is listened on, as counters: connections and requests, by response class."""

    __slots__ = (
        "active",
        "by_address",
        "bytes_out",
        "connections",
        "denied",
        "limited",
        "name",
        "process",
        "refused",
        "requests",
        "settings",
        "statuses",
    )

    def __init__(self, settings: FrontendSettings, process: Process) -> None:
        self.settings = settings
        self.name = settings.name
        self.process = process
        self.active = 0
        self.by_address: Counter[str] = Counter()
        """Connections by the client's neighbourhood, those that `maxconn-per-address` has counted."""
        self.connections = 0
        self.refused = 0
        """Connections that were closed at once (`maxconn-per-address`)."""
        self.denied = 0
        """Requests (tcp mode: connections) of clients that `allow` and `deny` keep out."""
        self.limited = 0
        """Requests that were refused by `rate-limit`."""
        self.requests = 0
        self.bytes_out = 0
        self.statuses = [0, 0, 0, 0, 0, 0]

    @property
    def maxconn(self) -> int:
        """The most connections that it can have: its own limit or the process's; 0: any number."""
        own, process = self.settings.maxconn, self.process.maxconn
        return min(own, process) if own and process else own or process

    @property
    def full(self) -> bool:
        """Has it as many connections as its own limit allows?"""
        return 0 < self.settings.maxconn <= self.active

    def opened(self) -> None:
        """A client has connected."""
        self.active += 1
        self.connections += 1
        self.process.active += 1

    def closed(self) -> None:
        """A client's connection has ended."""
        self.active -= 1
        self.process.active -= 1

    def __repr__(self) -> str:
        return f"<Frontend {self.name}: {self.active} connections, {self.requests} requests>"
