"""A policy that somebody has written for himself: found, tried, and not able to do harm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from twisted.internet.task import Clock

from lbservice import policies
from lbservice.core.backend import Backend
from lbservice.core.pick import Policy
from lbservice.policies.own import find, try_out
from tests.core.build import GOOD, lease_of, make_backend, make_server

MINE = '''\
"""Policies of somebody's own."""

from lbservice.testing import Policy


class Last(Policy):
    def pick(self, candidates, info):
        return candidates[-1]


class Lucky(Policy):
    def __init__(self, random, seconds):
        self.random, self.seconds = random, seconds

    def pick(self, candidates, info):
        return self.random.choice(candidates)


class Moody(Last):
    """Does as it should, until its mood changes."""

    mood = "good"

    def pick(self, candidates, info):
        if self.mood == "raises":
            return candidates[99]
        if self.mood == "quits":
            raise SystemExit(3)
        if self.mood == "lies":
            return "s1"
        return candidates[-1]

    def learn(self, server, outcome):
        if self.mood == "learns badly":
            raise RuntimeError("learned nothing")

    def failed(self, server, outcome):
        pass


class Demanding(Policy):
    def __init__(self, budget):
        pass

    def pick(self, candidates, info):
        return candidates[0]


class Quitter(Policy):
    def pick(self, candidates, info):
        raise SystemExit(3)


class Wrong(Policy):
    def pick(self, candidates, info):
        return "s1"


class Broken(Policy):
    def pick(self, candidates, info):
        return candidates[0].wieght


class Unfinished(Policy):
    pass


class Greedy(Last):
    wants = "body"


class Stranger:
    pass


Thing = 3
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with the classes above."""
    name = "policies_of_mine"
    (tmp_path / f"{name}.py").write_text(MINE)
    (tmp_path / "broken_module.py").write_text("import sys\nsys.exit('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in (name, "broken_module"):
        sys.modules.pop(module, None)


class TestFinding:
    def test_a_class_that_works(self, mine: str) -> None:
        try_out(f"{mine}:Last")
        assert isinstance(find(f"{mine}:Last", lambda: 0.0, Random(1)), Policy)

    def test_the_constructor_gets_what_it_names(self, mine: str) -> None:
        random, clock = Random(1), Clock()
        policy = find(f"{mine}:Lucky", clock.seconds, random)
        assert policy.random is random  # type: ignore[attr-defined] # a class of the user's
        assert policy.seconds == clock.seconds  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("no_such:Thing", "there is no module no_such; it must be installed, or in the folder of this file"),
            ("broken_module:X", r"importing broken_module fails: SystemExit: no \(broken_module.py:2\)"),
            ("policies_of_mine:Lst", "policies_of_mine has no Lst; did you mean 'Last'?"),
            ("policies_of_mine:Qqqq", "policies_of_mine has no Qqqq$"),
            ("policies_of_mine:Stranger", "Stranger is no policy; derive it from lbservice.testing.Policy"),
            ("policies_of_mine:Greedy", "wants = 'body' is no part of a request; write e.g. wants = "),
            ("policies_of_mine:Thing", "Thing is no policy"),
            ("policies_of_mine:Demanding", "Demanding cannot be made: TypeError: .*missing 1 required.*'budget'"),
            ("policies_of_mine:Unfinished", "Unfinished cannot be made: TypeError: .*abstract"),
            ("policies_of_mine:Quitter", r"a trial with made-up servers fails: SystemExit: 3 \(policies_of_mine.py"),
            ("policies_of_mine:Wrong", "in a trial, pick returned 's1', which is none of the candidates"),
            (
                "policies_of_mine:Broken",
                r"a trial with made-up servers fails: AttributeError: .*'wieght' \(policies_of_mine.py:\d+\)",
            ),
        ],
    )
    def test_what_is_said_of_one_that_does_not(self, mine: str, path: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            try_out(path)


class Held:
    """A backend with the class `Moody`, and what was complained of it."""

    def __init__(self, mine: str) -> None:
        self.clock = Clock()
        self.complaints: list[tuple[str, bool]] = []
        policy = policies.make(
            f"{mine}:Moody", self.clock.seconds, Random(1), complain=lambda *what: self.complaints.append(what)
        )
        self.backend: Backend = make_backend([make_server(f"s{n}") for n in (1, 2, 3)], policy)
        self.theirs = policy._policy  # type: ignore[attr-defined]

    def requests(self, count: int, every: float = 0.0) -> list[str]:
        names = []
        for _ in range(count):
            self.clock.advance(every)
            lease = lease_of(self.backend)
            lease.done(GOOD)
            names.append(lease.server.name)
        return names


class TestHoldingInCheck:
    def test_it_is_asked_as_long_as_it_does_well(self, mine: str) -> None:
        held = Held(mine)
        assert held.requests(50) == ["s3"] * 50
        assert held.complaints == []

    @pytest.mark.parametrize(
        ("mood", "why"),
        [
            ("raises", "IndexError: tuple index out of range (policies_of_mine.py:"),
            ("quits", "SystemExit: 3 (policies_of_mine.py:"),
            ("lies", "pick returned 's1', which is none of the candidates"),
        ],
    )
    def test_when_it_fails_requests_take_turns(self, mine: str, mood: str, why: str) -> None:
        held = Held(mine)
        held.theirs.mood = mood
        assert held.requests(6, every=0.1) == ["s1", "s2", "s3"] * 2
        ((said, given_up),) = held.complaints
        assert said.startswith(why)
        assert not given_up

    def test_it_is_complained_of_once_a_second(self, mine: str) -> None:
        held = Held(mine)
        held.theirs.mood = "lies"
        held.requests(8, every=1.2)
        assert len(held.complaints) == 8
        held.theirs.mood = "good"
        assert held.requests(1, every=10) == ["s3"], "it is still asked"

    def test_after_ten_errors_in_ten_seconds_it_is_given_up(self, mine: str) -> None:
        held = Held(mine)
        held.theirs.mood = "raises"
        held.requests(10, every=0.01)
        assert [given_up for _, given_up in held.complaints] == [False, True]
        held.theirs.mood = "good"
        assert set(held.requests(6, every=100)) == {"s1", "s2", "s3"}
        assert len(held.complaints) == 2
        held.backend.refresh()
        assert "s1" in held.requests(3)

    def test_errors_that_come_seldom_are_forgiven(self, mine: str) -> None:
        held = Held(mine)
        held.theirs.mood = "raises"
        held.requests(30, every=1.2)
        held.theirs.mood = "good"
        assert held.requests(3) == ["s3"] * 3

    def test_what_fails_when_it_learns_fails_no_request(self, mine: str) -> None:
        held = Held(mine)
        assert held.backend.learns
        held.theirs.mood = "learns badly"
        assert held.requests(5, every=2) == ["s3"] * 5
        assert len(held.complaints) == 5
        assert held.complaints[0][0].startswith("RuntimeError: learned nothing")
        assert held.backend.in_flight == 0
