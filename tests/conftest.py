"""How tests share a machine: `pytest -n 2` runs the system tests one after the other, and all others beside them."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class SystemTestsTogether(LoadScopeScheduling):
    """One worker gets all system tests, which want a core each. (xdist 3.8 finds no groups with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        return "system" if nodeid.startswith("tests/system/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SystemTestsTogether:
    """Asked by xdist."""
    return SystemTestsTogether(config, log)
