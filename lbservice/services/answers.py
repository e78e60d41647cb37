"""What `Control` answers to questions: frozen rows, which every face shows in its own way.

A float is a duration in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server as `servers` shows it. `since` is seconds in the present state of health.

    `last_check` is code and duration of the last check, e.g. `L7OK 3ms`, or `-`.
    """

    server: str
    address: str
    state: str
    reason: str
    since: float
    last_check: str
    weight: int
    in_flight: int
    requests: int
    errors: int


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check as `health` shows it. `ago` is seconds since it ended; `took` is how long it took, in words."""

    ago: float
    by: str
    result: str
    code: str
    took: str
    detail: str


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend as `stats` shows it."""

    backend: str
    balance: str
    available: int
    servers: int
    in_flight: int
    waiting: int
    requests: int
    retries: int


@dataclass(frozen=True, slots=True)
class FrontendRow:
    """One frontend as `stats` shows it."""

    frontend: str
    mode: str
    listen: str
    connections: int
    total_connections: int
    requests: int
    status_2xx: int
    status_4xx: int
    status_5xx: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One client's connection. `age` is seconds since its request began or, if it is idle, since it has been so."""

    session: str
    age: float
    server: str
    doing: str
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One entry of lb.ini that is not as what runs; "" where it is missing."""

    section: str
    key: str
    running: str
    file: str


@dataclass(frozen=True, slots=True)
class WhyRow:
    """One sentence about a request, for people.

    `about` is one word: asked, route, server, other, queue, tries, times, end or event.
    """

    about: str
    says: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Everything at a glance. `uptime` is seconds; `log_dropped` counts lines that could not be written."""

    uptime: float
    frontends: tuple[FrontendRow, ...]
    backends: tuple[BackendRow, ...]
    log_dropped: int
