"""Many increments at once: bundled into calls, and each told its outcome."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.bundling import BUNDLE_MAX, bundle, outcomes_of
from node.call import Outcome
from node.errors import Unanswered
from node.increment import VALUE_MAX, Increment
from node.settlement import CALL_SUM_MAX

INCREMENTS = st.lists(
    st.builds(
        Increment,
        st.sampled_from(["shop:a", "shop:b"]),
        st.integers(-9, 9) | st.sampled_from([VALUE_MAX, -VALUE_MAX]),
        st.none() | st.sampled_from("xyz"),
        st.just(False),
    )
    | st.builds(
        Increment, st.sampled_from(["shop:a", "shop:b"]), st.integers(0, 9), st.text(min_size=1), st.just(True)
    ),
    max_size=400,
)


@given(INCREMENTS)
def test_bundling_loses_and_adds_nothing(increments):
    bundlings = bundle(increments)
    for each in bundlings:
        mine = increments[each.start : each.end]
        assert sum(each.sums.values()) + sum(item.value for item in each.items) == sum(one.value for one in mine)
        assert each.total == sum(abs(one.value) for one in mine) <= CALL_SUM_MAX
        keyed = [p for p in range(each.start, each.end) if increments[p].idempotency_key is not None]
        assert sorted(p for positions in each.positions for p in positions) == keyed
    assert [p for each in bundlings for p in range(each.start, each.end)] == list(range(len(increments)))


def test_what_a_proxy_sends_again_makes_the_same_ids_one_a_counter_and_call():
    increments = [Increment(f"shop:{key}", 1, f"request/{i}", True) for i, key in enumerate("abab" * 800)]
    first, again = bundle(increments), bundle(increments)
    assert [each.items for each in first] == [each.items for each in again]
    assert [len(each.items) for each in first] == [2] * 4
    assert sum(item.value for item in first[0].items) == BUNDLE_MAX
    ids = [(item.counter, item.idempotency_key) for each in first for item in each.items]
    assert len(ids) == len(set(ids))


def test_each_gets_the_outcome_of_what_it_went_into():
    increments = [
        Increment("shop:a", 1),
        Increment("shop:b", 1, "r/1", True),
        Increment("shop:c", 1, "x"),
        Increment("shop:b", 1, "r/3", True),
        Increment("shop:c", 1),
    ]
    (one,) = bundle(increments)
    found = outcomes_of(increments, [one], [(frozenset({"shop:c"}), [Outcome.FULL, Outcome.REPLAYED])])
    assert found == [Outcome.COUNTED, Outcome.FULL, Outcome.REPLAYED, Outcome.FULL, Outcome.FULL]
    error = Unanswered()
    assert outcomes_of(increments, [one], [error]) == [error] * 5
