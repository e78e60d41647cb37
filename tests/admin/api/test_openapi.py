"""The description, and that the table has every verb."""

from __future__ import annotations

import inspect
import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from lbservice.admin.api.openapi import document, operation_id
from lbservice.admin.api.route import Level, Route
from lbservice.admin.api.routes import PATH_VALUES, ROUTES
from lbservice.admin.shell import CHANGES, QUESTIONS
from lbservice.services.control import Control
from tests.support.api import ApiHouse

VERBS = {
    name
    for name, method in inspect.getmembers(Control, inspect.isfunction)
    if not name.startswith("_") and name not in {"log"}
}
CHANGING = {name for name in VERBS if "by" in inspect.signature(getattr(Control, name)).parameters}


def test_it_is_valid(api: ApiHouse) -> None:
    described = api.ask("GET", "/v1/openapi.json").json
    assert described == document()
    OpenAPIV31SpecValidator(described).validate()
    assert described["openapi"].startswith("3.1")


def test_every_verb_of_control_has_a_route() -> None:
    assert {route.verb for route in ROUTES} - {""} >= (set(QUESTIONS) | set(CHANGES) | CHANGING)


def test_what_changes_something_is_no_get() -> None:
    for route in ROUTES:
        assert route.changes == (route.verb in CHANGING), route.path


@pytest.mark.parametrize("route", ROUTES, ids=operation_id)
def test_a_route_has_its_values_and_its_level(route: Route) -> None:
    assert set(re.findall(r"\{(\w+)\}", route.path)) <= PATH_VALUES.keys()
    assert route.level is Level.ANYBODY or route.path.startswith("/v1/")
    assert not route.changes or route.level >= Level.OPERATOR


def test_no_two_routes_are_the_same() -> None:
    assert len({operation_id(route) for route in ROUTES}) == len(ROUTES)
