"""`/openapi.json` describes what is there, and what is there does as it says: schemathesis tries it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode

from node.tokens import OPEN, line_of
from tests.conftest import Servers
from tests.http.client import Front, Ledger, request
from tests.http.conftest import running_node
from tests.http.v1.described import BATCH, CHECKS, HTTPS_OWN, NDJSON, asking_as_described, described_by, told_by

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

ELSEWHERE = "tally_elsewhere"  # a token that is good in one namespace only
EXAMPLES = 12  # of each route
ADD, COUNTER = "/v1/{ns}/increments", "/v1/{ns}/counters/{key}"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
STREAM = "/v1/{ns}/counters/{key}/watch"  # never ends: it is tried in test_watch.py


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_route_does_as_it_is_described(fronts: tuple[dict[str, Front], Front, str], mode: GenerationMode) -> None:
    """What is good by the description is answered as it says, and what is not is refused."""
    tried = 0

    def check(case: schemathesis.Case) -> None:
        nonlocal tried
        tried += 1
        case.call_and_validate(checks=CHECKS, timeout=10)

    try_each_route(fronts[0]["node"].port, mode, EXAMPLES, check)
    assert tried > EXAMPLES


def try_each_route(port: int, mode: GenerationMode, examples: int, check: Callable[[schemathesis.Case], None]) -> None:
    for found in described_by(port).get_all_operations():
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


@pytest.fixture
def ask(fronts: tuple[dict[str, Front], Front, str]) -> Callable[..., Response]:
    """Asks a node, and holds what it answers against what it says of itself."""
    return asking_as_described(fronts[0]["node"].port)


@pytest.mark.parametrize("accept", ["*/*", "application/problem+json"])
def test_the_headers_of_answers_are_described(ask: Callable[..., Response], accept: str) -> None:
    key, accepting = f"headers {len(accept)}", {"Accept": accept}
    body, named = {"key": key, "value": 1}, {**accepting, "Idempotency-Key": key}
    to = {"path_parameters": {"ns": "dist"}, "media_type": "application/json"}
    for replayed in (False, True):
        for path, sent, status in (("/increment", body, 204), (ADD, body, 200), (BATCH, [body], 200)):
            answer = ask("POST", path, body=sent, headers=named, **to)
            assert answer.status_code == status
            assert ("idempotent-replayed" in answer.headers) == replayed
    assert ask("POST", ADD, body={**body, "value": 2}, headers=named, **to).status_code == 422
    assert ask("POST", ADD, body={**body, "max": 1}, headers=accepting, **to).status_code == 409
    at = {"path_parameters": {"ns": "dist", "key": key}}
    (tag,) = ask("GET", COUNTER, headers=accepting, **at).headers["etag"]
    assert ask("GET", COUNTER, headers={**accepting, "If-None-Match": tag}, **at).status_code == 304


@pytest.mark.parametrize("kind", ["application/json", NDJSON])
@pytest.mark.parametrize("prefer", ["return=minimal", None])
def test_a_batch_is_described_in_both_its_forms(ask: Callable[..., Response], kind: str, prefer: str | None) -> None:
    headers = {"Prefer": prefer} if prefer else {}
    items = [{"key": f"{kind} {prefer}", "value": value} for value in (2, -2)]
    answer = ask("POST", BATCH, path_parameters={"ns": "elsewhere"}, body=items, media_type=kind, headers=headers)
    told = answer.json()
    assert (told["counted"], told["refused"]) == (1, 1)
    assert ("results" in told) == (prefer is None)


@pytest.mark.parametrize("member", ["key", "idempotency_key"])
def test_an_item_may_be_as_long_as_is_described(
    ask: Callable[..., Response], fronts: tuple[dict[str, Front], Front, str], member: str
) -> None:
    schema = told_by(fronts[0]["node"].port)["components"]["schemas"]["Item"]["properties"][member]
    longest = next(each["maxLength"] for each in schema.get("anyOf", [schema]) if "maxLength" in each)
    for length, counted in ((longest, 1), (longest + 1, 0)):
        item = {"key": "k", "value": 0, member: "x" * length}
        told = ask("POST", BATCH, path_parameters={"ns": "dist"}, body=[item], media_type="application/json").json()
        assert (told["counted"], told["refused"]) == (counted, 1 - counted)


def test_who_asks_too_often_is_answered_as_described(
    servers: Servers, fronts: tuple[dict[str, Front], Front, str], tmp_path: Path
) -> None:
    with running_node(servers, fronts[2], tmp_path / "node.log", node="limited", rate_limit="1/60s") as port:
        ask = asking_as_described(port)
        for status in (404, 429):
            answer = ask("GET", COUNTER, path_parameters={"ns": "dist", "key": "nothing"})
            assert answer.status_code == status
        assert int(answer.headers["retry-after"][0]) >= 1


async def test_a_method_that_is_not_there_is_answered_as_described(
    fronts: tuple[dict[str, Front], Front, str],
) -> None:
    front = fronts[0]["node"]
    told = told_by(front.port)
    described = told["components"]["responses"]["MethodNotAllowed"]["headers"]
    for path, methods in told["paths"].items():
        for method in METHODS:
            if method.lower() in methods or (path, method) == ("/v1/{ns}/counters/read", "GET"):  # a counter
                continue
            answer = await front.ask(request(method, path.format(ns="dist", key="k"), Connection="close"))
            assert answer.status == 405, (method, path)
            assert answer.headers.keys() - HTTPS_OWN <= {name.lower() for name in described}
            allowed = set(answer.headers["allow"].split(", "))
            assert {each.upper() for each in methods} <= allowed, (path, allowed)
            assert method not in allowed


async def test_a_stream_has_the_headers_that_are_described(fronts: tuple[dict[str, Front], Front, str]) -> None:
    front = fronts[0]["node"]
    answer = await front.ask(request("HEAD", STREAM.format(ns="dist", key="k")))
    described = told_by(front.port)["paths"][STREAM]["get"]["responses"][str(answer.status)]
    assert list(described["content"]) == [answer.headers["content-type"]]
    for name, header in described["headers"].items():
        assert answer.headers.pop(name.lower()) in header["schema"]["enum"]
    assert not answer.headers.keys() - HTTPS_OWN


async def test_the_headers_of_requests_are_described(fronts: tuple[dict[str, Front], Front, str]) -> None:
    told = told_by(fronts[0]["node"].port)
    found = {
        (path, parameter["name"])
        for path, methods in told["paths"].items()
        for operation in methods.values()
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    assert found == {
        ("/increment", "Idempotency-Key"),
        (ADD, "Idempotency-Key"),
        (BATCH, "Idempotency-Key"),
        (BATCH, "Prefer"),
        (COUNTER, "If-None-Match"),
        (f"{COUNTER}/reset", "Idempotency-Key"),
    }
