"""The running API does what /v1/openapi.json says: schemathesis asks, with values that fit and values that do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from lbservice.admin.api.openapi import document
from tests.support.admin import AdminClient
from tests.support.processes import Balancer, free_port

pytestmark = pytest.mark.system

EXAMPLES = 10
"""Of each operation."""
INI = """
[admin]
listen = 127.0.0.1:{admin}
[frontend web]
listen = 127.0.0.1:{port}
backend = app
[backend app]
check = none
server s1 = 127.0.0.1:9001
server s2 = 127.0.0.1:9002
"""
DESCRIBED = document() | {
    "paths": {path: item for path, item in document()["paths"].items() if path != "/v1/events"}  # it does not end
}
_FOUND: Any = schemathesis.openapi.from_dict(DESCRIBED).get_all_operations()
OPERATIONS = [found.ok() for found in _FOUND]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    admin = free_port()
    with Balancer(tmp_path_factory.mktemp("api"), INI.format(admin=admin, port=free_port())) as balancer:
        yield f"http://127.0.0.1:{admin}"
        assert AdminClient(admin).ask("GET", "/healthz").status == 200
        assert " fails\n" not in balancer.log()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@pytest.mark.parametrize("kind", ["fitting", "misfits"])
def test_it_does_as_it_is_described(operation: Any, kind: str, url: str) -> None:
    mode = {"fitting": schemathesis.GenerationMode.POSITIVE, "misfits": schemathesis.GenerationMode.NEGATIVE}[kind]
    if kind == "misfits" and not operation.body and not any(True for _ in operation.iter_parameters()):
        pytest.skip("it takes nothing that could be wrong")

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def exercise(case: Any) -> None:
        case.call_and_validate(base_url=url, timeout=10, excluded_checks=[positive_data_acceptance])

    exercise()
