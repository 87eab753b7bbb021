"""The contract of a lane of the log, on the in-memory twin, on fakeredis and on a real Redis."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

import node.log
from cluster.ring import partition_of
from node.errors import LogGap, LogUnavailable, LogUnrepaired
from node.log import RedisLog
from node.ports import Appender, Fenced, Introduced, Log
from node.settlement import SUM_MAX, Unsettled
from tests.contract.conftest import PARTITIONS
from tests.faults.proxy import Proxy
from tests.twins.fakeredis import FakeRedisLog
from tests.twins.log import MemoryLog

A, B = "default:a", "default:b"
DAY = 86_400


def payload(sums: dict[str, int] | None = None, ids: list[tuple[str, int, str]] | None = None) -> bytes:
    """ids: (counter, value, digest)"""
    groups = [{"p": str(part_of(c)), "c": [c], "s": [str(n)]} for c, n in (sums or {}).items()]
    items = [[str(part_of(c)), c, str(n), digest.ljust(16, "x"), DAY] for c, n, digest in ids or []]
    return json.dumps({"sums": groups, "ids": [field for item in items for field in item]}).encode()


def part_of(counter: str) -> int:
    return partition_of(counter, PARTITIONS)


class Calls:
    """An appender whose writers have come back in whatever incarnation Redis is in."""

    def __init__(self, log: Log, appender: Appender) -> None:
        self._log, self._appender = log, appender

    async def append(self, writer: str, number: int, payload: bytes) -> str:
        return await self._appender.append(writer, await self._incarnation(), number, payload)

    async def replay(self, writer: str, number: int, payload: bytes, skipped: Collection[int]) -> str:
        return await self._appender.replay(writer, await self._incarnation(), number, payload, skipped)

    async def close(self) -> None:
        await self._appender.close()

    async def _incarnation(self) -> int:
        return (await self._log.facts()).incarnation or 0


async def repair(log: Log, settled: int = 0, incarnation: int = 1, full: tuple[str, ...] = ()) -> str:
    fenced = Fenced("cluster-1", incarnation, dict.fromkeys(range(PARTITIONS), settled), full)
    return await log.repair(fenced, await log.facts())


async def repaired(log: Log, settled: int = 0, incarnation: int = 1, full: tuple[str, ...] = ()) -> None:
    await repair(log, settled, incarnation, full)
    await log.whole(incarnation)


async def calls_on(log: Log) -> Calls:
    return Calls(log, await log.connect(lambda: None))


async def appender_of(log: Log, writer: str = "n1") -> Calls:
    await repaired(log)
    await log.introduce(writer, 0)
    return await calls_on(log)


async def sums_of(log: Log, counter: str) -> Unsettled:
    return (await log.read([counter]))[0]


async def test_an_increment_is_in_the_open_batch(log):
    appender = await appender_of(log)
    assert await appender.append("n1", 1, payload({A: 5, B: 0})) == ""
    assert await sums_of(log, A) == Unsettled(1, None, None, 5)
    assert await sums_of(log, B) == Unsettled(1, None, None, 0)
    assert await sums_of(log, "default:unknown") == Unsettled(1, None, None, None)
    await appender.close()


async def test_a_call_that_comes_again_adds_nothing_and_gets_its_answer(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload(ids=[(A, 5, "first")]))
    assert await appender.append("n1", 2, payload({A: 1}, [(A, 5, "first")])) == "r0"
    for _ in range(2):
        assert await appender.append("n1", 1, payload(ids=[(A, 5, "first")])) == ""
        assert await appender.append("n1", 2, payload({A: 1}, [(A, 5, "first")])) == "r0"
    assert (await sums_of(log, A)).open_sum == 6
    await appender.close()


async def test_a_call_after_a_missing_one_is_refused(log):
    appender = await appender_of(log)
    with pytest.raises(LogGap):
        await appender.append("n1", 2, payload({A: 1}))
    assert await appender.append("n1", 1, payload({A: 1})) == ""
    assert (await sums_of(log, A)).open_sum == 1
    await appender.close()


async def test_an_id_counts_once_whatever_the_writer(log):
    appender = await appender_of(log)
    await log.introduce("n2", 0)
    assert await appender.append("n1", 1, payload(ids=[(A, 5, "x1")])) == ""
    assert await appender.append("n2", 1, payload(ids=[(A, 5, "x1"), (A, 7, "x2")])) == "r0"
    assert (await sums_of(log, A)).open_sum == 12
    await appender.close()


async def test_an_id_with_another_value_is_a_mismatch_and_changes_nothing(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload(ids=[(A, 5, "x1")]))
    assert await appender.append("n1", 2, payload(ids=[(A, 6, "x1")])) == "m0"
    assert (await sums_of(log, A)).open_sum == 5
    await appender.close()


async def test_an_id_that_comes_twice_in_one_call_counts_once(log):
    appender = await appender_of(log)
    items = [(A, 5, "x1"), (A, 5, "x1"), (A, 6, "x1"), (B, 1, "x3")]
    answer = await appender.append("n1", 1, payload(ids=items))
    assert sorted(answer.split()) == ["m2", "r1"]
    assert (await sums_of(log, A)).open_sum == 5
    await appender.close()


async def test_ids_outlive_a_settle(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload(ids=[(A, 5, "x1")]))
    batch = await log.seal(part_of(A))
    await log.drop(batch.partition, batch.number, [])
    assert await appender.append("n1", 2, payload(ids=[(A, 5, "x1")])) == "r0"
    await appender.close()


async def test_an_id_is_remembered_for_its_window_and_then_forgotten(log, request):
    """The window is a second long: an id is known for one to two seconds."""
    if isinstance(log, MemoryLog):
        log.now_s = time.time
    appender = await appender_of(log)
    item = [str(part_of(A)), A, "1", "x".ljust(16, "x"), 1]
    call = json.dumps({"sums": [], "ids": item}).encode()
    assert await appender.append("n1", 1, call) == ""
    answers, deadline = [await appender.append("n1", 2, call)], time.monotonic() + 30
    while answers[-1] != "" and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        answers.append(await appender.append("n1", len(answers) + 2, call))
    assert answers[-1] == "", "it was never forgotten"
    assert set(answers[:-1]) == {"r0"}
    assert len(answers) > 5, "it was forgotten within its window"
    while await log.forget_ids() and time.monotonic() < deadline:
        pass
    if isinstance(log, RedisLog):
        async with admin_of(log, request) as admin:
            assert len(await admin.keys(f"{log.key}:i:*")) <= 2
    await appender.close()


@pytest.mark.parametrize(("before", "after"), [(DAY, 2 * DAY), (2 * DAY, DAY), (60, 30 * DAY)])
async def test_an_id_is_known_whatever_the_length_of_its_window_is_now(log, before, after):
    """It was changed, or one node has heard of the change and the other has not."""
    appender = await appender_of(log)
    await log.whole(1)
    digests = [each.ljust(16, "x") for each in ("counted", "put back", "decided")]

    def call(window_s: int) -> bytes:
        item = [str(part_of(A)), A, "5", digests[0], window_s]
        decided = [str(part_of(A)), A, "5", "", 0, "", "", digests[2], window_s]
        return json.dumps({"sums": [], "ids": item, "decided": decided}).encode()

    assert await appender.append("n1", 1, call(before)) == "d0:c10"
    await log.remember_ids([(before, digests[1], "7")])
    assert await appender.append("n1", 2, call(after)) == "r0 d0:r10"
    await log.remember_ids([(after, digests[1], "9")])
    for window_s in (before, after):
        assert await log.receipt(window_s, digests[1]) == "7"
    await appender.close()


async def test_a_request_id_is_not_looked_for_among_idempotency_keys(log):
    """Or each would be looked for in the windows of both, and every node has both."""
    appender = await appender_of(log)

    def call(window_s: int) -> bytes:
        return json.dumps({"sums": [], "ids": [str(part_of(A)), A, "5", "x" * 16, window_s]}).encode()

    assert [await appender.append("n1", i, call(s)) for i, s in ((1, -60), (2, 60), (3, -60), (4, -90))] == [
        "",
        "",
        "r0",
        "r0",
    ]
    await appender.close()


@asynccontextmanager
async def admin_of(log: RedisLog, request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A node itself may not list keys, nor look at their expiry."""
    if isinstance(log, FakeRedisLog):
        yield log.redis
        return
    async with Redis.from_url(request.getfixturevalue("redis_url")) as admin:
        yield admin


