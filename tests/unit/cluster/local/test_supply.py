"""Servers that are given: what is told of one that cannot be used has no password in it."""

from __future__ import annotations

import pytest

from cluster.local.errors import LocalError
from cluster.local.supply import given_postgres, given_redis


@pytest.mark.parametrize("password", ["hunter2", "hunter2#hunter2", "hunter2/hunter2", "hunter2@hunter2", "1/hunter2"])
async def test_a_given_server_that_cannot_be_used_is_told_without_its_password(password: str) -> None:
    with pytest.raises(LocalError, match="--redis-url") as redis:
        await given_redis(f"redis://tally:{password}@127.0.0.1:1/0")
    with pytest.raises(LocalError, match="--postgres-dsn") as postgres:
        await given_postgres(f"postgresql://tally:{password}@127.0.0.1:1/tally")
    assert "hunter2" not in f"{redis.value} {postgres.value}"


async def test_a_given_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(LocalError, match=r"Redis at 127\.0\.0\.1:1/0 does not answer"):
        await given_redis("redis://:hunter2@127.0.0.1:1/0")
    with pytest.raises(LocalError, match=r"Postgres at 127\.0\.0\.1:1/tally does not answer"):
        await given_postgres("postgresql://tally:hunter2@127.0.0.1:1/tally?password=hunter2")
