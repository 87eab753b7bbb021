"""Real nodes for the tests: `python -m node` on a real Redis and Postgres, directly and behind a real nginx."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from ssl import SSLContext
from urllib.request import urlopen

import asyncpg
import pytest
from redis import Redis

from cluster.balancer import Balancer
from cluster.local.ports import Ports
from cluster.upstreams import text_of
from tests.conftest import Servers
from tests.http.client import Front, Ledger

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
DEADLINE_S = 30.0
FRONTS = ["node", "quart", pytest.param("nginx", marks=pytest.mark.nginx)]
PORTS = Ports()


@contextmanager
def running(
    command: list[str],
    log: Path,
    port: int,
    path: str,
    env: dict[str, str] | None = None,
    tls: SSLContext | None = None,
) -> Iterator[None]:
    """A process that answers at http(s)://127.0.0.1:<port><path>; at the end SIGTERM, and it must end in good order."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        give_up_at = time.monotonic() + DEADLINE_S
        while not answers(port, path, tls):
            assert process.poll() is None, f"{command} ended:\n{log.read_text()}"
            assert time.monotonic() < give_up_at, f"{command} does not answer:\n{log.read_text()}"
            time.sleep(0.02)
        yield
        process.terminate()
        assert process.wait(DEADLINE_S) == 0, f"{command} ended in disorder:\n{log.read_text()}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def answers(port: int, path: str, tls: SSLContext | None = None) -> bool:
    try:
        url = f"http{'s' if tls else ''}://127.0.0.1:{port}{path}"
        with urlopen(url, timeout=5, context=tls) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def running_node(
    servers: Servers, dsn: str, log: Path, tls: SSLContext | None = None, **settings: str
) -> Iterator[int]:
    """A node's public port, while it runs. Only 127.0.0.1, where nginx is, is a trusted proxy."""
    port = PORTS.take(f"node-{os.urandom(4).hex()}")
    env = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    env |= {
        "TALLY_PORT": str(port),
        "TALLY_OPS_PORT": "0",
        "TALLY_REDIS_URL": servers.redis_url(),
        "TALLY_POSTGRES_DSN": dsn,
        "TALLY_TRUSTED_PROXIES": "127.0.0.1/32",
        "TALLY_RATE_LIMIT": "0",
        "TALLY_STATSD": "",
        "TALLY_FLUSH_INTERVAL_MS": "200",
        "TALLY_DRAIN_NOTICE_MS": "0",
        **{f"TALLY_{name.upper()}": value for name, value in settings.items()},
    }
    with running([sys.executable, "-W", "error", "-m", "node"], log, port, "/readyz", env, tls):
        yield port
    assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def running_nginx(folder: Path, node_port: int) -> Iterator[int]:
    """nginx's port, in front of one node."""
    assert NGINX is not None
    port = PORTS.take(f"nginx-{os.urandom(4).hex()}")
    balancer = Balancer(folder, port, Path(NGINX), host="127.0.0.1")
    balancer.prepare()
    url = f"http://127.0.0.1:{node_port}"
    (folder / "upstreams.conf").write_text(text_of([url.removeprefix("http://")]))
    with running(balancer.command(), folder / "nginx.log", port, "/readyz"):
        yield port


@contextmanager
def empty_stores(servers: Servers) -> Iterator[str]:
    """An empty Redis, and the DSN of an empty database."""
    with Redis.from_url(servers.redis_url()) as redis:
        redis.flushall()
    base, name = servers.postgres_dsn(), f"http_{os.urandom(5).hex()}"
    servers.run(execute(base, f"CREATE DATABASE {name}"))
    yield base.rsplit("/", 1)[0] + "/" + name
    servers.run(execute(base, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(dsn: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(sql)
    finally:
        await connection.close()
    return rows


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture(scope="module")
def dsn(servers: Servers, ledger: Ledger) -> Iterator[str]:
    """At the end, what is in Postgres is what was acknowledged: the right sums, and no other key."""
    with empty_stores(servers) as dsn:
        yield dsn
        rows = servers.run(execute(dsn, "SELECT key, value FROM key_counters"))
        assert {row["key"]: row["value"] for row in rows} == ledger.settled()


@pytest.fixture(scope="module")
def node_port(servers: Servers, dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_node(servers, dsn, tmp_path_factory.mktemp("node") / "node.log") as port:
        yield port


@pytest.fixture(scope="module")
def open_front(
    node_port: int, ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Front]]:
    fronts = {
        "node": Front("node", node_port, ledger),
        "quart": Front("quart", node_port, ledger, extra=b"Expect: 100-continue\r\n"),
    }
    if NGINX is None:
        yield lambda name: fronts[name] if name in fronts else pytest.skip("nginx is not on this machine")
        return
    with running_nginx(tmp_path_factory.mktemp("nginx"), node_port) as port:
        fronts["nginx"] = Front("nginx", port, ledger)
        yield fronts.__getitem__


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, open_front: Callable[[str], Front]) -> Front:
    """The node's own port by either entrance, and nginx's before it."""
    return open_front(request.param)


@pytest.fixture
def node(open_front: Callable[[str], Front]) -> Front:
    return open_front("node")


@pytest.fixture
def limited(servers: Servers, dsn: str, node_port: int, ledger: Ledger, tmp_path: Path) -> Iterator[Front]:
    """One more node of the same cluster, which takes five requests in five seconds."""
    with running_node(servers, dsn, tmp_path / "node.log", node="limited", rate_limit="5/600s") as port:
        yield Front("node", port, ledger)


@pytest.fixture
def key(front: Front, request: pytest.FixtureRequest) -> str:
    """One that nothing else uses."""
    return str(request.node.name)
