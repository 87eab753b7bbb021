"""One contract for all three strategies, on the in-memory twins and on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from itertools import count
from typing import Any

import asyncpg
import pytest

from node.call import Outcome
from node.errors import CounterFull, Mismatch, NotFound, StoreUnanswered, TallyError
from node.increment import VALUE_MAX, Increment
from node.settlement import FULL
from node.strategy import Added, Bounds, Namespace, Receipt, Strategy, Taken
from node.terms import StrategyName
from tests.contract.strategies import STRATEGIES, Cluster, in_memory, on_servers

NO_BOUNDS = Bounds()
A = "shop:a"
SERVERS = [pytest.mark.redis, pytest.mark.postgres]
WINDOW_S = 3600


@pytest.fixture(
    params=[
        *(pytest.param((name, "memory"), id=f"{name}-memory") for name in STRATEGIES),
        *(pytest.param((name, "servers"), id=f"{name}-servers", marks=SERVERS) for name in STRATEGIES),
    ]
)
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    strategy, where = request.param
    namespace = Namespace("shop", strategy, WINDOW_S, negative_allowed=True)
    if where == "memory":
        async with in_memory(namespace) as cluster:
            yield cluster
    else:
        urls = request.getfixturevalue("node_redis_url"), request.getfixturevalue("node_dsn")
        async with on_servers(namespace, *urls) as cluster:
            yield cluster


def increment(key: str = "a", value: int = 1, idempotency_key: str | None = None) -> Increment:
    return Increment(f"shop:{key}", value, idempotency_key)


async def value_of(cluster: Cluster, node: Strategy, counter: str = A) -> int | None:
    (reading,) = await node.read(cluster.namespace, [counter])
    return None if reading is None else reading.value


async def add_many(cluster: Cluster, node: Strategy, *increments: Increment) -> list[Outcome | TallyError]:
    return await node.add_many(cluster.namespace, increments)


async def add(cluster: Cluster, node: Strategy, bounds: Bounds = NO_BOUNDS, **fields: object) -> Added:
    return await node.add(cluster.namespace, increment(**fields), bounds)  # type: ignore[arg-type]


async def test_what_is_acknowledged_is_read_on_every_node_before_and_after_it_moves(cluster: Cluster) -> None:
    one, other = await cluster.node(), await cluster.node()
    for total in range(1, 6):
        assert await add_many(cluster, one, increment()) == [Outcome.COUNTED]
        assert await value_of(cluster, other) == total
        await cluster.move()
        assert await value_of(cluster, one) == total
    (reading,) = await other.read(cluster.namespace, [A])
    assert reading is not None
    assert (reading.value, reading.stored) == (5, 5)
    assert reading.updated_at is not None


async def test_a_counter_that_is_not_known_is_none_and_a_zero_makes_it_known(cluster: Cluster) -> None:
    node = await cluster.node()
    assert await node.read(cluster.namespace, [A, "shop:b", A]) == [None, None, None]
    assert await add_many(cluster, node, increment(value=0)) == [Outcome.COUNTED]
    await add_many(cluster, node, increment("b", 2))
    for _ in range(2):
        readings = await node.read(cluster.namespace, ["shop:b", A, "shop:c"])
        assert [reading and reading.value for reading in readings] == [2, 0, None]
        await cluster.move()


async def test_an_idempotency_key_counts_once_on_whatever_node_and_whenever_values_move(cluster: Cluster) -> None:
    nodes = await cluster.node(), await cluster.node()
    keyed = increment(value=5, idempotency_key="x")
    assert await add_many(cluster, nodes[0], keyed) == [Outcome.COUNTED]
    for node in (*nodes, *nodes):
        assert await add_many(cluster, node, keyed, keyed) == [Outcome.REPLAYED] * 2
        assert await add(cluster, node, value=5, idempotency_key="x") == Added(Outcome.REPLAYED, 5)
        await cluster.move()
    assert await add_many(cluster, nodes[1], increment("b", 7, "x")) == [Outcome.COUNTED], "its scope is the counter"
    assert await value_of(cluster, nodes[0]) == 5


async def test_an_idempotency_key_is_remembered_though_its_window_is_changed_and_not_every_node_knows(
    cluster: Cluster,
) -> None:
    first, second = await cluster.node(), await cluster.node()
    changed = replace(cluster.namespace, idempotency_window_s=7 * 86_400)
    for key, before, after in (("a", cluster.namespace, changed), ("b", changed, cluster.namespace)):
        keyed = increment(key, 5, "one")
        assert await first.add_many(before, [keyed]) == [Outcome.COUNTED]
        assert await second.add_many(after, [keyed]) == [Outcome.REPLAYED]
        assert (await second.add(after, keyed, NO_BOUNDS)).outcome is Outcome.REPLAYED


async def test_an_idempotency_key_that_comes_often_at_once_counts_once(cluster: Cluster) -> None:
    nodes = [await cluster.node() for _ in range(3)]
    keyed = increment(value=5, idempotency_key="x")
    added = [add(cluster, node, value=5, idempotency_key="x") for node in nodes for _ in range(5)]
    many = [add_many(cluster, node, keyed) for node in nodes for _ in range(5)]
    answers = await asyncio.gather(*added, *many)
    outcomes = [answer.outcome if isinstance(answer, Added) else answer[0] for answer in answers]  # type: ignore[index]
    assert (outcomes.count(Outcome.COUNTED), outcomes.count(Outcome.REPLAYED)) == (1, 29)
    assert await value_of(cluster, nodes[0]) == 5


async def test_the_same_key_with_another_value_is_a_mismatch_and_changes_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    first, other = increment(value=5, idempotency_key="x"), increment(value=6, idempotency_key="x")
    assert await add_many(cluster, node, first, other, first) == [Outcome.COUNTED, Outcome.MISMATCH, Outcome.REPLAYED]
    assert await add_many(cluster, node, other, first, other) == [Outcome.MISMATCH, Outcome.REPLAYED, Outcome.MISMATCH]
    assert await add(cluster, node, value=6, idempotency_key="x") == Added(Outcome.MISMATCH, 5)
    assert await value_of(cluster, node) == 5


async def test_of_many_increments_each_is_as_if_it_came_alone(cluster: Cluster) -> None:
    node = await cluster.node()
    many = [increment(f"k{i % 7}", i, f"id {i % 900}" if i % 3 == 0 else None) for i in range(2500)]
    outcomes = await add_many(cluster, node, *many)
    wanted: dict[str, int] = {}
    for position, (each, outcome) in enumerate(zip(many, outcomes, strict=True)):
        assert outcome is Outcome.COUNTED, position
        wanted[each.counter] = wanted.get(each.counter, 0) + each.value
    again = await add_many(cluster, node, *(each for each in many if each.idempotency_key))
    assert set(again) == {Outcome.REPLAYED}
    await cluster.move()
    readings = await node.read(cluster.namespace, list(wanted))
    assert [reading and reading.value for reading in readings] == list(wanted.values())


async def test_an_increment_tells_the_total_right_after_it(cluster: Cluster) -> None:
    one, other = await cluster.node(), await cluster.node()
    assert await add(cluster, one, value=3) == Added(Outcome.COUNTED, 3)
    assert await add(cluster, other, value=-1) == Added(Outcome.COUNTED, 2)
    await cluster.move()
    assert await add(cluster, one, value=0) == Added(Outcome.COUNTED, 2)
    async with cluster.moving():
        totals = await asyncio.gather(*(add(cluster, node) for node in (one, other) for _ in range(30)))
    assert sorted(each.value or 0 for each in totals) == list(range(3, 63))


async def test_a_bound_that_would_be_passed_leaves_the_counter_as_it_is(cluster: Cluster) -> None:
    node = await cluster.node()
    assert await add(cluster, node, Bounds(max=2), value=3) == Added(Outcome.OUT_OF_BOUNDS, None)
    assert await add(cluster, node, Bounds(min=1), value=0) == Added(Outcome.OUT_OF_BOUNDS, None)
    assert await value_of(cluster, node) is None, "what is refused does not make a counter known"
    assert await add(cluster, node, Bounds(max=3), value=3, idempotency_key="x") == Added(Outcome.COUNTED, 3)
    assert await add(cluster, node, Bounds(max=3), value=3, idempotency_key="x") == Added(Outcome.REPLAYED, 3)
    assert await add(cluster, node, Bounds(max=3), value=1, idempotency_key="y") == Added(Outcome.OUT_OF_BOUNDS, 3)
    assert await add(cluster, node, Bounds(min=0), value=-4) == Added(Outcome.OUT_OF_BOUNDS, 3)
    assert await add(cluster, node, Bounds(max=4), value=1, idempotency_key="y") == Added(Outcome.COUNTED, 4), (
        "a key whose increment was refused may count later"
    )
    assert await add(cluster, node, Bounds(0, 4), value=-4) == Added(Outcome.COUNTED, 0)


@pytest.mark.parametrize("sign", [1, -1])
async def test_fifty_clients_through_three_nodes_never_pass_a_bound(cluster: Cluster, sign: int) -> None:
    nodes = [await cluster.node() for _ in range(3)]
    bounds = Bounds(max=1000) if sign > 0 else Bounds(min=-1000)

    async def client(node: Strategy) -> list[int]:
        totals = []
        while (added := await add(cluster, node, bounds, value=sign)).outcome is Outcome.COUNTED:
            assert added.value is not None
            totals.append(added.value)
        assert added == Added(Outcome.OUT_OF_BOUNDS, sign * 1000)
        return totals

    async with cluster.moving():
        found = await asyncio.gather(*(client(nodes[i % 3]) for i in range(50)))
    assert sorted(abs(total) for totals in found for total in totals) == list(range(1, 1001))
    assert await value_of(cluster, nodes[0]) == sign * 1000


async def test_a_reset_takes_off_exactly_what_it_returns(cluster: Cluster) -> None:
    one, other = await cluster.node(), await cluster.node()
    with pytest.raises(NotFound):
        await one.reset(cluster.namespace, A, None)
    assert await value_of(cluster, one) is None
    await add_many(cluster, one, increment(value=5))
    assert await other.reset(cluster.namespace, A, "r") == Taken(5)
    await add_many(cluster, other, increment(value=2))
    await cluster.move()
    for node in (one, other):
        assert await node.reset(cluster.namespace, A, "r") == Taken(5, replayed=True)
    assert await value_of(cluster, one) == 2
    assert await one.reset(cluster.namespace, A, None) == Taken(2)
    assert await one.reset(cluster.namespace, A, None) == Taken(0)
    await add_many(cluster, one, increment(value=1, idempotency_key="x"))
    with pytest.raises(Mismatch):
        await one.reset(cluster.namespace, A, "x")
    assert await add(cluster, one, value=5, idempotency_key="r") == Added(Outcome.MISMATCH, 1)
    assert await add_many(cluster, one, increment(value=5, idempotency_key="r")) == [Outcome.MISMATCH]


async def test_eight_who_reset_beside_eight_who_add_lose_nothing(cluster: Cluster) -> None:
    nodes = [await cluster.node() for _ in range(2)]
    await add_many(cluster, nodes[0], increment(value=0))

    async def adder(number: int) -> int:
        for value in range(1, 61):
            if value % 2:
                assert await add_many(cluster, nodes[number % 2], increment(value=value)) == [Outcome.COUNTED]
            else:
                assert (await add(cluster, nodes[number % 2], value=value)).outcome is Outcome.COUNTED
        return sum(range(1, 61))

    async def resetter(number: int) -> int:
        return sum([(await nodes[number % 2].reset(cluster.namespace, A, None)).taken for _ in range(25)])

    async with cluster.moving():
        adders, resetters = [adder(number) for number in range(8)], [resetter(number) for number in range(8)]
        added, taken = await asyncio.gather(asyncio.gather(*adders), asyncio.gather(*resetters))
    left = await value_of(cluster, nodes[0])
    assert left is not None
    assert sum(taken) + left == sum(added)
    await cluster.move()
    assert await value_of(cluster, nodes[1]) == left


async def test_a_receipt_says_what_is_remembered(cluster: Cluster) -> None:
    one, other = await cluster.node(), await cluster.node()
    assert await one.receipt(cluster.namespace, A, "x") == Receipt(False, None, WINDOW_S)
    await add_many(cluster, one, increment(value=5, idempotency_key="x"))
    assert await other.receipt(cluster.namespace, A, "x") == Receipt(True, 5, WINDOW_S)
    assert await other.receipt(cluster.namespace, "shop:b", "x") == Receipt(False, None, WINDOW_S)
    await one.reset(cluster.namespace, A, "r")
    assert await other.receipt(cluster.namespace, A, "r") == Receipt(True, -5, WINDOW_S)
    await add(cluster, one, Bounds(max=1), value=2, idempotency_key="refused")
    assert await one.receipt(cluster.namespace, A, "refused") == Receipt(False, None, WINDOW_S)


async def test_values_past_what_a_double_holds_stay_exact(cluster: Cluster) -> None:
    node = await cluster.node()
    total = 0
    for value in (VALUE_MAX, VALUE_MAX, 1, VALUE_MAX, -2, 2**31 + 1, 2**31):
        assert await add_many(cluster, node, increment(value=value)) == [Outcome.COUNTED]
        total += value
        assert await value_of(cluster, node) == total
        assert await add(cluster, node, value=1) == Added(Outcome.COUNTED, total + 1)
        total += 1
        await cluster.move()
    assert await node.reset(cluster.namespace, A, None) == Taken(total)
    assert await value_of(cluster, node) == 0


async def test_no_counter_passes_what_a_bigint_holds(cluster: Cluster) -> None:
    """It is refused once it is full, and what was acknowledged till then is there."""
    node = await cluster.node()
    total, refused = 0, 0
    for _ in range(8):
        outcomes = await add_many(cluster, node, *(increment(value=VALUE_MAX) for _ in range(128)))
        refused += outcomes.count(Outcome.FULL)
        assert set(outcomes) <= {Outcome.FULL, Outcome.COUNTED}
        total += outcomes.count(Outcome.COUNTED) * VALUE_MAX
        await cluster.move()
    assert await value_of(cluster, node) == total
    assert FULL <= total < 2**63
    assert refused
    assert await add_many(cluster, node, increment(value=1)) == [Outcome.FULL]
    assert await add(cluster, node, value=1) == Added(Outcome.FULL, total)
    assert await add_many(cluster, node, increment("b")) == [Outcome.COUNTED]


async def test_a_replay_on_a_full_counter_is_a_replay(cluster: Cluster) -> None:
    node = await cluster.node()
    keyed = increment(value=3, idempotency_key="x")
    assert await add_many(cluster, node, keyed) == [Outcome.COUNTED]
    for _ in range(5):
        await add_many(cluster, node, *(increment(value=VALUE_MAX) for _ in range(128)))
        await cluster.move()
    assert await add_many(cluster, node, increment(value=1), keyed) == [Outcome.FULL, Outcome.REPLAYED]


async def test_keys_may_be_any_text_of_any_length_that_is_taken(cluster: Cluster) -> None:
    node = await cluster.node()
    keys = ['"', "\\", "a b", "\n\x01", "🙂", "é", "e\u0301", "a:b", "'; DROP", "x" * 512, "é" * 256, "{", "%", "NULL"]
    many = [increment(key, i, key[:255]) for i, key in enumerate(keys)]
    assert await add_many(cluster, node, *many) == [Outcome.COUNTED] * len(keys)
    assert await add_many(cluster, node, *many) == [Outcome.REPLAYED] * len(keys)
    for _ in range(2):
        readings = await node.read(cluster.namespace, [each.counter for each in many])
        assert [reading and reading.value for reading in readings] == list(range(len(keys)))
        await cluster.move()


async def test_first_increments_of_new_counters_meet_without_harm(cluster: Cluster) -> None:
    nodes = [await cluster.node() for _ in range(3)]
    for round_number in range(10):
        names = [f"{round_number}-{i}" for i in range(5)]
        orders = [names, names[::-1], names[2:] + names[:2]] * 4
        answers = await asyncio.gather(
            *(add_many(cluster, nodes[i % 3], *(increment(name) for name in order)) for i, order in enumerate(orders)),
            *(add(cluster, nodes[i % 3], key=names[i % 5]) for i in range(10)),
        )
        for answer in answers:
            assert answer == [Outcome.COUNTED] * 5 or (isinstance(answer, Added) and answer.outcome is Outcome.COUNTED)
        readings = await nodes[0].read(cluster.namespace, [f"shop:{name}" for name in names])
        assert [reading and reading.value for reading in readings] == [14] * 5


async def test_a_counter_that_cannot_be_taken_off_at_once_says_so(cluster: Cluster) -> None:
    node = await cluster.node()
    for _ in range(3):
        await add_many(cluster, node, *(increment(value=VALUE_MAX) for _ in range(128)))
        await cluster.move()
    before = await value_of(cluster, node)
    try:
        taken = (await node.reset(cluster.namespace, A, None)).taken
    except CounterFull:
        taken = 0
    left = await value_of(cluster, node)
    assert left is not None
    assert taken + left == before


@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.parametrize("strategy", ["sync", "rollup"])
async def test_a_connection_that_breaks_before_the_commit_costs_nothing(
    strategy: StrategyName, node_redis_url: str, node_dsn: str, postgres_dsn: str
) -> None:
    """Another holds what the group needs; meanwhile the server ends the group's connection, again and again."""
    hold = {
        "sync": "SELECT FROM key_counters FOR UPDATE",
        "rollup": "LOCK TABLE increments IN EXCLUSIVE MODE",
    }
    namespace = Namespace("shop", strategy, WINDOW_S)
    async with on_servers(namespace, node_redis_url, node_dsn) as cluster:
        node = await cluster.node()
        assert await add(cluster, node, value=1) == Added(Outcome.COUNTED, 1)
        other, admin = [await asyncpg.connect(postgres_dsn) for _ in range(2)]
        try:
            await other.execute("BEGIN")
            await other.execute(hold[strategy])
            waiting = asyncio.gather(
                *(add(cluster, node, value=5, idempotency_key=f"{i}") for i in range(5)), add(cluster, node, value=7)
            )
            ended = 0
            while ended < 3:
                await asyncio.sleep(0.05)
                ended += await admin.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            await other.execute("ROLLBACK")
            assert {added.outcome for added in await waiting} == {Outcome.COUNTED}
            assert await value_of(cluster, node) == 33
        finally:
            await other.close()
            await admin.close()


