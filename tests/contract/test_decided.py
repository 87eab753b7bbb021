"""Operations that the log decides when it counts them: on the in-memory twin, on fakeredis and on a real Redis."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.ports import Log
from node.settlement import SUM_MAX
from tests.contract.test_log import DAY, A, B, appender_of, calls_on, part_of, payload, repair, repaired, sums_of

RESET = ""


@dataclass
class Op:
    """One operation; `stored` and `settled` are what the node has read of Postgres."""

    value: int | str
    counter: str = A
    stored: int | None = None
    settled: int = 0
    least: int | None = None
    most: int | None = None
    id: str = ""

    def fields(self) -> list[str | int]:
        texts = ["" if n is None else str(n) for n in (self.value, self.stored, self.least, self.most)]
        value, stored, least, most = texts
        digest = self.id and self.id.ljust(16, "x")
        return [str(part_of(self.counter)), self.counter, value, stored, self.settled, least, most, digest, DAY]


def call(*operations: Op, sums: dict[str, int] | None = None, ids: list[tuple[str, int, str]] | None = None) -> bytes:
    content = json.loads(payload(sums, ids))
    return json.dumps(content | {"decided": [field for op in operations for field in op.fields()]}).encode()


async def settle(log: Log, counter: str = A) -> dict[str, int]:
    """Seals and drops, as if Postgres had taken the batch; -> its sums."""
    batch = await log.seal(part_of(counter))
    assert batch is not None
    await log.drop(batch.partition, batch.number, [])
    return batch.sums


async def test_each_operation_sees_what_came_before_it(log):
    appender = await appender_of(log)
    operations = call(Op(5), Op(-2), Op(1, B), sums={A: 10}, ids=[(A, 100, "x1")])
    assert await appender.append("n1", 1, operations) == "d0:c115 d1:c113 d2:c1"
    assert (await sums_of(log, A)).open_sum == 113
    await appender.close()


async def test_a_call_that_comes_again_decides_nothing(log):
    appender = await appender_of(log)
    for _ in range(3):
        assert await appender.append("n1", 1, call(Op(5), Op(RESET), Op(RESET, B))) == "d0:c5 d1:c5 d2:n"
    assert (await sums_of(log, A)).open_sum == 0
    await appender.close()


async def test_a_total_is_the_stored_the_sealed_and_the_open(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 1}))
    assert await log.seal(part_of(A)) is not None
    await appender.append("n1", 2, payload({A: 10}))
    assert await appender.append("n1", 3, call(Op(1000, stored=100))) == "d0:c1111"
    assert await appender.append("n1", 4, call(Op(1000, stored=101, settled=1))) == "d0:c2111", "it is settled"
    await log.drop(part_of(A), 1, [])
    assert await appender.append("n1", 5, call(Op(1000, stored=101, settled=1))) == "d0:c3111"
    await appender.close()


@pytest.mark.parametrize("settled", [0, 2, 3, 9])
async def test_a_half_that_does_not_fit_decides_nothing(log, settled):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 1}))
    await settle(log)
    answer = await appender.append(
        "n1", 2, call(Op(1, settled=settled), Op(RESET, settled=settled), Op(1, settled=settled, id="x1"))
    )
    assert answer == "d0:a d1:a d2:a"
    assert (await sums_of(log, A)).open_sum is None
    assert await appender.append("n1", 3, payload(ids=[(A, 1, "x1")])) == "", "it was not remembered"
    await appender.close()


async def test_a_bound_is_never_passed(log):
    appender = await appender_of(log)
    operations = [
        Op(4, most=5),
        Op(2, most=5),
        Op(1, most=5),
        Op(-6, least=0),
        Op(-5, least=0),
        Op(-1, least=0),
        Op(1, least=7, most=9),
        Op(0, B, least=1),
    ]
    answer = await appender.append("n1", 1, call(*operations))
    assert answer == "d0:c4 d1:b4 d2:c5 d3:b5 d4:c0 d5:b0 d6:b0 d7:b"
    assert (await sums_of(log, A)).open_sum == 0
    assert (await sums_of(log, B)).open_sum is None, "what was refused creates no counter"
    await appender.close()


async def test_an_id_is_decided_once_whoever_asks_and_tells_the_total_as_it_is(log):
    appender = await appender_of(log)
    await log.introduce("n2", 0)
    assert await appender.append("n1", 1, call(Op(5, id="x1"))) == "d0:c5"
    assert await appender.append("n2", 1, call(Op(2), Op(5, id="x1"), Op(6, id="x1"))) == "d0:c7 d1:r7 d2:m7"
    assert await appender.append("n1", 2, payload(ids=[(A, 5, "x1"), (A, 6, "x1")])) == "r0 m1"
    assert await appender.append("n1", 3, call(Op(9, id="x2"), ids=[(A, 9, "x2")])) == "d0:r16"
    assert await appender.append("n1", 4, call(Op(1, most=0, id="x3"))) == "d0:b16"
    assert await appender.append("n1", 5, call(Op(1, id="x3"))) == "d0:c17", "refused, so not remembered"
    await appender.close()


async def test_a_reset_takes_off_the_total_and_repeats_what_it_took(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 7}))
    assert await appender.append("n1", 2, call(Op(RESET, stored=100, id="r1"), Op(3, stored=100))) == "d0:c107 d1:c3"
    assert (await sums_of(log, A)).open_sum == -97
    assert await appender.append("n1", 3, call(Op(RESET, stored=100, id="r1"))) == "d0:r107"
    await settle(log)
    assert await appender.append("n1", 4, call(Op(RESET, settled=9, id="r1"))) == "d0:r107", "whatever was read"
    assert await appender.append("n1", 5, call(Op(RESET, stored=3, settled=1), Op(RESET, stored=3, settled=1))) == (
        "d0:c3 d1:c0"
    )
    await appender.close()


async def test_a_reset_of_a_negative_total_adds(log):
    appender = await appender_of(log)
    assert (
        await appender.append("n1", 1, call(Op(-8), Op(RESET, id="r1"), Op(RESET, id="r1"))) == "d0:c-8 d1:c-8 d2:r-8"
    )
    assert (await sums_of(log, A)).open_sum == 0
    await appender.close()


async def test_an_id_of_a_reset_is_none_of_an_increment(log):
    appender = await appender_of(log)
    assert await appender.append("n1", 1, call(Op(5, id="x1"), Op(RESET, id="r1"))) == "d0:c5 d1:c5"
    assert (
        await appender.append("n1", 2, call(Op(RESET, id="x1"), Op(5, id="r1"), Op(0, id="r1"))) == "d0:m d1:m0 d2:m0"
    )
    assert await appender.append("n1", 3, payload(ids=[(A, 5, "r1"), (A, -5, "r1")])) == "m0 m1"
    assert (await sums_of(log, A)).open_sum == 0
    await appender.close()


async def test_a_reset_of_an_unknown_counter_creates_none(log):
    appender = await appender_of(log)
    assert await appender.append("n1", 1, call(Op(RESET, id="r1"))) == "d0:n"
    assert (await sums_of(log, A)).open_sum is None
    assert await appender.append("n1", 2, call(Op(RESET, stored=0, id="r1"))) == "d0:c0"
    await appender.close()


async def test_a_full_counter_and_a_sum_that_a_settle_could_not_take_are_refused(log):
    appender = await appender_of(log)
    await log.drop(part_of(B), 0, [B])
    edge = SUM_MAX - 1
    operations = [Op(1, B), Op(RESET, B, stored=5), Op(edge), Op(1, id="x1"), Op(-edge), Op(-edge), Op(-1)]
    assert await appender.append("n1", 1, call(*operations)) == (
        f"d0:x d1:x5 d2:c{edge} d3:x{edge} d4:c0 d5:c-{edge} d6:x-{edge}"
    )
    assert await appender.append("n1", 2, call(Op(RESET, "default:c", stored=SUM_MAX))) == f"d0:x{SUM_MAX}"
    assert await appender.append("n1", 3, call(Op(RESET, "default:c", stored=-edge))) == f"d0:c-{edge}"
    await appender.close()


async def test_while_redis_is_not_whole_nothing_is_decided(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 5}))
    await repair(log, incarnation=2)
    assert await appender.append("n1", 2, call(Op(1), Op(RESET), sums={A: 1})) == "d0:a d1:a"
    await log.whole(2)
    assert await appender.append("n1", 3, call(Op(1))) == "d0:c7"
    await appender.close()


async def test_a_replay_decides_nothing(log):
    appender = await appender_of(log)
    assert await appender.replay("n1", 3, call(Op(1), Op(1, B), sums={A: 4}), {part_of(B)}) == "d0:a d1:a"
    assert (await sums_of(log, A)).open_sum == 4
    await appender.close()


async def test_what_was_counted_is_noted_in_the_batch_for_the_last_two_calls(log):
    appender = await appender_of(log)
    other = next(f"default:k{i}" for i in range(99) if part_of(f"default:k{i}") != part_of(A))
    await appender.append("n1", 1, call(Op(1)))
    await appender.append("n1", 2, call(Op(1), Op(2, most=0), Op(7, other), Op(RESET)))
    await appender.append("n1", 3, call(Op(5)))
    batch = await log.seal(part_of(A))
    assert (batch.calls, batch.outcomes) == ({"n1": 3}, {"n1/0": "2 d0:c2 d3:c2", "n1/1": "3 d0:c5"})
    assert (await log.seal(part_of(other))).outcomes == {"n1/0": "2 d2:c7"}
    await appender.append("n1", 4, call(Op(1)))
    assert await log.seal(part_of(A)) == batch
    await appender.close()


async def test_what_a_reset_came_to_can_be_replayed(log):
    appender = await appender_of(log)
    cases = [("t5", -5), ("t0", -5), ("t-9", 4), (f"t{2**60 + 1}", 3 - 2**60)]
    for number, (taken, left) in enumerate(cases, 1):
        item = [str(part_of(A)), A, taken, f"r{number}".ljust(16, "x"), DAY]
        replayed = json.dumps({"sums": [], "ids": item}).encode()
        assert await appender.replay("n1", number, replayed, ()) == ""
        assert (await sums_of(log, A)).open_sum == left
    await log.remember_ids([(DAY, "r5".ljust(16, "x"), "t12")])
    again = call(*(Op(RESET, id=f"r{number}") for number in (1, 2, 3, 5)))
    assert await appender.append("n1", 5, again) == "d0:r5 d1:r0 d2:r-9 d3:r12"
    await appender.close()


async def test_a_receipt_says_what_an_id_is_remembered_with(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, call(Op(5, id="x1"), Op(RESET, id="r1"), ids=[(A, 7, "x2")]))
    names = ["x1", "r1", "x2", "x3"]
    assert [await log.receipt(DAY, name.ljust(16, "x")) for name in names] == ["5", "t12", "7", None]
    await appender.close()


async def test_plain_negative_values_are_exact(log):
    appender = await appender_of(log)
    big = 2**53 - 1
    await appender.append("n1", 1, payload({A: -5, B: 2**60}, [(A, 3, "x1"), (A, -big, "x2"), (B, -1, "x3")]))
    assert (await sums_of(log, A)).open_sum == -2 - big
    assert (await sums_of(log, B)).open_sum == 2**60 - 1
    await appender.append(
        "n1", 2, payload({A: -(2**60), B: -(2**60)}, [(A, big, "x4"), (A, big, "x5"), (A, -big, "x6")])
    )
    assert (await sums_of(log, A)).open_sum == -2 - 2**60
    assert (await sums_of(log, B)).open_sum == -1
    edge = payload({A: -(2**60)}, [(A, -(2**60), "x7")])
    assert await appender.append("n1", 3, edge) == "s0 x0"
    assert (await sums_of(log, A)).open_sum == -2 - 2**60
    await appender.close()


near = st.integers(-5, 5) | st.integers(-(2**53) - 3, -(2**53) + 3) | st.integers(2**53 - 3, 2**53 + 3)
wide = near | st.integers(-(2**59), 2**59) | st.sampled_from([10**9, -(10**9), 10**18, -(10**18), 10**9 - 1])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=st.none() | wide, sealed=wide, opened=wide, value=wide, bound=wide)
async def test_arithmetic_is_exact_whatever_the_numbers(log, stored, sealed, opened, value, bound):
    """One log for all examples: the numbers of its batches go on."""
    await repaired(log)
    await log.introduce("n1", 0)
    appender = await calls_on(log)
    last = (await log.introduce("n1", 0)).last
    await appender.append("n1", last + 1, payload({A: sealed}))
    batch = await log.seal(part_of(A))
    settled = batch.number - 1
    await appender.append("n1", last + 2, payload({A: opened}))
    total = (stored or 0) + batch.sums[A] + opened
    answer = await appender.append(
        "n1",
        last + 3,
        call(Op(value, stored=stored, settled=settled, most=bound), Op(RESET, stored=stored, settled=settled)),
    )
    within = total + value <= bound
    after = total + value if within else total
    first = f"d0:c{after}" if within else f"d0:b{total}"
    assert answer == f"{first} d1:c{after}"
    assert (await sums_of(log, A)).open_sum == opened + (after - total) - after
    await log.drop(batch.partition, batch.number, [])
    await settle(log)
    await appender.close()
