"""From errors and outcomes to answers; the bodies that the wire contract fixes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node import answers, errors
from node.call import Outcome
from node.errors import TallyError


def all_errors(kind: type[TallyError] = TallyError) -> list[type[TallyError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in all_errors(child))]


def test_the_seeds_bodies_are_the_seeds_to_the_byte() -> None:
    assert answers.of_error(errors.BadRequest()).body == b'{"error":{"message":"Bad Request."}}'
    assert answers.of_error(errors.NotFound()).body == b'{"error":{"message":"Not Found."}}'
    assert answers.of_error(errors.TooManyRequests()).body == b'{"error":{"message":"Too Many Requests"}}'


@pytest.mark.parametrize("passed_on", [False, True])
@pytest.mark.parametrize("kind", all_errors(errors.Unavailable), ids=lambda kind: kind.__name__)
def test_a_drivers_words_are_for_the_log_and_not_for_clients(kind: Any, passed_on: bool) -> None:
    error = kind(cause="Redis: Timeout reading from 10.1.2.3:6379")
    told = json.loads(answers.of_error(error, passed_on=passed_on).body)["error"]["message"]
    assert "10.1.2.3" in str(error)
    assert "10.1.2.3" not in told
    assert all(sentence[0].isupper() for sentence in told.split(". ")), "sentences follow each other"
    assert told.endswith(".")


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_an_answer_that_says_something(kind: type[TallyError]) -> None:
    answer = answers.of_error(kind())
    body = json.loads(answer.body)
    assert list(body) == ["error"]
    assert body["error"]["message"]
    assert 400 <= answer.status <= 503
    assert ("X-Content-Type-Options", "nosniff") in answer.headers
    assert ("Retry-After" in dict(answer.headers)) == (answer.status in (429, 503))
    assert ("counted" in body["error"]) == (answer.status == 503)


@pytest.mark.parametrize("kind", all_errors(errors.Unavailable), ids=lambda kind: kind.__name__)
def test_whoever_cannot_answer_now_says_whether_it_was_counted(kind: type[TallyError]) -> None:
    assert answers.status_of(kind()) == 503
    assert json.loads(answers.of_error(kind()).body)["error"]["counted"] in (False, "unknown")


def test_the_nearest_class_in_the_table_decides() -> None:
    class Odd(errors.LogGap):
        """Odd."""

    assert answers.status_of(Odd()) == 503
    assert answers.status_of(type("Below", (errors.Misconfigured,), {})()) == 503
    assert answers.status_of(TallyError()) == 500


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("short_lived", [True, False])
def test_every_outcome_has_an_answer(outcome: Outcome, short_lived: bool) -> None:
    answer = answers.of_outcome(outcome, short_lived)
    told = ("Idempotent-Replayed", "true") in answer.headers
    status = {Outcome.COUNTED: 204, Outcome.REPLAYED: 204, Outcome.OUT_OF_BOUNDS: 409}
    assert answer.status == status.get(outcome, 422)
    assert told == (outcome is Outcome.REPLAYED and not short_lived), "a proxy's retry is none of its client's business"
    assert (answer.body == b"") == (answer.status == 204)


@pytest.mark.parametrize("key", ["a", '"', "\\", "🙂", "e\u0301", "\n\x01\x7f", "</script>", "{}", "\u2028"])
@pytest.mark.parametrize("value", [0, 2**53 - 1, 2**62 + 2**61])
def test_a_value_is_json_and_exact(key: str, value: int) -> None:
    answer = answers.of_value(key, value)
    assert (answer.status, json.loads(answer.body)) == (200, {key: value})


def test_a_plain_value_has_the_contracts_bytes() -> None:
    assert answers.of_value("hello world", 7).body == b'{"hello world":7}'
