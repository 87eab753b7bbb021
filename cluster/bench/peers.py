"""What we are compared with: webdis, nginx alone, redis-benchmark, and the programs in tests/bench."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cluster.bench.load import LoadFailed, Sample
from cluster.bench.pins import Place
from cluster.bench.stage import HOST, Server, Stage
from cluster.local.errors import LocalError
from cluster.local.launcher import ROOT
from cluster.local.programs import which
from cluster.subprocesses import communicate

PROGRAMS = ROOT / "tests" / "bench"
OVERTIME_S = 60.0
NOTHING_CONF = """worker_processes auto;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path temp-body;
    proxy_temp_path temp-proxy;
    fastcgi_temp_path temp-fastcgi;
    uwsgi_temp_path temp-uwsgi;
    scgi_temp_path temp-scgi;
    server {{ listen {listen}; location / {{ return 204; }} }}
}}
"""


class PeerMissing(LocalError):
    """A peer that is not on this machine. Its rows are left out."""


def program(name: str, package: str) -> Path:
    """The peer's executable. PeerMissing says how to get it."""
    found = which(name)
    if found is None:
        raise PeerMissing(f"{name} is not installed: apt-get install {package} (its own service is not needed).")
    return found


def script(name: str) -> list[str]:
    """How to run one of the programs in tests/bench. PeerMissing where only the package is installed."""
    path = PROGRAMS / f"{name}.py"
    if not path.exists():
        raise PeerMissing(f"{path.name} comes with the repository only: run this in a clone.")
    return [sys.executable, "-m", f"tests.bench.{name}"]


async def start_webdis(stage: Stage, stack: AsyncExitStack, redis_url: str, place: Place) -> Server:
    """One thread with one connection to Redis, on which it pipelines: the fastest of those tried (1, 4, 20)."""
    port = stage.ports.take("webdis")
    redis_port = int(redis_url.rpartition(":")[2].partition("/")[0])
    settings: dict[str, Any] = {"redis_host": HOST, "redis_port": redis_port, "http_host": HOST, "http_port": port}
    settings |= {"threads": 1, "pool_size": 1, "daemonize": False, "database": 0, "acl": []}
    settings |= {"verbosity": 0, "logfile": "/dev/null", "redis_auth": None}
    conf = stage.sub("webdis") / "webdis.json"
    conf.write_text(json.dumps(settings))
    url = f"http://{HOST}:{port}"
    recipe = stage.recipe("webdis", [str(program("webdis", "webdis")), str(conf)])
    server = Server("webdis", stage.group, recipe, url, lambda: stage.answers(f"{url}/PING"))
    await stage.start(stack, server, place)
    return server


async def start_naive(stage: Stage, stack: AsyncExitStack, dsn: str, place: Place) -> Server:
    """tests/bench/naive.py: Quart on Hypercorn, one upsert a request."""
    port = stage.ports.take("naive")
    url = f"http://{HOST}:{port}"
    recipe = stage.recipe("naive", [*script("naive"), str(port), dsn])
    server = Server("naive", stage.group, recipe, url, lambda: stage.answers(f"{url}/livez"))
    await stage.start(stack, server, place)
    return server


async def start_nothing(stage: Stage, stack: AsyncExitStack, place: Place) -> Server:
    """nginx that answers 204 itself."""
    port = stage.ports.take("nothing")
    folder = stage.sub("nothing")
    (folder / "nginx.conf").write_text(NOTHING_CONF.format(listen=f"{HOST}:{port}"))
    nginx = str(program("nginx", "nginx"))
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    url = f"http://{HOST}:{port}"
    server = Server("nothing", stage.group, stage.recipe("nothing", command), url, lambda: stage.answers(url))
    await stage.start(stack, server, place)
    return server


async def run(stage: Stage, command: list[str], place: Place, timeout_s: float) -> str:
    """What a program prints. LoadFailed when it fails, with the end of what it said."""
    recipe = stage.recipe("run", command)
    with stage.cores.on(place):
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=recipe.cwd,
            env=recipe.env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=stage.group,
        )
    said, _ = await communicate(process, timeout_s)
    if process.returncode:
        raise LoadFailed(f"{Path(command[0]).name} failed: {said.decode(errors='replace').strip()[-300:]}")
    return said.decode(errors="replace")


async def redis_benchmark(stage: Stage, redis_url: str, seconds: float, pipeline: int, rate: float) -> Sample:
    """HINCRBY over 1000 fields for about `seconds`, of which `rate` (a guess) makes a number of requests."""
    port = redis_url.rpartition(":")[2].partition("/")[0]
    requests = max(1000, round(rate * seconds))
    command = [str(program("redis-benchmark", "redis-tools")), "-h", HOST, "-p", port, "-c", "50", "--csv"]
    command += ["-P", str(pipeline), "-n", str(requests), "-r", "1000", "HINCRBY", "h", "f:__rand_int__", "1"]
    said = await run(stage, command, "load", seconds * 10 + OVERTIME_S)
    return parse_redis_benchmark(said, requests)


def parse_redis_benchmark(said: str, requests: int) -> Sample:
    """The row after the CSV's head; its second cell is requests a second."""
    found = re.search(r'^"HINCRBY[^"]*","([\d.]+)"', said, re.MULTILINE)
    if found is None or float(found.group(1)) <= 0:
        raise LoadFailed(f"redis-benchmark told no rate: {said.strip()[-200:]!r}. Try --seconds 3.")
    rate = float(found.group(1))
    return Sample(requests, requests / rate, rate)


async def bare_appends(stage: Stage, redis_url: str, seconds: float, batch: int) -> Sample:
    """tests/bench/append_loop.py: node/log.lua's append, `batch` new ids a call, two calls in flight, nothing else."""
    command = [*script("append_loop"), redis_url, str(seconds), str(batch)]
    told = json.loads((await run(stage, command, "server", seconds * 4 + OVERTIME_S)).strip().splitlines()[-1])
    return Sample(told["ids"], told["seconds"], told["ids"] / told["seconds"])
