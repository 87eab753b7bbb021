"""`/openapi.json` describes what is there, and what is there does as it says: schemathesis tries it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

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

from node.tokens import OPEN, line_of
from tests.conftest import Servers
from tests.http.client import Front, Ledger, request
from tests.http.conftest import running_node

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

ELSEWHERE = "tally_elsewhere"  # a token that is good in one namespace only
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
    tried = 0

    def check(case: schemathesis.Case) -> None:
        nonlocal tried
        tried += 1
        case.call_and_validate(checks=[each for each in CHECKS if (case.path, each) not in NOT_HERE], timeout=10)

    try_each_route(fronts[0]["node"].port, mode, EXAMPLES, check)
    assert tried > EXAMPLES


def try_each_route(port: int, mode: GenerationMode, examples: int, check: Callable[[schemathesis.Case], None]) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == STREAM:
            continue
        limits = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        )
        try:
            limits(given(operation.as_strategy(generation_mode=mode))(check))()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, f"{operation.label}: there is nothing that it takes"


@pytest.fixture(scope="module")
def guarded(
    servers: Servers, fronts: tuple[dict[str, Front], Front, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of one more node, which asks for tokens."""
    log = tmp_path_factory.mktemp("guarded") / "node.log"
    tokens = line_of(ELSEWHERE, ["admin"], ["elsewhere"])
    with running_node(servers, fronts[2], log, node="guarded", tokens=tokens) as port:
        yield port


@pytest.mark.parametrize(("token", "status"), [("unknown", 401), (ELSEWHERE, 403)], ids=["unknown", "elsewhere"])
def test_who_may_not_is_answered_as_it_is_described(guarded: int, token: str, status: int) -> None:
    statuses = set()

    def check(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {token}"}, timeout=10)
        case.validate_response(answer, checks=CHECKS)
        if case.path not in OPEN:
            statuses.add(answer.status_code)

    try_each_route(guarded, GenerationMode.POSITIVE, 3, check)
    assert statuses == {status}


async def test_tokens_are_described_where_they_are_needed(
    guarded: int, fronts: tuple[dict[str, Front], Front, str]
) -> None:
    for port, needed in ((guarded, {"401", "403"}), (fronts[0]["node"].port, set())):
        told = json.loads((await Front("node", port, Ledger()).ask(request("GET", "/openapi.json"))).body)
        assert ("securitySchemes" in told["components"]) == bool(needed)
        for path, methods in told["paths"].items():
            for operation in methods.values():
                here = set() if path in OPEN else needed
                assert operation["responses"].keys() & {"401", "403"} == here
                assert ("security" in operation) == bool(here)


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
