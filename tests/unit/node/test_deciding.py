"""What becomes of operations on counters that cannot move meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.call import Outcome
from node.deciding import Operation, Remembered, Ruling, decide, guard_of, operation_of
from node.increment import PLACE, Increment
from node.settlement import FULL
from node.strategy import Bounds, Namespace

A = "shop:a"
NS = Namespace("shop", "sync", 600)


def op(value: int = 1, key: str | None = None, least: int | None = None, most: int | None = None) -> Operation:
    return operation_of(Increment(A, value, key), NS, 60, Bounds(least, most))


def reset(key: str | None = None) -> Operation:
    return operation_of(Increment(A, 0, key), NS, 60, Bounds(), reset=True)


def test_each_operation_sees_the_ones_before() -> None:
    decision = decide([op(2), op(3, "x"), op(3, "x"), op(9, most=10), op(5, most=10), reset("r"), op(1)], {A: 1}, {})
    assert decision.rulings == [
        Ruling(Outcome.COUNTED, 3),
        Ruling(Outcome.COUNTED, 6),
        Ruling(Outcome.REPLAYED, 6),
        Ruling(Outcome.OUT_OF_BOUNDS, 6),
        Ruling(Outcome.OUT_OF_BOUNDS, 6),
        Ruling(Outcome.COUNTED, 6),
        Ruling(Outcome.COUNTED, 1),
    ]
    assert decision.sums == {A: 0}
    assert [each.amount for each in decision.counted] == [2, 3, -6, 1]
    assert [each.remembered for each in decision.counted] == [2, 3, 6, 1]


def test_what_is_kept_of_a_batchs_key_is_the_key_that_its_client_gave() -> None:
    one, other = op(key="order" + PLACE + "0"), op(key="order" + PLACE + "1")
    assert one.idempotency_key == other.idempotency_key == "order"
    assert one.guard != other.guard


def test_what_is_refused_makes_no_counter_known() -> None:
    decision = decide([op(5, most=4), reset(), op(0, least=1)], {A: None}, {})
    refused = Ruling(Outcome.OUT_OF_BOUNDS, None)
    assert decision.rulings == [refused, Ruling(None, None), refused]
    assert (decision.sums, decision.counted) == ({}, [])
    assert decide([op(0)], {A: None}, {}).sums == {A: 0}


def test_a_key_tells_increments_from_resets() -> None:
    increment, taken = guard_of(Increment(A, 0, "x")), guard_of(Increment(A, 0, "r"))
    remembered = {increment: Remembered(5, False), taken: Remembered(5, True)}
    decision = decide([op(5, "x"), op(6, "x"), reset("x"), op(5, "r"), reset("r")], {A: 9}, remembered)
    assert [ruling.outcome for ruling in decision.rulings] == [
        Outcome.REPLAYED,
        Outcome.MISMATCH,
        Outcome.MISMATCH,
        Outcome.MISMATCH,
        Outcome.REPLAYED,
    ]
    assert decision.rulings[-1].number == 5
    assert decision.rulings[0].number == 9


def test_a_full_counter_takes_nothing_but_gives() -> None:
    for total in (FULL, -FULL):
        decision = decide([op(1), op(-1), op(0), reset(), op(1)], {A: total}, {})
        full = Ruling(Outcome.FULL, total)
        assert decision.rulings == [full, full, full, Ruling(Outcome.COUNTED, total), Ruling(Outcome.COUNTED, 1)]


def test_a_request_id_guards_its_proxys_retries_only() -> None:
    mine, proxys = Increment(A, 1, "x"), Increment(A, 1, "x", short_lived=True)
    assert guard_of(mine) != guard_of(proxys)
    assert guard_of(mine) != guard_of(Increment("shop:b", 1, "x"))
    kept, passing = operation_of(mine, NS, 60, Bounds()), operation_of(proxys, NS, 60, Bounds())
    assert (kept.window_s, kept.idempotency_key) == (600, "x")
    assert (passing.window_s, passing.idempotency_key) == (60, None)


@given(
    st.lists(
        st.tuples(
            st.integers(-9, 9), st.sampled_from([None, "x", "y", "z"]), st.booleans(), st.none() | st.integers(-9, 9)
        )
    ),
    st.none() | st.integers(-20, 20),
)
def test_the_total_after_is_the_total_before_and_all_that_counted(
    given_operations: list[tuple[int, str | None, bool, int | None]], before: int | None
) -> None:
    operations = [reset(key) if resets else op(value, key, most=most) for value, key, resets, most in given_operations]
    decision = decide(operations, {A: before}, {})
    total = before
    guards = set()
    for operation, ruling in zip(operations, decision.rulings, strict=True):
        if ruling.outcome is not Outcome.COUNTED:
            continue
        assert operation.guard is None or operation.guard not in guards
        guards.add(operation.guard)
        assert ruling.number is not None
        if operation.reset:
            assert ruling.number == total
            total = 0
        else:
            total = (total or 0) + operation.value
            assert ruling.number == total
            assert operation.most is None or total <= operation.most
    assert (before or 0) + sum(decision.sums.values()) == (total or 0)
    assert len(decision.counted) == [ruling.outcome for ruling in decision.rulings].count(Outcome.COUNTED)
