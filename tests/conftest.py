"""How tests share a machine: `pytest -n 2` runs the system tests one after the other, and all others beside them."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Not `pytest_collection_modifyitems`: there, xdist has read the groups before."""
    if item.get_closest_marker("system"):
        item.add_marker(pytest.mark.xdist_group("system"))
