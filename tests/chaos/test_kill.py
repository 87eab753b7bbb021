"""The main job on the real thing: nodes are killed under load, and Postgres is exact to the unit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import urllib.request
from typing import Any

import asyncpg
import pytest

from tests.chaos.local_cluster import LEASE_MS, Up, until
from tests.conftest import Servers
from tests.faults.load import load

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres]

HOUR_MS = "3600000"
PARTITIONS = 64


def stored(dsn: str) -> dict[str, int]:
    async def fetch() -> dict[str, int]:
        connection = await asyncpg.connect(dsn)
        try:
            return {row["key"]: row["value"] for row in await connection.fetch("SELECT key, value FROM key_counters")}
        finally:
            await connection.close()

    return asyncio.run(fetch())


def cluster_as_seen_by(node: dict[str, Any]) -> dict[str, Any]:
    with urllib.request.urlopen(node["ops_url"] + "/cluster", timeout=10) as answer:
        seen: dict[str, Any] = json.load(answer)
    return seen


@pytest.mark.nginx
@pytest.mark.parametrize("strategy", ["sync", "rollup"])  # dist: test_front.py
def test_two_kills_under_load_fail_no_request_and_lose_and_double_nothing(up: Up, strategy: str) -> None:
    up.environment["TALLY_STRATEGY"] = strategy
    up.start("--nodes", "3").ready()
    attack = subprocess.Popen(
        up.command("attack", "--rate", "300", "--duration", "16", "--json"),
        stdout=subprocess.PIPE,
        cwd=up.root,
        env=up.environment,
    )
    try:
        for name in ("n1", "n2"):
            before = up.until_node(name, "ready")
            until(lambda: stored(up.state()["postgres_dsn"]), "the load has begun")
            assert up.run("kill", name).returncode == 0
            until(lambda name=name, pid=before["pid"]: up.node(name)["pid"] != pid, f"{name} is started again")
        result = json.loads(attack.communicate(timeout=120)[0])
    finally:
        attack.kill()
        attack.wait()
    assert attack.returncode == 0, result
    assert {name: result[name] for name in ("failed", "unknown", "lost", "doubled")} == dict.fromkeys(
        ("failed", "unknown", "lost", "doubled"), 0
    )
    assert result["sent"] == result["acknowledged"] == result["counted"] == result["settled"] > 0


def test_a_killed_nodes_partitions_have_another_owner_before_it_is_back(up: Up) -> None:
    up.environment["TALLY_LEASE_MS"] = LEASE_MS
    up.start("--nodes", "3").ready()
    dead, *others = up.state()["nodes"]
    names = {"n1", "n2", "n3"}
    until(lambda: {m["name"] for m in cluster_as_seen_by(others[0])["members"]} == names, "all have joined")
    lost_id = next(m["id"] for m in cluster_as_seen_by(others[0])["members"] if m["name"] == dead["name"])
    os.kill(dead["pid"], signal.SIGKILL)

    def taken_over() -> bool:
        seen = [cluster_as_seen_by(node) for node in others]
        owned = [partition for each in seen for partition in each["partitions"]["owned"]]
        assert up.node(dead["name"])["pid"] in (dead["pid"], None), "it was started again before the others took over"
        return sorted(owned) == list(range(PARTITIONS)) and all(
            lost_id not in {member["id"] for member in each["members"]} for each in seen
        )

    until(taken_over, "the others own everything")


def test_every_acknowledged_value_is_in_postgres_after_sigterm(up: Up, servers: Servers, postgres_dsn: str) -> None:
    """Nothing settles but the drain itself; Postgres is not the cluster's own, so it can be looked into afterwards."""
    up.environment |= {"TALLY_FLUSH_INTERVAL_MS": HOUR_MS, "TALLY_POSTGRES_DSN": postgres_dsn}
    up.start("--nodes", "3").ready()
    for value in range(1, 51):
        up.increment(value)
    assert stored(postgres_dsn).get("a", 0) < sum(range(1, 51))
    assert up.stop() == 0
    assert stored(postgres_dsn) == {"a": sum(range(1, 51))}


def test_every_acknowledged_value_is_in_postgres_after_all_nodes_and_redis_were_killed(
    up: Up, servers: Servers, postgres_dsn: str
) -> None:
    """Under load. Nothing is settled before; the clients try until the new nodes answer."""
    up.environment |= {"TALLY_FLUSH_INTERVAL_MS": HOUR_MS, "TALLY_POSTGRES_DSN": postgres_dsn}
    with load(up.start("--nodes", "3").ready()["public_url"]) as running:
        running.more(200)
        group, pids = up.everyone()
        for node in up.state()["nodes"]:
            os.kill(node["pid"], signal.SIGKILL)
        os.kill(up.pid_of("redis-server"), signal.SIGKILL)
        up.signal_launcher(signal.SIGKILL)
        assert up.process is not None
        up.process.wait()
        up.until_nothing_is_left(group, pids)
        acknowledged = running.acknowledged
        assert sum(stored(postgres_dsn).values()) == 0, "all of it is in Redis only"
        up.environment["TALLY_FLUSH_INTERVAL_MS"] = "200"
        running.urls[:] = [up.start("--nodes", "3").ready()["public_url"]]
        running.more(100)
    assert running.acknowledged > acknowledged >= 200
    running.is_exact(running.urls[0], postgres_dsn)
