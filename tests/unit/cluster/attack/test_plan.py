"""What is sent when."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from cluster.attack.plan import DIGITS, POWERS, Plan


def plan(rate: float = 100, duration_s: float = 10, keys: int = 3, digits: float = 0.3, seed: int = 1) -> Plan:
    return Plan(rate, duration_s, keys, digits, "run", seed)


def test_the_same_seed_gives_the_same_plan() -> None:
    assert list(plan()) == list(plan())
    assert list(plan()) != list(plan(seed=2))


def test_requests_are_spread_evenly_over_the_time() -> None:
    times = [increment.at_s for increment in plan(rate=50, duration_s=2)]
    assert times == [pytest.approx(i / 50) for i in range(100)]


def test_no_idempotency_key_is_used_twice() -> None:
    assert max(Counter(increment.idempotency_key for increment in plan()).values()) == 1


def test_a_digit_key_takes_each_power_of_eight_at_most_once() -> None:
    sent = defaultdict(list)
    for increment in plan(digits=0.5):
        if increment.digit:
            sent[increment.key].append(increment.value)
    full = [values for values in sent.values() if len(values) == DIGITS]
    assert len(full) >= len(sent) - 1
    assert all(sorted(values) == list(POWERS) for values in full)
    assert max(POWERS) * 7 < 2**53


def test_plain_keys_take_increments_of_one_and_are_as_many_as_asked_for() -> None:
    plain = [increment for increment in plan() if not increment.digit]
    assert {increment.value for increment in plain} == {1}
    assert {increment.key for increment in plain} == {"attack-run-0", "attack-run-1", "attack-run-2"}


def test_with_no_plain_key_every_request_is_on_a_digit_key() -> None:
    assert all(increment.digit for increment in plan(keys=0, digits=0.0))


@pytest.mark.parametrize(("rate", "duration_s"), [(0.01, 1), (1e6, 1e6), (float("nan"), 1)])
def test_nothing_to_send_or_too_much_is_refused(rate: float, duration_s: float) -> None:
    with pytest.raises(ValueError, match="requests"):
        plan(rate=rate, duration_s=duration_s)