async def test_sums_above_2_to_the_53_stay_exact(log):
    appender = await appender_of(log)
    big = 2**53 - 1
    await appender.append("n1", 1, payload(ids=[(A, big, f"x{i}") for i in range(5)]))
    await appender.append("n1", 2, payload({A: 2**60 - 1}))
    assert (await sums_of(log, A)).open_sum == 5 * big + 2**60 - 1
    batch = await log.seal(part_of(A))
    assert batch.sums == {A: 5 * big + 2**60 - 1}
    await appender.close()


async def test_a_sum_that_a_settle_could_not_take_is_refused_and_the_rest_is_counted(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 2**60}))
    assert await appender.append("n1", 2, payload({A: 2**60 - 2**10, B: 1})) == ""
    assert await appender.append("n1", 3, payload({B: 1, A: 2**10}, [(A, 2**10, "x1"), (B, 1, "x2")])) == "s1 x0"
    assert (await sums_of(log, A)).open_sum == SUM_MAX - 2**10
    assert (await sums_of(log, B)).open_sum == 3
    # refused, so not remembered: it counts once there is room again
    batch = await log.seal(part_of(A))
    await log.drop(batch.partition, batch.number, [])
    assert await appender.append("n1", 4, payload(ids=[(A, 2**10, "x1")])) == ""
    await appender.close()


