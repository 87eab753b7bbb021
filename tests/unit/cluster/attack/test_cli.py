"""The command: where it sends, what it says, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from cluster.attack.cli import Target, attack, find_target


class Cluster:
    """A counter behind a port, in a thread of its own (the command runs its own loop)."""

    def __init__(self) -> None:
        self.url = ""
        self.values: dict[str, int] = {}
        self.forget_every = 0
        self.refuse_every = 0
        self.limit_after = 0
        self.founded: list[tuple[str, str]] = []
        self.brought: set[tuple[str, str | None]] = set()  # (method, Authorization)
        self.interrupt_at = 0
        self.behind = 0  # of every value that is read
        self._posts = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    async def _see(self, request: web.Request, _: web.StreamResponse) -> None:
        self.brought.add((request.method, request.headers.get("Authorization")))

    async def _post(self, request: web.Request) -> web.Response:
        self._posts += 1
        if self._posts == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        if self.refuse_every and self._posts % self.refuse_every == 0:
            return web.json_response({"error": {"message": "m", "counted": False}}, status=503)
        if self.limit_after and self._posts > self.limit_after:
            if self._posts % 10 == 0:  # a node that died had counted it, and the one that nginx asked then answers
                await self._count(request)
            return web.json_response({"error": {"message": "Too Many Requests"}}, status=429)
        if not self.forget_every or self._posts % self.forget_every:
            await self._count(request)
        return web.Response(status=204)

    async def _count(self, request: web.Request) -> None:
        body = await request.json()
        self.values[body["key"]] = self.values.get(body["key"], 0) + body["value"]

    async def _add(self, request: web.Request) -> web.Response:
        await self._post(request)
        return web.json_response({"value": self.values.get((await request.json())["key"])})

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response({"value": self.values[request.match_info["key"]]})

    async def _put(self, request: web.Request) -> web.Response:
        strategy = (await request.json())["strategy"]
        self.founded.append((request.match_info["ns"], strategy))
        return web.json_response({"error": {"message": "m"}}, status=409 if strategy == "sync" else 200)

    async def _get(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if key not in self.values:
            return web.json_response({"error": {"message": "Not Found."}}, status=404)
        return web.json_response({key: self.values[key] - self.behind})

    def _serve(self) -> None:
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application()
        app.on_response_prepare.append(self._see)
        app.add_routes([web.post("/increment", self._post), web.get("/increment/{key}", self._get)])
        app.add_routes([web.post("/v1/shop/increments", self._add), web.get("/v1/shop/counters/{key}", self._show)])
        app.add_routes([web.put("/namespaces/{ns}", self._put)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def __enter__(self) -> Cluster:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        yield made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(attack, ["--rate", "300", "--duration", "0.5", *arguments])


def test_an_exact_cluster_passes_with_exit_code_0(cluster: Cluster) -> None:
    result = run("--url", cluster.url, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["sent"] == said["acknowledged"] == said["counted"] == 150
    assert said["settled"] is None
    assert len(cluster.values) == said["keys"] > 1


def test_every_request_of_an_attack_brings_the_token(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"ops_url": cluster.url, "state": "ready"}
    (tmp_path / "cluster.json").write_text(json.dumps({"public_url": cluster.url, "nodes": [node]}))
    monkeypatch.setenv("TALLY_TOKEN", "t")
    assert run("--data", str(tmp_path), "--namespace", "shop", "--strategy", "rollup").exit_code == 0
    assert cluster.brought == {("PUT", "Bearer t"), ("POST", "Bearer t"), ("GET", "Bearer t")}


def test_a_namespace_is_attacked_by_its_own_routes_and_made_where_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    node = {"ops_url": cluster.url, "state": "ready"}
    (tmp_path / "cluster.json").write_text(json.dumps({"public_url": cluster.url, "nodes": [node]}))
    said = json.loads(run("--data", str(tmp_path), "--namespace", "shop", "--strategy", "rollup", "--json").stdout)
    assert said["sent"] == said["acknowledged"] == said["counted"] == 150
    assert said["answers"] == {"200": 150}
    assert cluster.founded == [("shop", "rollup")]
    other = run("--data", str(tmp_path), "--namespace", "shop", "--strategy", "sync")
    assert (other.exit_code, "409" in other.output) == (2, True)
    assert run("--url", cluster.url, "--strategy", "sync").exit_code == 2


def test_lost_increments_make_the_exit_code_1(cluster: Cluster) -> None:
    cluster.forget_every = 50
    result = run("--url", cluster.url, "--allow-failed", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["lost"] == 3


def test_failed_requests_make_the_exit_code_1_unless_allowed(cluster: Cluster) -> None:
    cluster.refuse_every = 50
    result = run("--url", cluster.url)
    assert result.exit_code == 1
    assert "audit passed" in result.stdout
    assert "503: 3" in result.stdout
    assert run("--url", cluster.url, "--allow-failed").exit_code == 0


def test_a_rate_limit_is_told_and_what_counted_before_a_429_is_not_taken_for_doubled(cluster: Cluster) -> None:
    cluster.limit_after = 60
    result = run("--url", cluster.url, "--allow-failed", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["answers"] == {"204": 60, "429": 90}
    assert (said["acknowledged"], said["failed"], said["unknown"]) == (60, 90, 90)
    assert (said["lost"], said["doubled"]) == (0, 0)
    assert said["counted"] > 60


def test_ctrl_c_ends_the_load_and_the_audit_follows(cluster: Cluster) -> None:
    cluster.interrupt_at = 50
    result = run("--url", cluster.url, "--duration", "600", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert 50 <= said["sent"] == said["acknowledged"] == said["counted"] < 600 * 300


def test_the_target_is_read_from_the_clusters_folder(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps({"public_url": "http://127.0.0.1:3333", "postgres_dsn": "postgresql://x"}))
    assert find_target(None, tmp_path).postgres_dsn == "postgresql://x"
    assert find_target("http://127.0.0.1:3333/", tmp_path).postgres_dsn == "postgresql://x"
    assert find_target("http://elsewhere:1", tmp_path).postgres_dsn is None


@pytest.mark.parametrize("text", [None, "nonsense", "{}", "[]"])
def test_without_a_cluster_the_error_names_the_next_step(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(click.UsageError, match="--url"):
        find_target(None, tmp_path)


def test_nothing_to_send_is_a_usage_error(cluster: Cluster) -> None:
    assert run("--url", cluster.url, "--rate", "0.1").exit_code == 2


def test_url_and_postgres_dsn_together_need_no_cluster_here(tmp_path: Path) -> None:
    target = find_target("http://there:3333", tmp_path, "postgresql://there/tally")
    assert target == Target("http://there:3333", "postgresql://there/tally")


def test_the_database_may_be_told_by_environment_so_that_no_password_is_in_the_arguments(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_POSTGRES_DSN", "postgresql://tally:hunter2@127.0.0.1:1/tally")
    result = run("--url", cluster.url)
    assert result.exit_code == 2
    assert "Postgres cannot be asked" in result.stderr
    assert "hunter2" not in result.output


def test_a_cluster_that_takes_nothing_fails_though_nothing_is_lost(cluster: Cluster) -> None:
    cluster.refuse_every = 1
    result = run("--url", cluster.url, "--allow-failed", "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["acknowledged"], said["lost"], said["doubled"], said["audit"]) == (0, 0, 0, "failed")


def test_a_value_that_is_read_too_small_makes_the_exit_code_1(cluster: Cluster) -> None:
    cluster.behind = 1
    result = run("--url", cluster.url, "--reads", "100", "--digits", "0")
    assert result.exit_code == 1
    assert "a read of attack-" in result.stdout


def test_chaos_needs_a_cluster_here(cluster: Cluster, tmp_path: Path) -> None:
    result = run("--url", cluster.url, "--chaos", "--data", str(tmp_path))
    assert result.exit_code == 1
    assert "`up`" in str(result.exception)
