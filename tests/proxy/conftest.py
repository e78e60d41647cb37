"""Each test of the proxy gets a house, which must be empty and silent at the end."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.support.house import House


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[list[LogEvent]]:
    """What was logged as an error; a test that expects some takes them out."""
    errors: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.error or event.get("isError"):
            errors.append(event)

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield errors
    gc.collect()  # a Deferred that failed unheard says so now
    globalLogPublisher.removeObserver(observer)
    assert [event.get("log_failure") or event.get("failure") or event for event in errors] == []


@pytest.fixture(params=["epoll", "fast", "general", "ruled"])
def paths(request: pytest.FixtureRequest) -> str:
    """Every test of a house runs with all fast paths, with those that any reactor allows, and with none.

    And with rules of the frontend, which make other protocols, but change nothing.
    """
    return str(request.param)


@pytest.fixture
def make_house(paths: str) -> Iterator[Callable[..., House]]:
    """House, torn down at the end."""
    houses: list[House] = []

    def make(*args: Any, **kwargs: Any) -> House:
        turns = paths in ("epoll", "ruled")
        houses.append(House(*args, fast=paths != "general", turns=turns, ruled=paths == "ruled", **kwargs))
        return houses[-1]

    yield make
    for house in houses:
        house.tear_down()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    """An http frontend with one server, `s1`."""
    return make_house()
