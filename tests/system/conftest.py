"""What the system tests share: a bound for each of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from tests.support.processes import Server, http_servers


@pytest.fixture
def longest() -> int:
    """Seconds that a system test may take."""
    return 60


@pytest.fixture(autouse=True)
def bounded(longest: int) -> Iterator[None]:
    """A test that hangs fails, so that its processes are ended."""

    def expired(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the test has run for {longest} seconds")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(longest)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def servers() -> Iterator[tuple[Server, ...]]:
    """Three http servers: s1, s2 and s3."""
    with http_servers() as three:
        yield three


@pytest.fixture(scope="session", params=["", "splice = off\nwrite-through = off\n"], ids=["fast", "general"])
def paths(request: pytest.FixtureRequest) -> str:
    """For `lb_ini(top=...)`: the balancer with its fast paths, and without."""
    return f"[loadbalancer]\n{request.param}"
