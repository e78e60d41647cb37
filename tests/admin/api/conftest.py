from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.fakes import FakeControl
from tests.support.api import ApiHouse


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def api(control: FakeControl) -> Iterator[ApiHouse]:
    """On loopback, without tokens."""
    house = ApiHouse(control)
    yield house
    house.close()
