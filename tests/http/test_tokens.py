"""A node that has tokens: every entrance asks for one, and so does the operations listener."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.attack import load, readback
from cluster.attack.plan import Increment
from cluster.attack.route import NotFounded, found
from node.tokens import line_of
from tests.conftest import Servers
from tests.http.client import PROXY, Answer, Front, Ledger, increment, post, request
from tests.http.conftest import NGINX, PORTS, running_nginx, running_node

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

COUNTS, READS, OTHER, ADMIN = "tally_counts", "tally_reads", "tally_other", "tally_admin"
LINES = [
    line_of(COUNTS, ["increment"], ["default"], "counts"),
    line_of(READS, ["read"], ["default"], "reads"),
    line_of(OTHER, ["read", "write"], ["other"], "other"),
    line_of(ADMIN, ["admin"], ["*"], "admin"),
]
REFUSED = {"content-type": "application/json", "x-content-type-options": "nosniff"}


class Guarded:
    """A node with a file of tokens, by each of its entrances."""

    def __init__(self, port: int, ops_port: int, nginx_port: int | None, file: Path, log: Path, ledger: Ledger) -> None:
        self.file, self.log, self.ledger = file, log, ledger
        self.fronts = {
            "node": Front("node", port, ledger),
            "quart": Front("quart", port, ledger, extra=b"Expect: 100-continue\r\n"),
        }
        if nginx_port is not None:
            self.fronts["nginx"] = Front("nginx", nginx_port, ledger)
        self.ops = Front("ops", ops_port, ledger)


@pytest.fixture(scope="module")
def guarded(servers: Servers, dsn: str, ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, ops_port = tmp_path_factory.mktemp("guarded"), PORTS.take("ops-guarded")
    file, log = folder / "tokens", folder / "node.log"
    file.write_text("\n".join(LINES[:2]))
    settings = {"tokens_file": str(file), "tokens": ";".join(LINES[2:]), "ops_port": str(ops_port)}
    with running_node(servers, dsn, log, **settings) as port:
        if NGINX is None:
            yield Guarded(port, ops_port, None, file, log, ledger)
        else:
            with running_nginx(folder / "nginx", port) as nginx_port:
                yield Guarded(port, ops_port, nginx_port, file, log, ledger)
    told = log.read_text()
    assert not [token for token in (COUNTS, READS, OTHER, ADMIN) if token in told]


@pytest.fixture(params=["node", "quart", pytest.param("nginx", marks=pytest.mark.nginx)])
def front(request: pytest.FixtureRequest, guarded: Guarded) -> Front:
    if request.param not in guarded.fronts:
        pytest.skip("nginx is not on this machine")
    return guarded.fronts[request.param]


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def was_refused(answer: Answer, status: int) -> bool:
    assert answer.status == status, answer
    assert answer.headers.items() >= REFUSED.items()
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert list(answer.error) == ["message"]
    return True


async def test_without_a_token_nothing_is_counted_or_read(front: Front) -> None:
    async with front.connect() as connection:
        for _ in range(3):
            assert was_refused(await connection.ask(front.dressed(post(increment("refused")))), 401)
            assert was_refused(await connection.ask(front.dressed(request("GET", "/increment/refused"))), 401)
            assert was_refused(await connection.ask(front.dressed(request("GET", "/no/such/path"))), 401)
            assert was_refused(await connection.ask(front.dressed(request("PUT", "/increment"))), 401)
        assert (await connection.ask(front.dressed(request("GET", "/readyz")))).status == 200


async def test_two_tokens_in_one_request_are_none(front: Front) -> None:
    twice = {"Authorization": f"Bearer {READS}\r\nAuthorization: Bearer {READS}"}
    for path, named in (("/v1/default/counters", "given twice"), ("/increment/a", "Bad Request.")):
        answer = await front.ask(request("GET", path, **twice))
        assert answer.status == 400
        assert named in answer.error["message"] or front.name == "nginx", "which refuses it itself"


async def test_each_token_may_what_it_may(front: Front) -> None:
    key = f"each {front.name}"
    target = f"/increment/each%20{front.name}"
    async with front.connect() as connection:

        async def asked(data: bytes) -> Answer:
            return await connection.ask(front.dressed(data))

        for value in (1, 2):  # the second time, its head is known
            for token, statuses in (
                (COUNTS, (204, 403)),
                (READS, (403, 200)),
                (OTHER, (403, 403)),
                (ADMIN, (204, 200)),
            ):
                added = await asked(post(increment(key, value), **bearing(token)))
                read = await asked(request("GET", target, **bearing(token)))
                assert (added.status, read.status) == statuses
                if added.status == 204:
                    front.ledger.count(key, value)
                if read.status == 200:
                    assert json.loads(read.body) == {key: front.ledger.counts[key]}
        assert was_refused(await asked(post(increment(key), **bearing(READS))), 403)
        assert was_refused(await asked(post(increment(key), **bearing("tally_unknown"))), 401)


async def test_a_known_head_is_not_taken_for_one_with_another_token(front: Front) -> None:
    """Requests alike but for the token, on one connection, in any order, each with an id of its own."""
    key = f"alike {front.name}"
    async with front.connect() as connection:
        for i in range(4):
            for token, status in ((COUNTS, 204), (READS, 403), ("x", 401), (ADMIN, 204), ("", 401), (COUNTS, 204)):
                sent = post(increment(key), **bearing(token), Idempotency_Key=f"{i}{token}")
                answer = await connection.ask(front.dressed(sent))
                assert answer.status == status
                if status == 204 and "idempotent-replayed" not in answer.headers:
                    front.ledger.count(key, 1)
            assert (await connection.ask(front.dressed(post(increment(key))))).status == 401
    assert front.ledger.counts[key] == 8


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION", "Authorization"])
async def test_a_header_is_a_header_however_it_is_written(front: Front, name: str) -> None:
    async with front.connect() as connection:
        for _ in range(3):
            sent = post(increment(f"written {front.name}"), **{name: f"bearer {COUNTS}"})
            assert (await connection.ask(front.dressed(sent))).status == 204
            front.ledger.count(f"written {front.name}", 1)
            sent = post(increment(f"written {front.name}"), **{name: "bearer x"})
            assert (await connection.ask(front.dressed(sent))).status == 401
    twice = post(increment("twice"), **bearing(COUNTS)).replace(b"Host:", b"authorization: Bearer x\r\nHost:")
    assert (await front.ask(twice)).status == 400


async def test_a_batch_needs_a_token_of_its_namespace(front: Front) -> None:
    def batch(namespace: str, token: str) -> bytes:
        body = json.dumps([{"key": "a", "value": 0}]).encode()
        return request(
            "POST", f"/v1/{namespace}/increments/batch", body, Content_Type="application/json", **bearing(token)
        )

    for namespace, token, status in (
        ("other", OTHER, 200),
        ("%6Fther", OTHER, 403),  # the name as it stands there, which is none
        ("other", COUNTS, 403),
        ("default", OTHER, 403),
        ("other%2F..%2Fdefault", OTHER, 403),
        ("more", OTHER, 403),
        ("more", "x", 401),
    ):
        assert (await front.ask(batch(namespace, token))).status == status, (namespace, token)
    front.ledger.count("a", 0)


async def test_every_route_of_v1_asks_for_its_scope_in_its_namespace(front: Front) -> None:
    """Whatever else is right or wrong with the request: 401 and 403 come before it is looked at."""
    routes = {
        ("POST", "/v1/{}/increments"): {COUNTS: 0, READS: 403},
        ("POST", "/v1/{}/increments/batch"): {COUNTS: 0, READS: 403},
        ("GET", "/v1/{}/counters/x"): {COUNTS: 403, READS: 0},
        ("GET", "/v1/{}/counters"): {COUNTS: 403, READS: 0},
        ("POST", "/v1/{}/counters/read"): {COUNTS: 403, READS: 0},
        ("GET", "/v1/{}/counters/x/history"): {COUNTS: 403, READS: 0},
        ("HEAD", "/v1/{}/counters/x/watch"): {COUNTS: 403, READS: 0},
        ("GET", "/v1/{}/receipts"): {COUNTS: 403, READS: 0},
        ("POST", "/v1/{}/counters/x/reset"): {COUNTS: 403, READS: 403},
    }
    for (method, target), statuses in routes.items():
        for token, status in {None: 401, "x": 401, OTHER: 403, ADMIN: 0, **statuses}.items():
            headers = {} if token is None else bearing(token)
            sent = request(method, target.format("default"), b"[]" if method == "POST" else b"", **headers)
            answer = await front.ask(sent)
            assert answer.status == status or (status == 0 and answer.status in (200, 400, 404)), (
                method,
                target,
                token,
            )


async def test_the_operations_listener_needs_who_may_everything(guarded: Guarded) -> None:
    for method, target, statuses in (
        ("GET", "/cluster", {None: 401, "x": 401, COUNTS: 403, READS: 403, ADMIN: 200}),
        ("GET", "/namespaces/other", {None: 401, COUNTS: 403, OTHER: 200, ADMIN: 200}),
        ("PUT", "/namespaces/other", {None: 401, OTHER: 403}),
        ("POST", "/drain", {None: 401, OTHER: 403, READS: 403}),
        ("GET", "/nothing", {None: 401, COUNTS: 404}),
        ("GET", "/readyz", {None: 200}),
    ):
        for token, status in statuses.items():
            sent = request(method, target, **({} if token is None else bearing(token)))
            assert (await guarded.ops.ask(sent)).status == status, (method, target, token)


async def test_a_changed_file_is_read_again_and_a_bad_one_changes_nothing(guarded: Guarded) -> None:
    front = guarded.fronts["node"]
    new = "tally_new"
    async with front.connect() as connection:

        async def until(token: str, status: int) -> None:
            deadline = time.monotonic() + 15
            while (await connection.ask(post(increment("turned", 0), **bearing(token)))).status != status:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

        front.ledger.count("turned", 0)
        await until(COUNTS, 204)
        guarded.file.write_text(line_of(new, ["increment"], ["default"]))
        await until(new, 204)
        await until(COUNTS, 401)
        guarded.file.write_text("what is this")
        await until_logged(guarded.log, "the tokens stay as they were")
        await until(new, 204)
        guarded.file.write_text("\n".join(LINES[:2]))
        await until(COUNTS, 204)
        await until(new, 401)
    assert "what is this" not in guarded.log.read_text()


async def until_logged(log: Path, text: str) -> None:
    deadline = time.monotonic() + 15
    while text not in await asyncio.to_thread(log.read_text):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_spoofed_address_changes_nothing(limited: Front) -> None:
    """A stranger's X-Real-IP or X-Forwarded-For is no address: all its requests are one client's."""
    answers = []
    for i in range(8):
        spoofed = {"X-Real-IP": f"10.0.0.{i}", "X-Forwarded-For": f"10.0.0.{i}", "Forwarded": f"for=10.0.0.{i}"}
        answers.append((await limited.ask(request("GET", "/increment/spoofed", **spoofed))).status)
    assert answers.count(404) == 5
    for i in range(8):
        assert (await limited.ask(request("GET", "/increment/told", X_Real_IP=f"10.0.0.{i}"), PROXY)).status == 404


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"host": "0.0.0.0"}, 2, "TALLY_HOST=0.0.0.0 can be reached"),
        ({"host": "::"}, 2, "TALLY_HOST=:: can be reached"),
        ({"ops_host": "0.0.0.0"}, 2, "TALLY_OPS_HOST=0.0.0.0 can be reached"),
        ({"tokens": "nonsense"}, 2, "TALLY_TOKENS: Value error, line 1"),
        ({"tokens_file": "/no/such/file"}, 3, "TALLY_TOKENS_FILE=/no/such/file cannot be used"),
    ],
)
def test_a_node_in_the_open_without_tokens_says_what_to_set(
    servers: Servers, dsn: str, settings: dict[str, str], code: int, said: str
) -> None:
    env = {f"TALLY_{name.upper()}": value for name, value in settings.items()}
    env |= {"TALLY_PORT": "0", "TALLY_REDIS_URL": servers.redis_url(), "TALLY_POSTGRES_DSN": dsn}
    if "ops_host" not in env:
        env["TALLY_OPS_PORT"] = "0"
    ended = subprocess.run([sys.executable, "-m", "node"], env=env, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr


@pytest.mark.parametrize("settings", [{"allow_anonymous": "true"}, {"tokens": LINES[0]}], ids=["alone", "tokens"])
def test_a_node_in_the_open_starts_with_tokens_or_when_told_to(
    servers: Servers, dsn: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    with running_node(servers, dsn, tmp_path / "node.log", host="0.0.0.0", ops_host="::1", **settings) as port:
        assert port


def test_the_command_makes_a_token_that_a_node_takes(tmp_path: Path, run_token: Callable[..., list[str]]) -> None:
    file = tmp_path / "tokens"
    (first,) = run_token("--file", str(file), "--name", "one")
    token, line = run_token("--scopes", "read,admin", "--namespaces", "a,b")
    assert file.read_text() == line_of(first, ["read", "increment"], ["default"], "one") + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert line == line_of(token, ["read", "admin"], ["a", "b"])
    assert len(token) > 40
    assert token != first


@pytest.fixture
def run_token() -> Callable[..., list[str]]:
    def run(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "cluster", "token", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    return run


async def test_an_attack_makes_its_namespace_with_the_token_it_is_given(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops_url = f"http://127.0.0.1:{guarded.ops.port}"
    with pytest.raises(NotFounded, match=r"401.*A token is needed"):
        await asyncio.to_thread(found, ops_url, "attacked", "rollup")
    monkeypatch.setenv("TALLY_TOKEN", OTHER)
    with pytest.raises(NotFounded, match=r"403.*the scope admin in the namespace attacked"):
        await asyncio.to_thread(found, ops_url, "attacked", "rollup")
    monkeypatch.setenv("TALLY_TOKEN", ADMIN)
    await asyncio.to_thread(found, ops_url, "attacked", "rollup")
    made = await guarded.ops.ask(request("GET", "/namespaces/attacked", **bearing(ADMIN)))
    assert json.loads(made.body)["strategy"] == "rollup"


async def test_the_load_and_its_audit_bring_the_token_they_are_given(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = guarded.fronts["node"]
    url = f"http://127.0.0.1:{front.port}"
    with monkeypatch.context() as patch:
        patch.setattr(readback, "READ_DEADLINE_S", 0.0)
        with pytest.raises(readback.ReadbackError, match="401"):
            await readback.counted(url, ["load"])
    monkeypatch.setenv("TALLY_TOKEN", ADMIN)
    counts = load.Tally()
    await load.run([Increment(0.0, "load", 3, "id", digit=False)], url, connections=1, tally=counts)
    front.ledger.count("load", 3)
    assert await readback.counted(url, ["load"]) == {"load": 3}
