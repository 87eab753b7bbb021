"""One local cluster a test, and nothing of it left afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.local_cluster import Up


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    cluster = Up(tmp_path / "data")
    yield cluster
    if cluster.process is not None and cluster.process.poll() is None:
        cluster.process.kill()
        cluster.process.wait()
    if cluster.folder.path.exists():
        os.close(cluster.folder.acquire())  # waits for the guard
        cluster.folder.wipe()  # also what Postgres has outside
