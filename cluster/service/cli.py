"""`tally migrate` and `tally balancer`."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import asyncpg
import click

from cluster.errors import ClusterError
from cluster.postgres_errors import POSTGRES_ERRORS
from cluster.registry import connect
from cluster.service.shared import SharedFolder

CONNECT_TIMEOUT_S = 5.0
RETRY_S = 0.5


@click.command()
@click.option("--postgres-dsn", envvar="TALLY_POSTGRES_DSN", required=True, help="The database. [TALLY_POSTGRES_DSN]")
@click.option("--wait", "wait_s", default=60.0, show_default=True, help="Seconds Postgres may take to come up.")
def migrate(postgres_dsn: str, wait_s: float) -> None:
    """Bring the database's schema up to date. Repeating it does nothing; several at once wait for each other."""
    try:
        applied = asyncio.run(_migrate(postgres_dsn, wait_s))
    except POSTGRES_ERRORS as error:
        raise ClusterError(f"The schema cannot be brought up to date: {error or type(error).__name__}") from error
    click.echo(f"applied {', '.join(applied)}" if applied else "the schema is up to date")


async def _migrate(dsn: str, wait_s: float) -> list[str]:
    from node.migrations import migrate as apply  # not at import: the other commands need no node

    connection = await _connection(dsn, wait_s)
    try:
        return await apply(connection)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _connection(dsn: str, wait_s: float) -> asyncpg.Connection:
    """A connection, as soon as Postgres takes one. Raises the last error after `wait_s`."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + wait_s
    while True:
        try:
            return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
        except (OSError, asyncpg.CannotConnectNowError):
            if loop.time() > give_up_at:
                raise
            await asyncio.sleep(RETRY_S)


@click.command()
@click.option("--redis-url", envvar="TALLY_REDIS_URL", required=True, help="The registry. [TALLY_REDIS_URL]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Shared with nginx, which deploy/nginx/run starts.",
)
@click.option("--port", default=3333, show_default=True, type=click.IntRange(1, 65535), help="What nginx listens on.")
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Made once the nodes that are ready, and no others, are in the folder. For a health check; on a tmpfs.",
)
def balancer(redis_url: str, folder: Path, port: int, ready_file: Path | None) -> None:
    """Keep the upstreams of an nginx elsewhere equal to the ready nodes, until SIGTERM."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        asyncio.run(_follow(SharedFolder(folder, port, ready_file), redis_url))
    except OSError as error:
        raise ClusterError(f"Cannot use {folder} ({error}): it must be writable by this user.") from error


async def _follow(balancer: SharedFolder, redis_url: str) -> None:
    balancer.prepare()
    registry = connect(redis_url)
    following = asyncio.create_task(balancer.follow(registry))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, following.cancel)
    try:
        await following
    except asyncio.CancelledError:
        if not following.cancelled():
            raise
    finally:
        await registry.close()
