"""The audit, fed with bad histories: it must flag each, and nothing else."""

from __future__ import annotations

import random

import pytest

from cluster.attack.audit import History, Outcome, audit
from cluster.attack.plan import POWERS

ACK, REFUSED, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN


def plain(*outcomes: Outcome) -> History:
    history = History()
    for outcome in outcomes:
        history.add("p", 1, outcome, digit=False)
    return history


def named(*outcomes: Outcome) -> History:
    """Increment number i is 8^i."""
    history = History()
    for value, outcome in zip(POWERS, outcomes, strict=False):
        history.add("d", value, outcome, digit=True)
    return history


@pytest.mark.parametrize("value", [2, 3, 4])
def test_an_increment_of_unknown_outcome_may_count_or_not(value: int) -> None:
    assert audit(plain(ACK, ACK, UNKNOWN, UNKNOWN, REFUSED), {"p": value}).exact


def test_a_lost_increment_is_found() -> None:
    verdict = audit(plain(ACK, ACK, ACK, UNKNOWN), {"p": 1})
    assert (verdict.lost, verdict.doubled) == (2, 0)


def test_a_doubled_increment_is_found() -> None:
    verdict = audit(plain(ACK, ACK, UNKNOWN), {"p": 5})
    assert (verdict.lost, verdict.doubled) == (0, 2)


def test_a_refused_increment_that_counted_is_found() -> None:
    assert audit(plain(REFUSED), {"p": 1}).doubled == 1


def test_a_key_that_is_not_there_lost_everything() -> None:
    assert audit(plain(ACK, ACK), {}).lost == 2
    assert audit(plain(REFUSED, UNKNOWN), {}).exact


def test_digits_name_what_was_lost_and_what_was_doubled_on_one_key() -> None:
    verdict = audit(named(ACK, ACK, ACK), {"d": 2 * POWERS[0] + POWERS[2]})
    assert (verdict.counted, verdict.lost, verdict.doubled) == (3, 1, 1)
    detail = verdict.findings[0].detail
    assert detail == "8^0 (acknowledged) counted 2 times; 8^1 (acknowledged) counted 0 times"


def test_a_loss_and_a_double_that_cancel_out_over_keys_are_both_found() -> None:
    history = History()
    for key in ("a", "b"):
        for _ in range(3):
            history.add(key, 1, ACK, digit=False)
    verdict = audit(history, {"a": 2, "b": 4})
    assert verdict.counted == 6
    assert (verdict.lost, verdict.doubled) == (1, 1)


@pytest.mark.parametrize(("outcome", "allowed"), [(ACK, {1}), (UNKNOWN, {0, 1}), (REFUSED, {0})])
def test_each_digit_is_held_to_its_outcome(outcome: Outcome, allowed: set[int]) -> None:
    for times in range(4):
        verdict = audit(named(ACK, outcome), {"d": POWERS[0] + times * POWERS[1]})
        assert verdict.exact == (times in allowed)


def test_an_increment_that_was_never_sent_is_found() -> None:
    verdict = audit(named(ACK), {"d": POWERS[0] + POWERS[5]})
    assert verdict.doubled == 1
    assert "never sent" in verdict.findings[0].detail


def test_the_highest_digit_may_be_any_number() -> None:
    outcomes = [ACK] * len(POWERS)
    assert audit(named(*outcomes), {"d": sum(POWERS)}).exact
    assert audit(named(*outcomes), {"d": sum(POWERS) + 9 * POWERS[-1]}).doubled == 9


def test_a_sum_from_one_key_under_another_is_found_on_both() -> None:
    history = History()
    history.add("a", POWERS[3], ACK, digit=True)
    history.add("b", POWERS[4], ACK, digit=True)
    verdict = audit(history, {"a": POWERS[4], "b": POWERS[3]})
    assert {finding.key for finding in verdict.findings} == {"a", "b"}
    assert (verdict.lost, verdict.doubled) == (2, 2)


@pytest.mark.parametrize("value", [3, 0, 16, POWERS[0]])
def test_a_digit_key_takes_only_new_powers(value: int) -> None:
    with pytest.raises(ValueError, match="no new power"):
        named(ACK).add("d", value, ACK, digit=True)


def test_every_single_wrong_count_in_random_histories_is_found() -> None:
    chance = random.Random(3)
    for _ in range(300):
        outcomes = [chance.choice(list(Outcome)) for _ in POWERS]
        times = [1 if o is ACK else chance.randint(0, 1) if o is UNKNOWN else 0 for o in outcomes]
        value = sum(t * power for t, power in zip(times, POWERS, strict=True))
        assert audit(named(*outcomes), {"d": value}).exact
        place = chance.randrange(len(POWERS))
        wrong = -1 if outcomes[place] is ACK and chance.random() < 0.5 else 2 - times[place]
        assert not audit(named(*outcomes), {"d": value + wrong * POWERS[place]}).exact
