"""DECIDE who is next. One small file per family; `POLICIES` is the one registry.

A policy chooses among servers with room; the backend counts, queues and excludes.
"""

from __future__ import annotations

from collections.abc import Callable

from lbservice.core.pick import Policy
from lbservice.policies.least import LeastConn
from lbservice.policies.rotation import RoundRobin

POLICIES: dict[str, Callable[[], Policy]] = {
    "roundrobin": RoundRobin,
    "leastconn": LeastConn,
}


def make(balance: str) -> Policy:
    """The policy that `balance = ...` names. Raises KeyError for an unknown one."""
    return POLICIES[balance]()
