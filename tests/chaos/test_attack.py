"""`attack --chaos` on the real thing: faults of many kinds under load, and the audit passes."""

from __future__ import annotations

import json
import os

import pytest

from tests.chaos.local_cluster import Up

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres]

SOAK = bool(os.environ.get("SOAK"))  # the README's line; without it a shorter one
DURATION_S, FAULTS_MIN, KINDS_MIN = (60, 10, 4) if SOAK else (14, 3, 3)
SEED = 5


@pytest.mark.timeout(300)
def test_faults_under_load_lose_and_double_nothing(up: Up) -> None:
    up.start("--nodes", "3").ready()
    told = up.run(
        *("attack", "--chaos", "--rate", "150", "--duration", str(DURATION_S), "--seed", str(SEED), "--json"),
        timeout_s=250,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    result = json.loads(told.stdout)
    assert (result["lost"], result["doubled"], result["wrong_reads"], result["audit"]) == (0, 0, [], "passed")
    assert len(result["faults"]) >= FAULTS_MIN, told.stderr
    assert len(result["fault_kinds"]) >= KINDS_MIN, told.stderr
    assert result["acknowledged"] + result["resent"] <= result["counted"] == result["settled"]
    assert all(fault in told.stderr for fault in result["faults"]), "they are told as they happen"
