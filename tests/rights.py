"""The least rights that deploy/ gives to nodes, on the tests' servers."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis import Redis

from node.migrations import migrate

DEPLOY = Path(__file__).parents[1] / "deploy"
ROLES = DEPLOY / "postgres" / "roles.sql"
ACL = DEPLOY / "redis" / "users.acl"


def users_file(password: str) -> str:
    """users.acl as it is put beside a Redis."""
    return ACL.read_text().replace("SHA256", sha256(password.encode()).hexdigest())


def as_acl_user(redis_url: str) -> str:
    """The URL of the user of users.acl, made on this server as a file of users would make it."""
    (line,) = [line for line in ACL.read_text().splitlines() if line.startswith("user tally ")]
    _, name, *rules = line.replace("#SHA256", ">tally").split()
    with Redis.from_url(redis_url) as redis:
        redis.execute_command("ACL", "SETUSER", name, "reset", *rules)
    return redis_url.replace("://", f"://{name}:tally@")


async def as_node_role(postgres_dsn: str, password: str = "tally") -> str:
    """The DSN of roles.sql's role, in a database that its owner has brought up to date."""
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await migrate(connection)
        await connection.execute(ROLES.read_text())
        await connection.execute(f"ALTER ROLE tally_node LOGIN PASSWORD '{password}'")
    finally:
        await connection.close()
    given = urlsplit(postgres_dsn)
    return given._replace(netloc=f"tally_node:{password}@{given.netloc.rpartition('@')[2]}").geturl()
