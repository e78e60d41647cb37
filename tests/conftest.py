"""How tests share a machine with `pytest -n 3`: what measures runs one after the other, all others beside it."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

MEASURE = ("balance", "chaos", "failover", "policies", "server_faults", "slow_clients", "survival", "workers")
"""System tests that expect times and shares of requests, and would disturb each other."""


class WhatMeasuresIsAlone(LoadScopeScheduling):
    """One worker gets all that measures, another the rest. (xdist 3.8 finds no groups with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        folder, _, rest = nodeid.partition("tests/system/test_")
        if folder or not rest:
            return nodeid
        return "measures" if rest.startswith(MEASURE) else "system"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WhatMeasuresIsAlone:
    """Asked by xdist."""
    return WhatMeasuresIsAlone(config, log)