async def test_a_full_counter_takes_nothing_more(log):
    appender = await appender_of(log)
    await log.drop(part_of(A), 0, [A])
    answer = await appender.append("n1", 1, payload({A: 1, B: 2}, [(A, 1, "x1"), (A, 1, "x1"), (B, 1, "x2")]))
    assert sorted(answer.split()) == ["s0", "x0", "x1"]
    assert await sums_of(log, A) == Unsettled(1, None, None, None)
    assert (await sums_of(log, B)).open_sum == 3
    await appender.close()


async def test_seal_answers_the_same_batch_until_it_is_dropped(log):
    appender = await appender_of(log)
    assert await log.seal(part_of(A)) is None
    await appender.append("n1", 1, payload({A: 5}))
    batch = await log.seal(part_of(A))
    assert (batch.partition, batch.number, batch.incarnation) == (part_of(A), 1, 1)
    assert (batch.sums, batch.calls) == ({A: 5}, {"n1": 1})
    await appender.append("n1", 2, payload({A: 3}))
    assert await log.seal(part_of(A)) == batch
    assert await sums_of(log, A) == Unsettled(2, 1, 5, 3)
    assert not await log.drop(part_of(A), 0, [])
    assert await log.drop(part_of(A), 1, [])
    assert not await log.drop(part_of(A), 1, [])
    assert await sums_of(log, A) == Unsettled(2, None, None, 3)
    assert (await log.seal(part_of(A))).number == 2
    await appender.close()


async def test_a_batch_carries_each_writers_last_call(log):
    appender = await appender_of(log)
    await log.introduce("n2", 0)
    await appender.append("n1", 1, payload({A: 1}))
    await appender.append("n1", 2, payload({A: 1}))
    await appender.append("n2", 1, payload({A: 1}))
    assert (await log.seal(part_of(A))).calls == {"n1": 2, "n2": 1}
    await appender.close()


