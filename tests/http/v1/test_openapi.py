"""`/openapi.json` describes what is there, and what is there does as it says: schemathesis tries it."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.http.client import Front, request

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

EXAMPLES = 12  # of each route
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
NOT_HERE = [("/v1/{ns}/increments/batch", negative_data_rejection)]  # its items are refused one by one
STREAM = "/v1/{ns}/counters/{key}/watch"  # never ends: it is tried in test_watch.py


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_route_does_as_it_is_described(fronts: tuple[dict[str, Front], Front, str], mode: GenerationMode) -> None:
    """What is good by the description is answered as it says, and what is not is refused."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{fronts[0]['node'].port}/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == STREAM:
            continue

        @given(operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        )
        def check(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=[each for each in CHECKS if (case.path, each) not in NOT_HERE], timeout=10)

        try:
            check()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, f"{operation.label}: there is nothing that it takes"
    assert tried > EXAMPLES


async def test_every_v1_route_is_described(fronts: tuple[dict[str, Front], Front, str]) -> None:
    for front in fronts[0].values():
        answer = await front.ask(request("GET", "/openapi.json"))
        assert answer.status == 200
        told = json.loads(answer.body)
        assert {(method, path) for path, methods in told["paths"].items() for method in methods} == {
            ("post", "/increment"),
            ("get", "/increment/{key}"),
            ("post", "/v1/{ns}/increments"),
            ("post", "/v1/{ns}/increments/batch"),
            ("get", "/v1/{ns}/counters"),
            ("post", "/v1/{ns}/counters/read"),
            ("get", "/v1/{ns}/counters/{key}"),
            ("post", "/v1/{ns}/counters/{key}/reset"),
            ("get", "/v1/{ns}/counters/{key}/history"),
            ("get", STREAM),
            ("get", "/v1/{ns}/receipts"),
            ("get", "/livez"),
            ("get", "/readyz"),
        }
        names = [operation["operationId"] for methods in told["paths"].values() for operation in methods.values()]
        assert len(set(names)) == len(names)
        for methods in told["paths"].values():
            for operation in methods.values():
                assert operation["summary"]
