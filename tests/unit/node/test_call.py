"""Group commit: which increments go together, and that each gets the outcome that is its own."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ring import partition_of
from node.call import ADDITIONS_MAX, PARTS_MAX, Bundle, Call, Outcome, Pending, Windows, digest_of, form_call
from node.errors import LogUnavailable, TallyError
from node.increment import VALUE_MAX, Increment
from node.ports import Facts, Fenced
from node.settlement import CALL_SUM_MAX
from tests.twins.log import MemoryLog

PARTITIONS = 8
WINDOWS = Windows(86_400, 60)

increments = st.builds(
    Increment,
    st.sampled_from(["default:a", "default:b", "default:é:x", "other:a"]),
    st.integers(0, 5) | st.integers(0, VALUE_MAX),
    st.none() | st.text(min_size=1, max_size=3),
    st.just(False),
)
items = st.builds(
    lambda increment: Increment(increment.counter, increment.value, increment.idempotency_key or "x"), increments
)


@st.composite
def bundles(draw: st.DrawFn) -> tuple[dict[str, int], list[Increment]]:
    sums = draw(st.dictionaries(st.sampled_from(["default:a", "default:b"]), st.integers(0, 9)))
    return sums, draw(st.lists(items, max_size=3))


class Told(Pending):
    """A pending increment that tells a listener."""

    def __init__(self, increment: Increment, listener: Any) -> None:
        super().__init__(increment, 0.0)
        self.listener = listener

    def reply(self, outcome: Any) -> None:
        self.listener(outcome)


class Replies:
    """Collects what each part is told."""

    def __init__(self) -> None:
        self.told: dict[int, list[Any]] = {}

    def pending(self, increment: Increment) -> Pending:
        return Told(increment, self._listener())

    def bundle(self, sums: dict[str, int], keyed: list[Increment]) -> Bundle:
        total = sum(sums.values()) + sum(item.value for item in keyed)
        return Bundle(sums, keyed, total, self._listener(), 0.0)

    def _listener(self) -> Any:
        number = len(self.told)
        self.told[number] = []
        return self.told[number].append


def calls_of(inbox: deque[Pending | Bundle]) -> list[Call]:
    calls = []
    while inbox:
        before = len(inbox)
        calls.append(form_call(len(calls) + 1, inbox, PARTITIONS, WINDOWS))
        assert len(inbox) < before, "a call always takes something"
    return calls


def run(calls: list[Call]) -> Counter[str]:
    """Runs the calls on the log's twin and settles each with its answer; -> what is in the open batches then."""
    log = MemoryLog(PARTITIONS)
    asyncio.run(log.repair(Fenced("cluster-1", 1, dict.fromkeys(range(PARTITIONS), 0), ()), Facts("run-1", None, None)))
    asyncio.run(log.introduce("n1", 0))
    for call in calls:
        call.settle(log.append("n1", 1, call.number, call.payload))
    sums: Counter[str] = Counter()
    for partition, part in log.parts.items():
        for counter, amount in part.sums.items():
            assert partition == partition_of(counter, PARTITIONS)
            sums[counter] += amount
    return sums


def by_the_book(asked: list[Any]) -> tuple[Counter[str], list[Any]]:
    """What must be counted, and told: one increment after the other."""
    sums, seen, told = Counter[str](), dict[tuple[str, str], int](), []

    def outcome(each: Increment) -> Outcome:
        if each.idempotency_key is not None:
            before = seen.setdefault((each.counter, each.idempotency_key), -1)
            if before >= 0:
                return Outcome.REPLAYED if before == each.value else Outcome.MISMATCH
            seen[each.counter, each.idempotency_key] = each.value
        sums[each.counter] += each.value
        return Outcome.COUNTED

    for each in asked:
        if isinstance(each, Increment):
            told.append([outcome(each)])
        else:
            sums.update(each[0])
            told.append([(frozenset(), [outcome(item) for item in each[1]])])
    return sums, told


@given(st.lists(increments | bundles(), max_size=40))
def test_what_is_counted_and_told_is_as_if_they_had_come_one_by_one(asked: list[Any]) -> None:
    replies = Replies()
    parts = [replies.pending(each) if isinstance(each, Increment) else replies.bundle(*each) for each in asked]
    sums, told = by_the_book(asked)
    assert run(calls_of(deque(parts))) == sums
    assert list(replies.told.values()) == told


@given(st.lists(increments, max_size=60))
def test_parts_stay_in_order_and_none_is_taken_twice(asked: list[Increment]) -> None:
    replies = Replies()
    inbox: deque[Pending | Bundle] = deque(replies.pending(each) for each in asked)
    before = list(inbox)
    assert [part for call in calls_of(inbox) for part in call.parts] == before


@given(st.lists(increments, max_size=60))
def test_no_call_adds_more_to_a_counter_than_a_batch_can_take(asked: list[Increment]) -> None:
    replies = Replies()
    for call in calls_of(deque(replies.pending(each) for each in asked)):
        sums: Counter[str] = Counter()
        for part in call.parts:
            assert isinstance(part, Pending)
            sums[part.increment.counter] += part.increment.value
        assert max(sums.values(), default=0) <= CALL_SUM_MAX


