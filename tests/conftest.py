"""How tests share a machine with `pytest -n 3`: what measures runs one after the other, all others beside it.

Groups start in this order, so that the workers end together: what measures, then the other system tests, a group for
each file, those that take longest first, and last the small tests, one by one as workers are free.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from xdist.scheduler import LoadScopeScheduling

SYSTEM = "tests/system/test_"
MEASURE = ("balance", "chaos", "failover", "policies", "server_faults", "slow_clients", "survival", "workers")
"""System tests that expect times and shares of requests, and would disturb each other."""
LONG = ("client_aborts", "cli", "manhole", "splice", "bulk", "process", "checks", "api_described")
"""Other system tests, the longest first. The order only saves time."""


def group(nodeid: str) -> str:
    """Tests of a group run one after the other."""
    folder, _, rest = nodeid.partition(SYSTEM)
    if folder or not rest:
        return nodeid
    return "measures" if rest.startswith(MEASURE) else nodeid.partition("::")[0]


def place(item: pytest.Item) -> int:
    """The lower, the earlier."""
    its = group(item.nodeid)
    if its == item.nodeid:
        return len(LONG) + 1
    if its == "measures":
        return -1
    name = its.removeprefix(SYSTEM).removesuffix(".py")
    return LONG.index(name) if name in LONG else len(LONG)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only where the work is shared."""
    if hasattr(config, "workerinput"):
        items.sort(key=place)


class WhatMeasuresIsAlone(LoadScopeScheduling):
    """One worker gets all that measures, the others the rest. (xdist 3.8 finds no groups with pytest 9.2.)"""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WhatMeasuresIsAlone:
    """Asked by xdist."""
    return WhatMeasuresIsAlone(config, log)


@pytest.fixture(autouse=True, scope="module")
def what_stays() -> None:
    """The collector, which many tests ask, need not look again and again at what was there before their module."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def no_heap_of_a_balancer() -> Iterator[None]:
    """A balancer that starts in this process collects, but freezes nothing: a test's heap is not for ever."""
    with patch("lbservice.services.balancer.gc", SimpleNamespace(collect=gc.collect, freeze=lambda: None)):
        yield
