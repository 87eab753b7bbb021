"""What is compared with what. The goals and floors are the project's own; ratios are ours to the peer's."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from cluster.bench import peers
from cluster.bench.load import CONNECTIONS, ID, KEY, KEY_FORMAT, Load, LoadFailed, Sample, drive
from cluster.bench.openloop import open_loop
from cluster.bench.ours import Bench, Measure, Tally
from cluster.bench.pins import Place
from cluster.bench.settle import settle

JSON = {"Content-Type": "application/json"}
KEYS = 1000
BATCH = 1000
BATCH_CONNECTIONS = 8
OPEN_RATE, OPEN_CONNECTIONS = 1000.0, 64
GUESS = {1: 80_000.0, 64: 800_000.0}  # redis-benchmark is told requests, not seconds: so many a second, by its -P
PROXY = {"TRUSTED_PROXIES": "127.0.0.1/32"}

ALONE = "server core: the HTTP server; load core: load, Redis, Postgres"
SHARED = "server core: the HTTP server and its Redis; load core: load, Postgres"
ALL = "both cores: everything"

Contest = tuple[Measure, Measure]
"""(ours, the peer's)."""


@dataclass(frozen=True)
class Row:
    """`ids`: whether our requests carry idempotency keys. `prepare` starts both sides, and the stack ends them."""

    name: str
    title: str
    against: str
    goal: float | None
    floor: float | None
    prepare: Callable[[Bench, AsyncExitStack], Awaitable[Contest]]
    cores: str = ALONE
    ids: str = "none"
    unit: str = "increments/s"
    lower_is_better: bool = False


# --- requests ---------------------------------------------------------------------------------------------------------


def post(keys: int = 1, ids: bool = False, connections: int = CONNECTIONS) -> Load:
    headers = {**JSON, "Idempotency-Key": ID} if ids else JSON
    return Load("POST", "/increment", f'{{"key":"{KEY}","value":1}}', headers, keys, connections=connections)


def get() -> Load:
    return Load("GET", f"/increment/{KEY}", keys=KEYS)


def webdis(command: str, keys: int) -> Load:
    return Load("GET", f"/{command}/{KEY}" + ("/1" if command == "INCRBY" else ""), keys=keys)


def batch(ids: bool, size: int = BATCH, seed: int = 1) -> Load:
    """Keys at random out of KEYS, as redis-benchmark's fields are."""
    chance = random.Random(seed)
    items: list[dict[str, Any]] = [{"key": KEY_FORMAT.format(chance.randrange(KEYS)), "value": 1} for _ in range(size)]
    for item in items if ids else ():
        item["idempotency_key"] = ID
    body = json.dumps(items, separators=(",", ":"))
    headers = {**JSON, "Prefer": "return=minimal"}
    path = "/v1/default/increments/batch"
    return Load("POST", path, body, headers, weight=size, connections=BATCH_CONNECTIONS)


# --- contests ---------------------------------------------------------------------------------------------------------


def driven(bench: Bench, load: Load, url: str, may_fail: bool = False) -> Measure:
    """A peer under load, of which some may fail."""
    stage = bench.stage

    async def measure(seconds: float) -> Sample:
        return await drive(load, url, seconds, stage.cores, stage.folder.path, may_fail)

    return measure


async def beside_webdis(
    bench: Bench, stack: AsyncExitStack, ours: Load, theirs: Load, redis: Place = "load"
) -> Contest:
    """Each side has a Redis of its own, on the same core with the same settings."""
    tally = await Tally.start(bench, stack, redis)
    other = await bench.stage.start_redis(stack, "redis-peer", redis)
    peer = await peers.start_webdis(bench.stage, stack, other.url, "server")
    return tally.posts(ours, ours.keys), driven(bench, theirs, peer.url)


async def reads(bench: Bench, stack: AsyncExitStack, redis: Place = "load") -> Contest:
    """Every key has a value on both sides, and ours are settled meanwhile: that is what reads mostly find."""
    tally = await Tally.start(bench, stack, redis)
    other = await bench.stage.start_redis(stack, "redis-peer", redis)
    peer = await peers.start_webdis(bench.stage, stack, other.url, "server")
    await tally.drive(post(KEYS), 1)
    await driven(bench, webdis("INCRBY", KEYS), peer.url)(1)
    return partial(tally.drive, get()), driven(bench, webdis("GET", KEYS), peer.url)


async def through_nginx(bench: Bench, stack: AsyncExitStack) -> tuple[Tally, str, str]:
    """-> ours, its nginx's URL, the URL of the nginx before webdis. Nothing is pinned to one core."""
    stage = bench.stage
    tally = await Tally.start(bench, stack, "both", "both", PROXY)
    other = await stage.start_redis(stack, "redis-peer", "both")
    peer = await peers.start_webdis(stage, stack, other.url, "both")
    front = await stage.start_nginx(stack, "nginx-ours", tally.node.url, "/readyz", "both")
    theirs = await stage.start_nginx(stack, "nginx-peer", peer.url, "/PING", "both")
    return tally, front.url, theirs.url


async def nginx_row(bench: Bench, stack: AsyncExitStack) -> Contest:
    tally, front, theirs = await through_nginx(bench, stack)
    return tally.posts(post(KEYS), KEYS, front), driven(bench, webdis("INCRBY", KEYS), theirs)


async def latency_row(bench: Bench, stack: AsyncExitStack) -> Contest:
    tally, front, theirs = await through_nginx(bench, stack)
    ours = tally.proved(post(KEYS), KEYS, at_a_rate(post(KEYS), front))
    return ours, at_a_rate(webdis("INCRBY", KEYS), theirs)


def at_a_rate(load: Load, url: str) -> Measure:
    """The figure is the p99 in milliseconds, from the time a request was due."""
    host, _, port = url.removeprefix("http://").partition(":")
    requests = load.requests(f"{host}:{port}")

    async def measure(seconds: float) -> Sample:
        done = await open_loop(host, int(port), requests, OPEN_CONNECTIONS, OPEN_RATE, seconds)
        if done.failures:
            raise LoadFailed(
                f"{len(done.failures)} requests failed, as {done.failures[0]}: look into the server's log."
            )
        p99_ms = done.percentile_ms(99)
        return Sample(len(done.latencies_s), done.seconds, p99_ms, p99_ms)

    return measure


async def nothing_row(bench: Bench, stack: AsyncExitStack) -> Contest:
    tally = await Tally.start(bench, stack, "both", "both", PROXY)
    front = await bench.stage.start_nginx(stack, "nginx-ours", tally.node.url, "/readyz", "both")
    nothing = await peers.start_nothing(bench.stage, stack, "both")
    return tally.posts(post(KEYS), KEYS, front.url), driven(bench, post(KEYS), nothing.url)


async def naive_row(bench: Bench, stack: AsyncExitStack) -> Contest:
    tally = await Tally.start(bench, stack, "load")
    peer = await peers.start_naive(bench.stage, stack, await bench.database(), "server")
    return tally.posts(post(), 1), driven(bench, post(), peer.url, may_fail=True)


async def redis_row(bench: Bench, stack: AsyncExitStack, load: Load, keys: int, pipeline: int) -> Contest:
    """The peer's Redis has the server core for itself, and redis-benchmark the load's."""
    tally = await Tally.start(bench, stack, "load")
    other = await bench.stage.start_redis(stack, "redis-peer", "server")

    async def limit(seconds: float) -> Sample:
        return await peers.redis_benchmark(bench.stage, other.url, seconds, pipeline, GUESS[pipeline])

    return tally.posts(load, keys), limit


async def append_row(bench: Bench, stack: AsyncExitStack) -> Contest:
    tally = await Tally.start(bench, stack, "load")
    other = await bench.stage.start_redis(stack, "redis-peer", "load")

    async def bare(seconds: float) -> Sample:
        return await peers.bare_appends(bench.stage, other.url, seconds, BATCH)

    return tally.posts(batch(ids=True), KEYS), bare


async def strategy_row(bench: Bench, stack: AsyncExitStack, ours: str, load: Load) -> Contest:
    """A node whose default namespace counts by `ours`, beside one that counts by sync."""
    tally = await Tally.start(bench, stack, "load", settings={"STRATEGY": ours})
    peer = await Tally.start(bench, stack, "load", settings={"STRATEGY": "sync"}, name="sync")
    return tally.posts(load, load.keys), peer.posts(load, load.keys)


async def beside_upserts(bench: Bench, stack: AsyncExitStack, ours: str) -> Contest:
    """A node whose default namespace counts by `ours`, beside one upsert of the hot row for each increment."""
    tally = await Tally.start(bench, stack, "load", settings={"STRATEGY": ours})
    peer = await peers.start_naive(bench.stage, stack, await bench.database(), "server")
    return tally.posts(post(), 1), driven(bench, post(), peer.url, may_fail=True)


HOT, MANY = webdis("INCRBY", 1), webdis("INCRBY", KEYS)
SHARE = "Redis on its core"
ROWS = (
    Row("post-hot", "POST one hot key", "webdis INCRBY", 1.1, 0.85,
        partial(beside_webdis, ours=post(), theirs=HOT)),
    Row("post-1000", "POST 1000 keys", "webdis INCRBY", 1.0, 0.75,
        partial(beside_webdis, ours=post(KEYS), theirs=MANY)),
    Row("post-ids", "POST unique ids, 1000 keys", "webdis INCRBY", 0.85, 0.6,
        partial(beside_webdis, ours=post(KEYS, ids=True), theirs=MANY), ids="unique"),
    Row("get-1000", "GET 1000 keys, exact", "webdis GET", 1.0, 0.8, reads, unit="reads/s"),
    Row("post-hot-shared", f"POST one hot key, {SHARE}", "webdis INCRBY", None, None,
        partial(beside_webdis, ours=post(), theirs=HOT, redis="server"), SHARED),
    Row("post-1000-shared", f"POST 1000 keys, {SHARE}", "webdis INCRBY", None, None,
        partial(beside_webdis, ours=post(KEYS), theirs=MANY, redis="server"), SHARED),
    Row("post-ids-shared", f"POST unique ids, 1000 keys, {SHARE}", "webdis INCRBY", None, None,
        partial(beside_webdis, ours=post(KEYS, ids=True), theirs=MANY, redis="server"), SHARED, ids="unique"),
    Row("get-1000-shared", f"GET 1000 keys, {SHARE}", "webdis GET", None, None,
        partial(reads, redis="server"), SHARED, unit="reads/s"),
    Row("post-nginx", "POST 1000 keys through nginx", "webdis through nginx", 0.85, 0.65, nginx_row, ALL,
        ids="nginx's request id"),
    Row("post-naive", "POST one hot key", "naive Quart + Hypercorn + asyncpg", 30, 20, naive_row),
    Row("sync", "POST one hot key, sync", "naive Quart + Hypercorn + asyncpg", None, None,
        partial(beside_upserts, ours="sync")),
    Row("rollup-naive", "POST one hot key, rollup", "naive Quart + Hypercorn + asyncpg", 5, 1,
        partial(beside_upserts, ours="rollup")),
    Row("rollup", "POST one hot key, rollup", "sync", 5, 1, partial(strategy_row, ours="rollup", load=post())),
    Row("rollup-ids", "POST one hot key, unique ids, rollup", "sync", None, None,
        partial(strategy_row, ours="rollup", load=post(ids=True)), ids="unique"),
    Row("rollup-1000", "POST 1000 keys, rollup", "sync", None, None,
        partial(strategy_row, ours="rollup", load=post(KEYS))),
    Row("dist-sync", "POST one hot key, dist", "sync", None, None, partial(strategy_row, ours="dist", load=post())),
    Row("batch", f"batches of {BATCH}", "redis-benchmark -P 64 HINCRBY", 1.3, 1.0,
        partial(redis_row, load=batch(ids=False), keys=KEYS, pipeline=64)),
    Row("batch-ids", f"batches of {BATCH}, unique ids", "bare append script", 0.8, 0.6, append_row, ids="unique"),
    Row("settle", "settle 100,000 distinct keys", "bare unnest upsert", 0.7, 0.5, settle, unit="rows/s"),
    Row("p99", f"p99 at {OPEN_RATE:g} req/s through nginx", "webdis through nginx", 1.5, 3.0, latency_row, ALL,
        ids="nginx's request id", unit="ms", lower_is_better=True),
    Row("limit-redis", "POST 1000 keys", "redis-benchmark HINCRBY, limit", None, None,
        partial(redis_row, load=post(KEYS), keys=KEYS, pipeline=1)),
    Row("limit-nginx", "POST 1000 keys through nginx", "nginx returning 204, limit", None, None, nothing_row, ALL,
        ids="nginx's request id"),
)  # fmt: skip
