"""`attack --chaos` on the real thing: faults of many kinds under load, and the audit passes."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.chaos.local_cluster import Up

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres]

DURATION_S = 60 if os.environ.get("SOAK") else 18
SEED = 5


def test_faults_under_load_lose_and_double_nothing(up: Up) -> None:
    up.start("--nodes", "3").ready()
    told = up.run(
        *("attack", "--chaos", "--rate", "150", "--duration", str(DURATION_S), "--seed", str(SEED), "--json"),
        timeout_s=170,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    result = json.loads(told.stdout)
    assert (result["lost"], result["doubled"], result["wrong_reads"], result["audit"]) == (0, 0, [], "passed")
    assert len(result["faults"]) >= DURATION_S // 6, told.stderr
    assert len(result["fault_kinds"]) >= 3, told.stderr
    assert result["acknowledged"] + result["resent"] <= result["counted"] == result["settled"]
    assert all(fault in told.stderr for fault in result["faults"]), "they are told as they happen"


def test_servers_are_killed_by_name_but_not_those_that_were_given_by_url(up: Up, postgres_dsn: str) -> None:
    up.environment["TALLY_POSTGRES_DSN"] = postgres_dsn
    up.start("--nodes", "1").ready()
    pid = up.pid_of("redis-server")
    assert up.run("kill", "redis").stdout.startswith(f"redis (pid {pid}) is killed")
    refused = up.run("kill", "postgres")
    assert refused.returncode == 1
    assert "did not start postgres" in refused.stderr
    up.signal_launcher(signal.SIGTERM)