async def test_a_stranger_is_refused_and_changes_nothing(log):
    appender = await appender_of(log)
    with pytest.raises(LogUnrepaired):
        await appender.append("stranger", 1, payload({A: 1}))
    assert (await sums_of(log, A)).open_sum is None
    await appender.close()


async def test_a_partition_without_a_number_refuses_appends_and_seals(log):
    await log.introduce("n1", 0)
    appender = await calls_on(log)
    with pytest.raises(LogUnrepaired):
        await appender.append("n1", 1, payload({A: 1}))
    with pytest.raises(LogUnrepaired):
        await log.seal(part_of(A))
    await repaired(log)
    assert await appender.append("n1", 1, payload({A: 1})) == ""
    await appender.close()


async def test_introducing_a_known_writer_changes_nothing(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 1}))
    introduced = await log.introduce("n1", 0)
    assert (introduced.known, introduced.last) == (True, 1)
    introduced = await log.introduce("n2", 7)
    assert (introduced.known, introduced.last) == (False, 7)
    await appender.close()


async def test_repair_keeps_what_is_not_settled(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 5}))
    await log.seal(part_of(A))
    await appender.append("n1", 2, payload({A: 3}))
    await repaired(log, settled=0, incarnation=2)
    assert await sums_of(log, A) == Unsettled(2, 1, 5, 3)
    batch = await log.seal(part_of(A))
    assert (batch.number, batch.incarnation) == (1, 2)
    await appender.close()


async def test_repair_drops_what_is_settled_and_opens_the_next_batch(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 5}))
    await log.seal(part_of(A))
    await appender.append("n1", 2, payload({A: 3}))
    await repaired(log, settled=1, incarnation=2)
    assert await sums_of(log, A) == Unsettled(2, None, None, 3)
    await repaired(log, settled=6, incarnation=3, full=(B,))  # Redis went back in time
    assert await sums_of(log, A) == Unsettled(7, None, None, None)
    assert await log.seal(part_of(A)) is None
    assert await appender.append("n1", 3, payload({B: 3})) == "s0"
    await appender.close()


async def test_repair_under_an_older_incarnation_is_refused(log):
    await repaired(log, incarnation=5)
    with pytest.raises(LogUnrepaired):
        await repaired(log, incarnation=4)


async def test_a_batch_carries_the_incarnation_it_was_sealed_under(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 5}))
    await repaired(log, incarnation=9)
    assert (await log.seal(part_of(A))).incarnation == 9
    await appender.close()


async def test_reads_are_refused_until_everything_is_put_back(log):
    await repaired(log)
    await repair(log, incarnation=2)
    with pytest.raises(LogUnrepaired):
        await log.read([A])
    await log.whole(1)
    with pytest.raises(LogUnrepaired):
        await log.read([A])
    await log.whole(2)
    assert await sums_of(log, A) == Unsettled(1, None, None, None)


async def test_a_replay_may_leave_a_gap_and_is_made_once(log):
    appender = await appender_of(log)
    for _ in range(2):
        assert await appender.replay("n1", 7, payload({A: 5}, [(A, 1, "x1")]), ()) == ""
    assert (await sums_of(log, A)).open_sum == 6
    assert (await log.seal(part_of(A))).calls == {"n1": 7}
    assert await appender.append("n1", 8, payload({A: 1}, [(A, 1, "x1")])) == "r0"
    await appender.close()


async def test_a_replay_in_part_leaves_alone_what_postgres_has(log):
    appender = await appender_of(log)
    other = next(f"default:k{i}" for i in range(99) if part_of(f"default:k{i}") != part_of(A))
    call = payload({A: 5, other: 7}, [(A, 1, "x1"), (other, 1, "x2")])
    assert await appender.replay("n1", 3, call, {part_of(A)}) == ""
    assert (await sums_of(log, A)).open_sum is None
    assert (await sums_of(log, other)).open_sum == 8
    assert await log.seal(part_of(A)) is None
    assert await appender.append("n1", 4, payload(ids=[(A, 2, "x1"), (other, 1, "x2")])) == "r1"
    await appender.close()


