"""What is done with the calls in flight after an error."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.call import Call, Windows, form_call
from node.errors import LogGap, LogRefused, LogUnavailable, LogUnrepaired
from node.stock import Stock, take_stock


def calls(count: int) -> list[Call]:
    return [form_call(number + 1, deque(), 8, Windows()) for number in range(count)]


def stock(flight: list[Call], *errors: BaseException | None, all_answered: bool = True) -> Stock:
    return take_stock(flight, dict(zip(flight, errors, strict=True)), all_answered)


def test_a_refused_call_and_those_after_it_were_not_run() -> None:
    first, second = flight = calls(2)
    found = stock(flight, refusal := LogRefused("OOM"), LogGap())
    assert (found.usable, list(found.refused), found.refusal) == (True, [first, second], refusal)
    found = stock(flight, None, refusal)
    assert (found.usable, list(found.refused), found.refusal) == (True, [second], refusal)


def test_a_call_in_doubt_stays_whatever_is_answered() -> None:
    first, second = flight = calls(2)
    first.in_doubt = True
    assert list(stock(flight, LogRefused(), LogGap()).refused) == [second]
    assert list(stock(flight, LogRefused(), None).refused) == []


def test_while_one_has_no_answer_all_are_in_doubt() -> None:
    flight = calls(2)
    found = stock(flight, LogRefused(), None, all_answered=False)
    assert (found.usable, list(found.in_doubt), list(found.refused)) == (False, flight, [])
    found = stock(flight, LogUnavailable(), LogUnavailable())
    assert (found.usable, list(found.in_doubt), list(found.refused)) == (False, flight, [])


@pytest.mark.parametrize("error", [LogGap(), LogUnrepaired()])
def test_a_redis_that_has_forgotten_is_come_back_to_and_nothing_is_given_up(error: LogRefused) -> None:
    found = stock(calls(2), error, LogGap())
    assert (found.usable, list(found.refused)) == (False, [])


@given(st.lists(st.sampled_from([None, LogRefused(), LogGap(), LogUnrepaired(), LogUnavailable()]), max_size=4))
def test_what_is_refused_is_the_end_of_the_flight_and_was_not_run(errors: list[BaseException | None]) -> None:
    flight = calls(len(errors))
    refused = list(stock(flight, *errors).refused)
    assert refused == flight[len(flight) - len(refused) :]
    assert not refused or isinstance(errors[len(flight) - len(refused)], LogRefused)
