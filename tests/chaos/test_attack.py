"""`attack --chaos` on the real thing: faults of many kinds under load, and the audit passes."""

from __future__ import annotations

import json
import os

import pytest

from tests.chaos.local_cluster import Up

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres]

DURATION_S = 60 if os.environ.get("SOAK") else 14
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
    assert len(result["faults"]) >= 3, told.stderr
    assert len(result["fault_kinds"]) >= 3, told.stderr
    assert result["acknowledged"] + result["resent"] <= result["counted"] == result["settled"]
    assert all(fault in told.stderr for fault in result["faults"]), "they are told as they happen"
