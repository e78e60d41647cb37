"""DECIDE who is next. One small file per family; `POLICIES` is the one registry.

A policy chooses among servers with room; the backend counts, queues and excludes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lbservice.core.pick import Policy
from lbservice.policies import own, spec
from lbservice.policies.chance import Draw
from lbservice.policies.hashing import Rendezvous
from lbservice.policies.latency import LeastTime, PeakEwma
from lbservice.policies.least import First, LeastConn
from lbservice.policies.maglev import Maglev
from lbservice.policies.rotation import RoundRobin
from lbservice.policies.spec import Balance

Seconds = Callable[[], float]
"""Monotonic seconds."""

POLICIES: dict[str, Callable[[Balance, Seconds, Random, int], Policy]] = {
    "roundrobin": lambda balance, seconds, random, factor: RoundRobin(),
    "leastconn": lambda balance, seconds, random, factor: LeastConn(seconds),
    "random": lambda balance, seconds, random, factor: Draw(seconds, random, balance.draws),
    "least-time": lambda balance, seconds, random, factor: LeastTime(seconds),
    "peak-ewma": lambda balance, seconds, random, factor: PeakEwma(seconds),
    "first": lambda balance, seconds, random, factor: First(),
    **dict.fromkeys(spec.KEYS, lambda balance, seconds, random, factor: Rendezvous(seconds, balance.wants, factor)),
    "maglev": lambda balance, seconds, random, factor: Maglev(seconds, balance.wants, factor),
}


def is_current(policy: Policy, balance: str) -> bool:
    """Is this policy, which `make` has made, still what `balance` names? A class of the user's own may have changed."""
    return not isinstance(policy, own.Own) or policy.is_current(spec.read(balance, POLICIES).name)


def make(
    balance: str,
    seconds: Seconds,
    random: Random,
    *,
    factor: int = 0,
    complain: own.Complain = lambda why, given_up: None,
) -> Policy:
    """The policy that `balance = ...` names. Raises ValueError for an unknown one.

    `factor` is the `hash-balance-factor`, in percent, 0 for none; `complain` hears what goes wrong in a policy
    of the user's own.
    """
    read = spec.read(balance, POLICIES)
    if read.own:
        return own.Own(own.find(read.name, seconds, random), seconds, complain)
    return POLICIES[read.name](read, seconds, random, factor)
