"""Each row plays in a house of the proxy's tests, which must be empty and silent at the end."""

from __future__ import annotations

import pytest

from tests.proxy.conftest import logged_errors, make_house

__all__ = ["logged_errors", "make_house"]


@pytest.fixture
def paths() -> str:
    """What is valid does not depend on how bytes are moved."""
    return "epoll"
