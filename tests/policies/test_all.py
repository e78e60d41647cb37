"""What every policy owes, whichever it is."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from lbservice import policies
from lbservice.core.pick import Outcome, Result
from lbservice.policies.sticky import Sticky
from lbservice.testing import PolicyHarness, SimServer
from tests.core.build import Asking
from tests.core.test_backend_machine import BackendMachine

SPREADING = ["roundrobin", "leastconn", "random", "random(4)", "least-time", "peak-ewma"]
HASHES = ["source", "uri", "header(a)", "cookie(a)", "param(a)"]
STEPS = settings(max_examples=20, stateful_step_count=40, derandomize=True, deadline=None)


class TimedMachine(BackendMachine):
    """The backend's machine, with time that passes, errors, and requests that say something."""

    balance = ""

    def make_policy(self) -> Any:
        self.time = 0.0
        self.chance = Random(1)
        policy = policies.make(self.balance, lambda: self.time, Random(1), factor=self.factor)
        return Sticky(policy, "app", b"a secret") if self.balance == "leastconn" else policy

    @property
    def factor(self) -> int:
        return 125 if self.balance in ("uri", "maglev uri") else 0

    @rule(seconds=st.sampled_from([0.01, 1.0, 9.0, 100.0, 5000.0]))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    @rule(result=st.sampled_from(list(Result)), status=st.sampled_from([0, 200, 503]), key=st.integers(0, 20))
    def a_request_comes_and_goes(self, result: Result, status: int, key: int) -> None:
        cookie = self.chance.randbytes(16).hex().encode()
        before = self.backend.candidates
        lease = self.backend.acquire(Asking(b"%d" % key, cookie, f"192.0.2.{key}"))
        assert (lease is None) == (not before)
        if lease is not None:
            self.lent += 1
            assert lease.server in before
            lease.done(Outcome(result, status, self.chance.choice([-1.0, 0.0, 0.2, 30.0])))


@pytest.mark.parametrize("balance", [*SPREADING, "first", "source", "uri", "maglev uri"])
def test_whatever_happens_the_backend_keeps_its_promises(balance: str) -> None:
    machine = type("Machine", (TimedMachine,), {"balance": balance})
    run_state_machine_as_test(machine, settings=STEPS)


def shares(balance: str, weights: Iterable[float], rate: float = 400) -> list[float]:
    """The servers' shares, one part for each, where 1 is fair."""
    weights = list(weights)
    names = [f"s{number}" for number in range(1, 1 + len(weights))]
    harness = PolicyHarness(balance, [SimServer(name, seconds=0.05) for name in names], seed=3)
    for server, weight in zip(harness.backend, weights, strict=True):
        server.effective_weight = weight
    harness.backend.refresh()
    report = harness.run(rate, 20, clients=4000, keys=4000)
    return [report.shares[name] * sum(weights) / weight for name, weight in zip(names, weights, strict=True)]


@pytest.mark.parametrize("balance", [*SPREADING, *HASHES, "maglev uri"])
@pytest.mark.parametrize("weights", [(4, 2, 1, 1), (256, 128, 256, 64), (0.5, 0.5, 0.25, 0.5)])
def test_weights_are_honoured_also_broken_ones(balance: str, weights: tuple[float, ...]) -> None:
    for share in shares(balance, weights):
        assert 0.7 < share < 1.35


@pytest.mark.parametrize("balance", [*SPREADING, "uri", "maglev uri"])
def test_a_server_on_its_way_up_gets_something_and_not_too_much(balance: str) -> None:
    """A tenth of its weight of 1, which is less than one request in flight: as near as whole requests can come."""
    *usual, rising = shares(balance, (1, 1, 1, 0.1))
    assert 0.1 < rising < 2
    assert all(0.8 < share < 1.2 for share in usual)


@pytest.mark.parametrize("balance", SPREADING)
def test_a_lone_server_gets_everything(balance: str) -> None:
    assert shares(balance, [3]) == [1.0]