async def test_what_was_refused_is_noted_in_the_batch_of_its_partition(log):
    appender = await appender_of(log)
    other = next(f"default:k{i}" for i in range(99) if part_of(f"default:k{i}") != part_of(A))
    await log.drop(part_of(A), 0, [A])
    call = payload({A: 1, other: 2}, [(A, 1, "x1"), (other, 1, "x2"), (other, 2, "x2"), (other, 1, "x2")])
    assert sorted((await appender.append("n1", 1, call)).split()) == ["m2", "r3", "s0", "x0"]
    here, there = await log.seal(part_of(A)), await log.seal(part_of(other))
    assert sorted(here.outcomes["n1/1"].split()) == ["1", "s0", "x0"]
    assert there.outcomes == {"n1/1": "1 m2"}
    await appender.close()


async def test_a_counter_that_is_full_meanwhile_takes_what_is_replayed(log):
    appender = await appender_of(log)
    await log.drop(part_of(A), 0, [A])
    assert await appender.replay("n1", 1, payload({A: 5}, [(A, 1, "x1")]), ()) == ""
    assert (await sums_of(log, A)).open_sum == 6
    await appender.close()


async def test_hearsay_is_known_to_an_append_and_unknown_to_a_replay(log):
    appender = await appender_of(log)
    x1 = "x1".ljust(16, "x")
    await log.remember_ids([(DAY, x1, "h5")])
    assert await log.receipt(DAY, x1) == "5"
    assert await appender.append("n1", 1, payload(ids=[(A, 5, "x1"), (A, 6, "x1")])) == "r0 m1"
    assert await appender.replay("n1", 2, payload(ids=[(A, 5, "x1")]), ()) == ""
    assert await appender.replay("n1", 3, payload(ids=[(A, 5, "x1")]), ()) == "r0"
    assert (await sums_of(log, A)).open_sum == 5
    await appender.close()


async def test_hearsay_never_takes_the_place_of_what_is_known_and_gives_way_to_it(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload(ids=[(A, 5, "x1")]))
    for name, value in (("x1", "h5"), ("x2", "h7"), ("x2", "7"), ("x2", "h7")):
        await log.remember_ids([(DAY, name.ljust(16, "x"), value)])
    assert await appender.replay("n1", 2, payload(ids=[(A, 5, "x1"), (A, 7, "x2")]), ()) == "r0 r1"
    await appender.close()


async def test_ids_are_put_back_and_known_ones_keep_their_value(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload(ids=[(A, 5, "known")]))
    await log.remember_ids([(DAY, "known".ljust(16, "x"), "9"), (DAY, "lost".ljust(16, "x"), "3")])
    assert await appender.append("n1", 2, payload(ids=[(A, 5, "known"), (A, 3, "lost"), (A, 4, "lost")])) == "r0 r1 m2"
    await appender.close()


async def test_a_writer_is_known_for_as_long_as_nobody_forgets_it(log, request):
    """One whose name ran out, in an hour without Redis, would make its unsettled calls again."""
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 1}))
    assert await log.introduce("n1", 0) == Introduced(True, 1)
    if isinstance(log, RedisLog):
        async with admin_of(log, request) as admin:
            assert await admin.ttl(f"{log.key}:w:n1") == -1
    await appender.close()


async def test_a_forgotten_writer_is_refused(log):
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 1}))
    await log.forget_writers(["n1", "nobody"])
    with pytest.raises(LogUnrepaired):
        await appender.append("n1", 2, payload({A: 1}))
    assert not (await log.introduce("n1", 0)).known
    await appender.close()


