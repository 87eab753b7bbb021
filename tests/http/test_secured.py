"""A node with everything turned on: TLS on its listeners, to Redis and to Postgres, the least rights on both, tokens.

And what it tells meanwhile: no password and no token, whatever goes wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import trustme
from redis import Redis
from redis.exceptions import RedisError

from cluster.local.programs import redis_programs
from node.tokens import line_of
from tests.conftest import Servers
from tests.http.client import CLOSED, Front, Ledger, increment, post, request
from tests.http.conftest import DEADLINE_S, PORTS, execute, running_node
from tests.rights import as_node_role, users_file

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

TOKEN = "tally_Wm3token4of5a6client7"
REDIS_PASSWORD, POSTGRES_PASSWORD = "redis-hunter2-secret", "postgres-hunter2-secret"
SECRETS = (TOKEN, REDIS_PASSWORD, POSTGRES_PASSWORD)
BEARING = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Certified:
    """Files of one authority and one certificate for 127.0.0.1; another authority, which knows of neither."""

    ca: Path
    cert: Path
    key: Path
    other_ca: Path
    trust: ssl.SSLContext
    distrust: ssl.SSLContext


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    folder = tmp_path_factory.mktemp("certificates")
    ca, other = trustme.CA(), trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost")
    files = Certified(
        *(folder / name for name in ("ca.pem", "cert.pem", "key.pem", "other.pem")),
        ssl.create_default_context(),
        ssl.create_default_context(),
    )
    ca.cert_pem.write_to_path(str(files.ca))
    other.cert_pem.write_to_path(str(files.other_ca))
    issued.private_key_pem.write_to_path(str(files.key))
    files.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    ca.configure_trust(files.trust)
    other.configure_trust(files.distrust)
    return files


class TlsRedis:
    """A Redis that speaks TLS only, with the users of deploy/redis/users.acl and no other."""

    def __init__(self, folder: Path, certified: Certified, program: Path) -> None:
        self._folder, self._program = folder, program
        self._port = PORTS.take(f"redis-{os.urandom(4).hex()}")
        (folder / "users.acl").write_text(users_file(REDIS_PASSWORD))
        self.url = f"rediss://tally:{REDIS_PASSWORD}@127.0.0.1:{self._port}/0?ssl_ca_certs={certified.ca}"
        self._tls = {"tls-cert-file": certified.cert, "tls-key-file": certified.key, "tls-ca-cert-file": certified.ca}

    def start(self) -> None:
        settings = {"port": "0", "tls-port": str(self._port), "tls-auth-clients": "no", "bind": "127.0.0.1"}
        settings |= {"appendonly": "yes", "aclfile": "users.acl", "save": ""} | {
            n: str(p) for n, p in self._tls.items()
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([str(self._program), *options], cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None and "tls" in (self._folder / "redis.log").read_text().lower():
                pytest.skip("this machine's Redis has no TLS")
            assert self._process.poll() is None, (self._folder / "redis.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as redis:
                return bool(redis.info("server"))
        except (RedisError, OSError):
            return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def tls_redis(certified: Certified, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    program = next(iter(redis_programs("auto")), None)
    assert program is not None, "no Redis: `up` would not start either"
    redis = TlsRedis(tmp_path_factory.mktemp("redis"), certified, program.path)
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture(scope="module")
def tls_dsn(servers: Servers, certified: Certified) -> Iterator[str]:
    """A database of the run's Postgres, which speaks TLS meanwhile, as the least it takes to be a node."""
    base, name = servers.postgres_dsn(), f"tls_{os.urandom(5).hex()}"
    servers.run(execute(base, f"CREATE DATABASE {name}"))
    with speaking_tls(servers, base, certified):
        dsn = servers.run(as_node_role(base.rsplit("/", 1)[0] + "/" + name, POSTGRES_PASSWORD))
        yield f"{dsn}?sslmode=verify-full&sslrootcert={certified.ca}"
    servers.run(execute(base, f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def speaking_tls(servers: Servers, dsn: str, certified: Certified) -> Iterator[None]:
    ((home,),) = servers.run(execute(dsn, "SHOW data_directory"))
    owner = Path(home).stat()
    for path in (certified.cert, certified.key):
        copied = Path(shutil.copy(path, home))
        os.chown(copied, owner.st_uid, owner.st_gid)
        copied.chmod(0o600)
    for name, value in {"ssl_cert_file": certified.cert.name, "ssl_key_file": certified.key.name, "ssl": "on"}.items():
        try:
            servers.run(execute(dsn, f"ALTER SYSTEM SET {name} = '{value}'"))
        except asyncpg.PostgresError as error:
            if "SSL is not supported" in str(error):
                pytest.skip("this machine's Postgres has no TLS")
            raise
    servers.run(execute(dsn, "SELECT pg_reload_conf()"))
    yield
    servers.run(execute(dsn, "ALTER SYSTEM RESET ssl"))
    servers.run(execute(dsn, "SELECT pg_reload_conf()"))


@pytest.fixture(scope="module")
def settings(certified: Certified, tls_redis: TlsRedis) -> dict[str, str]:
    return {
        "redis_url": tls_redis.url,
        "tls_cert": str(certified.cert),
        "tls_key": str(certified.key),
        "ops_tls_cert": str(certified.cert),
        "ops_tls_key": str(certified.key),
        "tokens": line_of(TOKEN, ["admin"], ["*"]),
        "log_level": "debug",
    }


@dataclass
class Secured:
    public: Front
    ops: Front
    log: Path


@pytest.fixture(scope="module")
def secured(
    servers: Servers,
    tls_dsn: str,
    certified: Certified,
    settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Secured]:
    log, ops_port = tmp_path_factory.mktemp("secured") / "node.log", PORTS.take("ops-secured")
    with running_node(servers, tls_dsn, log, certified.trust, ops_port=str(ops_port), **settings) as port:
        fronts = [Front(name, at, Ledger(), tls=certified.trust) for name, at in (("public", port), ("ops", ops_port))]
        yield Secured(*fronts, log)
    assert not told_secrets(log.read_text())


def told_secrets(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


async def test_everything_works_over_tls_with_the_least_rights(secured: Secured, tls_dsn: str) -> None:
    public = secured.public
    async with public.connect() as connection:
        for value in (1, 2, 3):
            assert (await connection.ask(post(increment("a", value), **BEARING))).status == 204
        sent = [post(increment("a", 5), Idempotency_Key="once", **BEARING)] * 2
        assert [(await connection.ask(data)).headers.get("idempotent-replayed") for data in sent] == [None, "true"]
        for namespace, strategy in (("d", "dist"), ("s", "sync"), ("r", "rollup")):
            terms = json.dumps({"strategy": strategy, "history": True}).encode()
            assert (await secured.ops.ask(request("PUT", f"/namespaces/{namespace}", terms, **BEARING))).status == 200
            items = json.dumps([{"key": "k", "value": 2, "idempotency_key": str(i)} for i in (1, 1, 2)]).encode()
            sent_batch = request(
                "POST", f"/v1/{namespace}/increments/batch", items, Content_Type="application/json", **BEARING
            )
            answer = await connection.ask(sent_batch)
            assert (answer.status, json.loads(answer.body)["counted"]) == (200, 2)
        assert json.loads((await connection.ask(request("GET", "/increment/a", **BEARING))).body) == {"a": 11}
        assert (await connection.ask(post(increment("a")))).status == 401
    expected = {("default", "a"): 11, ("d", "k"): 4, ("s", "k"): 4, ("r", "k"): 4}
    deadline = time.monotonic() + DEADLINE_S
    connection_to_store = await asyncpg.connect(tls_dsn)
    while True:  # settled, rolled up
        rows = await connection_to_store.fetch("SELECT namespace, key, value FROM key_counters")
        if {(row["namespace"], row["key"]): row["value"] for row in rows} == expected:
            break
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(0.05)
    await connection_to_store.close()


async def test_what_is_refused_is_told_over_tls_too(secured: Secured) -> None:
    assert (await secured.public.ask(request("GET", "/increment/x", Cookie="c" * 40_000, **BEARING))).status == 431
    assert (await secured.public.ask(b"nonsense\r\n\r\n")).status == 400
    head, _, body = post(increment("slow", 0), **BEARING).partition(b"\r\n\r\n")
    async with secured.public.connect() as connection:  # in pieces, as TLS cuts them
        await connection.send(head)
        await connection.send(b"\r\n\r\n" + body[:3])
        assert (await connection.ask(body[3:])).status == 204


async def test_who_speaks_no_tls_or_trusts_another_gets_nothing(secured: Secured, certified: Certified) -> None:
    for front in (secured.public, secured.ops):
        plain = Front("plain", front.port, Ledger())
        assert await plain.ask(request("GET", "/readyz")) == CLOSED
        with pytest.raises(ssl.SSLCertVerificationError):
            await Front("distrusting", front.port, Ledger(), tls=certified.distrust).ask(request("GET", "/readyz"))


async def test_what_a_node_tells_of_itself_has_no_secret(secured: Secured) -> None:
    for target in ("/cluster", "/namespaces", "/readyz", "/livez", "/metrics", "/"):
        assert not told_secrets((await secured.ops.ask(request("GET", target, **BEARING))).body.decode())
    cluster = json.loads((await secured.ops.ask(request("GET", "/cluster", **BEARING))).body)
    assert {member["url"].partition(":")[0] for member in cluster["members"]} == {"https"}


async def test_a_redis_that_goes_and_comes_is_told_of_without_its_password(
    secured: Secured, tls_redis: TlsRedis
) -> None:
    await asyncio.to_thread(tls_redis.stop)
    async with secured.public.connect() as connection:
        await until_status(connection.ask, post(increment("b"), **BEARING), 503)
        await asyncio.to_thread(tls_redis.start)
        await until_status(connection.ask, post(increment("b"), **BEARING), 204)
    text = await asyncio.to_thread(secured.log.read_text)
    assert "writing stopped" in text
    assert not told_secrets(text)


async def until_status(ask, data: bytes, status: int) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + DEADLINE_S
    while (await ask(data)).status != status:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"redis_url": ("ca.pem", "other.pem")}, "certificate verify failed"),
        ({"postgres_dsn": ("ca.pem", "other.pem")}, "certificate verify failed"),
        ({"redis_url": (REDIS_PASSWORD, "wrong-secret")}, "invalid username-password"),
        ({"postgres_dsn": (POSTGRES_PASSWORD, "wrong-secret")}, "password authentication failed"),
        ({"redis_url": ("rediss://", "redis://")}, "Redis"),
        ({"postgres_dsn": (POSTGRES_PASSWORD, "wrong-secret/odd")}, "TALLY_POSTGRES_DSN"),
        ({"redis_url": (REDIS_PASSWORD, "wrong-secret#odd")}, "TALLY_REDIS_URL"),
        ({"tls_key": ("key.pem", "ca.pem")}, "TLS cannot be spoken with"),
        ({"tls_cert": ("cert.pem", "missing.pem")}, "TLS cannot be spoken with"),
        ({"tls_key": (r".*", "")}, "TALLY_TLS_KEY"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_what_is_set_wrong_is_told_and_no_secret_with_it(
    tls_dsn: str, settings: dict[str, str], wrong: dict[str, tuple[str, str]], said: str
) -> None:
    given = settings | {"postgres_dsn": tls_dsn, "port": "0", "ops_port": "0"}
    for name, (pattern, replacement) in wrong.items():
        given[name] = re.sub(pattern, replacement, given[name], count=1)
    env = {f"TALLY_{name.upper()}": value for name, value in given.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node", env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    text = ""
    try:
        async with asyncio.timeout(DEADLINE_S):
            async for line in process.stdout:
                text += line.decode()
                if said in text:
                    break
    finally:
        if process.returncode is None:
            process.terminate()
        text += (await process.stdout.read()).decode()
        await process.wait()
    assert said in text
    assert not [secret for secret in (*SECRETS, "wrong-secret") if secret in text]