def test_a_call_is_split_where_a_sum_would_pass_the_limit() -> None:
    replies = Replies()
    inbox: deque[Pending | Bundle] = deque(replies.pending(Increment("default:a", VALUE_MAX)) for _ in range(300))
    first, second, third = calls_of(inbox)
    fitting = CALL_SUM_MAX // VALUE_MAX
    assert [len(call.parts) for call in (first, second, third)] == [fitting, fitting, 300 - 2 * fitting]


def test_a_call_holds_a_bounded_number_of_sums_and_ids() -> None:
    replies = Replies()
    inbox: deque[Pending | Bundle] = deque(
        replies.pending(Increment(f"default:{i}", 1, None if i % 2 else "x")) for i in range(2 * ADDITIONS_MAX + 1)
    )
    assert [len(call.parts) for call in calls_of(inbox)] == [ADDITIONS_MAX, ADDITIONS_MAX, 1]


def test_a_call_stands_for_a_bounded_number_of_increments_of_one_counter() -> None:
    replies = Replies()
    inbox: deque[Pending | Bundle] = deque(replies.pending(Increment("default:a", 1)) for _ in range(PARTS_MAX + 1))
    assert [len(call.parts) for call in calls_of(inbox)] == [PARTS_MAX, 1]


def test_an_empty_inbox_makes_a_call_without_content() -> None:
    call = form_call(7, deque(), PARTITIONS, WINDOWS)
    assert (call.number, call.parts, call.plain) == (7, [], [])
    assert run([form_call(1, deque(), PARTITIONS, WINDOWS)]) == {}


@given(st.lists(increments, min_size=1, max_size=30), st.data())
def test_every_exception_reaches_the_increment_it_is_about_and_no_other(
    asked: list[Increment], data: st.DataObject
) -> None:
    replies = Replies()
    inbox: deque[Pending | Bundle] = deque(replies.pending(each) for each in asked)
    call = form_call(1, inbox, PARTITIONS, WINDOWS)
    taken = asked[: len(call.parts)]
    keyed = [position for position, each in enumerate(taken) if each.idempotency_key is not None]
    kinds = {"r": Outcome.REPLAYED, "m": Outcome.MISMATCH, "x": Outcome.FULL}
    said = {i: data.draw(st.sampled_from(["r", "m", "x", ""])) for i in range(len(keyed))}
    full = data.draw(st.sets(st.sampled_from(range(len(call.plain))))) if call.plain else set()
    tokens = [f"{kind}{i}" for i, kind in said.items() if kind] + [f"s{i}" for i in full]
    call.settle(" ".join(data.draw(st.permutations(tokens))))
    for position, each in enumerate(taken):
        if position in keyed:
            expected = kinds.get(said[keyed.index(position)], Outcome.COUNTED)
        else:
            expected = Outcome.FULL if call.plain.index(each.counter) in full else Outcome.COUNTED
        assert replies.told[position] == [expected]


def test_a_bundle_is_told_what_became_of_each_of_its_items() -> None:
    replies = Replies()
    item = Increment("default:a", 1, "x")
    inbox: deque[Pending | Bundle] = deque(
        [
            replies.pending(Increment("default:a", 1, "y")),
            replies.bundle({"default:b": 3}, [item, item, item]),
            replies.pending(Increment("default:b", 1)),
        ]
    )
    form_call(1, inbox, PARTITIONS, WINDOWS).settle("r1 x3 s0 m0")
    assert replies.told == {
        0: [Outcome.MISMATCH],
        1: [(frozenset({"default:b"}), [Outcome.REPLAYED, Outcome.COUNTED, Outcome.FULL])],
        2: [Outcome.FULL],
    }


def test_whoever_was_answered_is_not_answered_again() -> None:
    replies = Replies()
    inbox: deque[Pending | Bundle] = deque(
        [replies.pending(Increment("default:a", 1)), replies.bundle({"default:a": 1}, [])]
    )
    call = form_call(1, inbox, PARTITIONS, WINDOWS)
    error: TallyError = LogUnavailable()
    call.fail(error)
    call.settle("")
    assert replies.told == {0: [error], 1: [error]}


@given(st.lists(increments.filter(lambda increment: increment.idempotency_key is not None), min_size=2, max_size=6))
def test_an_ids_digest_is_short_and_depends_on_counter_and_id_only(asked: list[Increment]) -> None:
    digests = {(each.counter, each.idempotency_key): digest_of(each) for each in asked}
    assert len(set(digests.values())) == len(digests)
    assert all(len(digest) == 16 and digest.isascii() for digest in digests.values())


def test_a_proxys_request_id_is_never_taken_for_a_clients_key() -> None:
    own, proxys = Increment("default:a", 1, "x"), Increment("default:a", 1, "x", short_lived=True)
    assert digest_of(own) != digest_of(proxys)
    assert (WINDOWS.of(own), WINDOWS.of(proxys)) == (86_400, -60), "each kind has windows of its own"


@pytest.mark.parametrize(("counter", "id_"), [("default:a", "b"), ("default:", "ab"), ("default:ab", "")])
def test_counter_and_id_are_not_run_together(counter: str, id_: str) -> None:
    digests = {
        digest_of(Increment(*each)) for each in (("default:a", 1, "b"), ("default:", 1, "ab"), ("default:ab", 1, ""))
    }
    assert len(digests) == 3
    assert digest_of(Increment(counter, 1, id_)) in digests
