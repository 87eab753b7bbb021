"""What is sent, and what wrk's answer is taken for."""

from __future__ import annotations

import itertools
import json

import pytest

from cluster.bench.load import ID, KEY, Load, LoadFailed, parse_wrk, wrk_script
from cluster.bench.rows import batch, get, post

HOST = "127.0.0.1:1"


def told(**changes: object) -> str:
    failed = dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0) | changes.pop("failed", {})  # type: ignore[operator]
    return "noise\nTALLY " + json.dumps({"completed": 500, "us": 2_000_000, "p99_us": 1500, "failed": failed} | changes)


def test_content_length_is_that_of_the_body_with_its_key_and_ids() -> None:
    for load in (post(1000, ids=True), batch(ids=True, size=7), batch(ids=False, size=3)):
        request = next(load.requests(HOST))
        head, _, body = request.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert KEY.encode() not in request
        assert ID.encode() not in request


def test_every_request_has_an_id_of_its_own_and_its_key_in_turn() -> None:
    first, second, third = itertools.islice(post(2, ids=True).requests(HOST), 3)
    ids = {line for request in (first, second, third) for line in request.split(b"\r\n") if b"Idempotency-Key" in line}
    assert len(ids) == 3
    assert b"k0000000" in first
    assert b"k0000001" in second
    assert b"k0000000" in third


def test_every_item_of_a_batch_has_an_id_of_its_own() -> None:
    load = batch(ids=True, size=50)
    bodies = [request.partition(b"\r\n\r\n")[2] for request in itertools.islice(load.requests(HOST), 2)]
    items = [item for body in bodies for item in json.loads(body)]
    assert len({item["idempotency_key"] for item in items}) == 100


def test_one_key_without_ids_is_a_request_that_wrk_sends_without_asking_lua() -> None:
    script = wrk_script(post(), HOST)
    assert "request = function" not in script
    assert 'wrk.body="{\\"key\\":\\"k0000000\\",\\"value\\":1}"' in script


def test_a_thousand_keys_are_built_before_the_measurement() -> None:
    assert "ready[n]" in wrk_script(get(), HOST)
    assert "ready[n]" not in wrk_script(post(1000, ids=True), HOST)


def test_a_rate_is_answers_over_time_times_increments_in_each() -> None:
    sample = parse_wrk(told(), weight=1000)
    assert (sample.completed, sample.figure, sample.p99_ms) == (500, 250_000, 1.5)


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_a_measurement_with_errors_gives_no_rate(kind: str) -> None:
    with pytest.raises(LoadFailed, match=kind):
        parse_wrk(told(failed={kind: 1}))


def test_a_peer_may_fail_some_requests_which_are_told_and_in_no_figure() -> None:
    sample = parse_wrk(told(failed={"timeout": 2, "status": 100}), may_fail=True)
    assert (sample.completed, sample.figure, sample.failed) == (400, 200, 102)
    with pytest.raises(LoadFailed, match="status"):
        parse_wrk(told(failed={"status": 500}), may_fail=True)


def test_a_measurement_without_answers_gives_no_rate() -> None:
    with pytest.raises(LoadFailed, match="no answer"):
        parse_wrk(told(completed=0))
    with pytest.raises(LoadFailed, match="no result"):
        parse_wrk("unable to connect")


def test_the_request_is_whole() -> None:
    load = Load("GET", f"/GET/{KEY}", keys=1)
    assert load.template("h:1") == "GET /GET/{key} HTTP/1.1\r\nHost: h:1\r\n\r\n"