async def test_counters_may_hold_any_text(log):
    appender = await appender_of(log)
    names = ["default:" + key for key in ('"', "\\", "a b", "\n\x01", "🙂", "é", "e\u0301", "{0}", "x" * 512)]
    await appender.append("n1", 1, payload({name: i for i, name in enumerate(names)}))
    for i, name in enumerate(names):
        assert (await sums_of(log, name)).open_sum == i
    for i, name in enumerate(names):
        assert (await log.seal(part_of(name))).sums[name] == i
    await appender.close()


async def test_a_call_without_content_only_has_a_number(log):
    appender = await appender_of(log)
    assert await appender.append("n1", 1, payload()) == ""
    assert (await log.introduce("n1", 0)).last == 1
    assert all([await log.seal(p) is None for p in range(PARTITIONS)])
    await appender.close()


async def test_an_append_that_names_another_incarnation_is_refused_and_changes_nothing(log):
    await repaired(log, incarnation=2)
    await log.introduce("n1", 0)
    appender = await log.connect(lambda: None)
    for incarnation in (1, 3):
        with pytest.raises(LogUnrepaired):
            await appender.append("n1", incarnation, 1, payload({A: 1}))
        with pytest.raises(LogUnrepaired):
            await appender.replay("n1", incarnation, 1, payload({A: 1}), ())
    assert await appender.append("n1", 2, 1, payload({A: 1})) == ""
    await repaired(log, incarnation=3)
    with pytest.raises(LogUnrepaired):
        await appender.append("n1", 2, 1, payload({A: 1}))
    assert (await sums_of(log, A)).open_sum == 1
    await appender.close()


async def test_a_repair_names_the_life_that_was_found_and_an_empty_redis_is_given_one(log):
    found = await log.facts()
    assert (found.life, found.repaired_run) == (None, None)
    life = await repair(log)
    facts = await log.facts()
    assert (facts.life, facts.repaired_run) == (life, facts.run_id)
    fenced = Fenced("cluster-1", 2, dict.fromkeys(range(PARTITIONS), 0), ())
    for other in (found, replace(facts, life="another")):
        with pytest.raises(LogUnrepaired):
            await log.repair(fenced, other)
    assert (await log.facts()).incarnation == 1
    assert await log.repair(fenced, facts) == life


async def test_a_redis_that_was_repaired_as_another_is_not_read(log):
    await repaired(log)
    await log.repair(Fenced("cluster-1", 1, {}, ()), replace(await log.facts(), run_id="another"))
    with pytest.raises(LogUnrepaired):
        await log.read([A])
    with pytest.raises(LogUnrepaired):
        await log.receipt(DAY, "x" * 16)
    await repaired(log)
    assert await sums_of(log, A) == Unsettled(1, None, None, None)


@pytest.mark.redis
async def test_a_seal_may_take_longer_than_any_other_call_unless_the_connection_is_dead(node_redis_url, monkeypatch):
    """A large batch given up each time could never be settled."""
    monkeypatch.setattr(node.log, "TIMEOUT_S", 1.0)
    parts = urlsplit(node_redis_url)
    proxy = await Proxy(parts.hostname or "", parts.port or 0).start()
    log = RedisLog.open(node_redis_url.replace(f":{parts.port}", f":{proxy.port}"), 0, PARTITIONS)
    appender = await appender_of(log)
    await appender.append("n1", 1, payload({A: 1}))
    assert await log.seal(part_of(B)) is None
    proxy.delay_s = 2.0
    assert (await log.seal(part_of(A))).sums == {A: 1}
    with pytest.raises(LogUnavailable):
        await log.drop(part_of(A), 1, [])
    proxy.silent = True
    async with asyncio.timeout(20):
        sealing = asyncio.create_task(log.seal(part_of(A)))
        await asyncio.sleep(0)
        with pytest.raises(LogUnavailable):
            await log.connect(lambda: None)
        with pytest.raises(LogUnavailable):
            await sealing
    await appender.close()
    await log.close()
    await proxy.stop()