@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.parametrize("strategy", ["sync", "rollup"])
async def test_what_has_a_key_counts_once_and_is_told_so_when_the_answer_to_a_commit_is_lost(
    strategy: StrategyName, redis_url: str, postgres_dsn: str
) -> None:
    """A commit waits for a replica that is not there; its connection is ended, and it has committed all the same."""
    namespace = Namespace("shop", strategy, WINDOW_S)
    async with on_servers(namespace, redis_url, postgres_dsn) as cluster:
        node = await cluster.node()
        admin = await asyncpg.connect(postgres_dsn)
        try:
            decided, times = await commit_and_lose(admin, lambda key: add(cluster, node, idempotency_key=key))
            assert decided == Added(Outcome.REPLAYED, times)
            plain, more = await commit_and_lose(
                admin, lambda key: add_many(cluster, node, increment("b", 1, f"plain {key}"))
            )
            assert plain == [Outcome.REPLAYED]
            with pytest.raises(StoreUnanswered):
                await commit_and_lose(admin, lambda _: add(cluster, node, key="c"))
        finally:
            await commits_wait(admin, False)
            await admin.close()
        assert await value_of(cluster, node) == times
        assert await value_of(cluster, node, "shop:b") == more
        assert await value_of(cluster, node, "shop:c") is not None


async def commits_wait(admin: asyncpg.Connection, they_do: bool) -> None:
    await admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{'nobody' if they_do else ''}'")
    await admin.execute("SELECT pg_reload_conf()")


async def commit_and_lose(
    admin: asyncpg.Connection, operation: Callable[[str], Coroutine[Any, Any, Any]]
) -> tuple[Any, int]:
    """What came of the first that had to wait, and how many were asked: Postgres hears of a change a moment later."""
    await commits_wait(admin, True)
    for times in count(1):
        task = asyncio.create_task(operation(str(times)))
        while not task.done():
            ended = await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE wait_event = 'SyncRep' AND datname = current_database()"
            )
            if ended:
                await commits_wait(admin, False)
                return await task, times
            await asyncio.sleep(0.01)
    raise AssertionError
