"""The harness for policies, and what it shows of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from lbservice.testing import Fault, PickInfo, Policy, PolicyHarness, Report, Server, SimServer

HOME = Path(__file__).parent.parent


def servers(count: int, **how: float) -> list[SimServer]:
    return [SimServer(f"s{number}", **how) for number in range(1, 1 + count)]  # type: ignore[arg-type] # as they are named


class TestTheHarness:
    def test_the_same_seed_gives_the_same_minute(self) -> None:
        def report(seed: int) -> Report:
            return PolicyHarness("random", servers(3), seed=seed).run(rate=50, seconds=20)

        assert report(1) == report(1)
        assert report(1) != report(2)

    def test_requests_come_at_the_rate_and_take_their_time(self) -> None:
        report = PolicyHarness("roundrobin", servers(4, seconds=0.1)).run(rate=100, seconds=60)
        assert report.requests == pytest.approx(6000, rel=0.05)
        assert report.failed == 0
        assert report.p50 == pytest.approx(0.0693, rel=0.05), "the median of an exponential distribution"
        assert report.p99 == pytest.approx(0.46, rel=0.1)
        assert sum(report.shares.values()) == pytest.approx(1)

    def test_what_exceeds_the_workers_waits_in_the_server(self) -> None:
        free = PolicyHarness("roundrobin", servers(1, seconds=0.1)).run(rate=9, seconds=200)
        one = PolicyHarness("roundrobin", servers(1, seconds=0.1, workers=1)).run(rate=9, seconds=200)
        assert free.p50 < 0.08
        assert one.p50 > 0.3, "a queue that is nine tenths full"

    def test_what_exceeds_maxconn_waits_before_them(self) -> None:
        harness = PolicyHarness("roundrobin", servers(2, seconds=0.1, maxconn=1))
        most = 0
        take = harness.backend.acquire

        def acquire(*args: object, **how: object) -> object:
            nonlocal most
            lease = take(*args, **how)  # type: ignore[arg-type] # as they came
            most = max(most, *(server.in_flight for server in harness.backend))
            return lease

        harness.backend.acquire = acquire  # type: ignore[method-assign,assignment] # to look over its shoulder
        report = harness.run(rate=18, seconds=100)
        assert most == 1
        assert report.p50 > 0.2
        assert harness.backend.waiting == harness.backend.in_flight == 0

    def test_a_server_that_refuses_is_retried_elsewhere(self) -> None:
        broken = [SimServer("s1", faults=(Fault(0, 60),)), *servers(3)[1:]]
        assert PolicyHarness("roundrobin", broken).run(rate=20).failed == 0
        assert PolicyHarness("roundrobin", broken, retries=0).run(rate=30).failed == pytest.approx(600, rel=0.15)

    def test_a_server_that_answers_with_errors_is_not(self) -> None:
        broken = [SimServer("s1", faults=(Fault(10, 20, status=503),)), *servers(4)[1:]]
        report = PolicyHarness("roundrobin", broken).run(rate=40)
        assert report.failed == pytest.approx(100, rel=0.2)

    def test_recovery_is_when_half_the_share_is_reached(self) -> None:
        class Grudge(Policy):
            """Leaves s1 alone for so long after its fault."""

            def __init__(self, seconds: object) -> None:
                self.seconds = seconds

            def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
                now = self.seconds()  # type: ignore[operator] # a call
                return candidates[0 if not 10 < now < 25 and int(now * 1000) % 2 else 1]

        broken = [SimServer("s1", faults=(Fault(10, 20, slower=2),)), SimServer("s2")]
        report = PolicyHarness(Grudge, broken).run(rate=50, seconds=40)
        assert report.recovery == {"s1": 5.0}
        assert 15 <= report.starved["s1"] < 16
        assert report.starved["s2"] < 2
        assert "s1" in str(report)
        assert "recovered after 5 s" in str(report)
        assert PolicyHarness(Grudge, broken).run(rate=50, seconds=22).recovery == {"s1": None}

    def test_a_policy_that_raises_is_not_held_in_check_here(self) -> None:
        class Wrong(Policy):
            def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            PolicyHarness(Wrong, servers(2)).run(rate=10, seconds=5)


def test_the_example_in_the_docs_works_and_says_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (HOME / "docs" / "policies.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 2
    module, test = blocks
    (tmp_path / "mypolicies.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, object] = {}
    exec(test, namespace)
    (function,) = (value for name, value in namespace.items() if name.startswith("test_"))
    function()  # type: ignore[operator] # it is one


class TestOurPolicies:
    """What docs/algorithms.md says of them, in rough numbers."""

    LOAD = [
        "leastconn",
        "random",
        "least-time",
        "peak-ewma",
    ]

    @pytest.mark.parametrize("balance", [*LOAD, "roundrobin"])
    def test_nobody_starves_among_equals(self, balance: str) -> None:
        report = PolicyHarness(balance, servers(8, workers=4)).run(rate=400, seconds=30)
        assert max(report.starved.values()) < 1.5
        assert all(0.09 < share < 0.16 for share in report.shares.values()), report

    @pytest.mark.parametrize("balance", LOAD)
    def test_a_slow_server_slows_few(self, balance: str) -> None:
        scene = [SimServer("slow", seconds=0.5, workers=4), *servers(8, workers=4)[1:]]
        blind = PolicyHarness("roundrobin", scene).run(rate=300, seconds=30)
        seeing = PolicyHarness(balance, scene).run(rate=300, seconds=30)
        assert seeing.p99 < 0.5 * blind.p99
        assert seeing.shares["slow"] < 0.06

    @pytest.mark.parametrize("balance", LOAD)
    def test_one_that_fails_fast_attracts_nothing_and_comes_back(self, balance: str) -> None:
        scene = [SimServer("bad", workers=4, faults=(Fault(10, 20, status=503),)), *servers(8, workers=4)[1:]]
        report = PolicyHarness(balance, scene).run(rate=300, seconds=60)
        assert report.failed < 0.01 * report.requests
        recovered = report.recovery["bad"]
        assert recovered is not None
        assert recovered <= 15
