"""docker-compose.cluster.yml as a project of this test's own: bring it up, cut links, attack it, take it down."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.local.ports import Ports
from tests.chaos.local_cluster import until

ROOT = Path(__file__).resolve().parents[2]
FILE = "docker-compose.cluster.yml"
IMAGE, NEXT_IMAGE, BROKEN_IMAGE = "tally:under-test", "tally:next-under-test", "tally:broken-under-test"
PARTITIONS = frozenset(range(64))
RATE = 120  # requests per second of an attack
LOAD_S_MAX = 240  # an attack is ended by the test; this is for a test that dies
COMMAND_S_MAX = 420
NGINX, REDIS, POSTGRES = "nginx-node", "node-redis", "node-postgres"  # the links
ASK_CLUSTER = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9333/cluster', timeout=5).read().decode())"


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    """Its standard output; an assertion error with all that it said when it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def docker(*arguments: str) -> str:
    return run("docker", *arguments).strip()


def inspect(what: str, form: str) -> str:
    return docker("inspect", "--format", "{{" + form + "}}", what)


class Attack:
    """`python3 -m cluster attack` under way: the fault comes after `until_more`, then `audit` ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._acknowledged = 0  # as it said last; it does so every second
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            if found := re.search(r"acknowledged (\d+)", line):
                self._acknowledged = int(found[1])

    def until_more(self, requests: int = 1) -> None:
        """So many are acknowledged from now on."""
        wanted = self._acknowledged + requests
        until(lambda: self._acknowledged >= wanted or self._process.poll() is not None, f"{wanted} are acknowledged")

    def audit(self) -> dict[str, Any]:
        """Ends the load and gives the report; lost and doubled are 0, and Postgres has everything."""
        assert self._process.poll() is None, "the load ended before the fault did"
        self._process.send_signal(signal.SIGINT)
        assert self._process.stdout is not None
        out = self._process.stdout.read()
        self._process.wait()
        assert out, "there is no report"
        report: dict[str, Any] = json.loads(out)
        found = {name: report[name] for name in ("lost", "doubled", "unsettled_keys", "audit")}
        assert found == {"lost": 0, "doubled": 0, "unsettled_keys": 0, "audit": "passed"}, out
        assert report["acknowledged"] > 0
        return report

    def audit_without_failure(self) -> None:
        report = self.audit()
        assert (report["failed"], report["failures"]) == (0, []), report
        assert self._process.returncode == 0

    def end(self) -> None:
        """At once, where a test has failed."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


def _with_compose(environment: dict[str, str]) -> dict[str, str]:
    """Where there is only Compose v2, `docker compose`, the README's docker-compose is that."""
    if shutil.which("docker-compose") is None:
        folder = Path(tempfile.mkdtemp())
        (folder / "docker-compose").write_text('#!/bin/sh\nexec docker compose "$@"\n')
        (folder / "docker-compose").chmod(0o755)
        environment["PATH"] = f"{folder}:{environment['PATH']}"
    return environment


class Stack:
    """One project. Nodes and services are named by container; links by the constants above."""

    def __init__(self) -> None:
        self.name = f"tally-test-{secrets.token_hex(4)}"
        self.port = Ports().take("public")
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = _with_compose(dict(os.environ)) | {
            "COMPOSE_PROJECT_NAME": self.name,
            "TALLY_IMAGE": IMAGE,
            "TALLY_PORT": str(self.port),
            "TALLY_RATE_LIMIT": "0",
            "TALLY_FLUSH_INTERVAL_MS": "500",
            "DOCKER_BUILDKIT": "0",
        }

    # --- the project ----------------------------------------------------------------------------------------------

    def shell(self, line: str) -> str:
        """A line as a README has it, run at the top of the tree."""
        return run("bash", "-c", line, environment=self.environment)

    def down(self) -> None:
        self.shell(f"docker-compose -f {FILE} --profile attack down --volumes --remove-orphans --timeout 1")

    def until_nodes(self, count: int) -> None:
        """So many run, and nginx knows each."""
        until(lambda: len(self.nodes()) == count and self.upstreams() == self.addresses(), f"nginx has {count} nodes")

    # --- what runs ------------------------------------------------------------------------------------------------

    def containers(self, service: str) -> list[str]:
        filters = [f"label=com.docker.compose.{name}" for name in (f"project={self.name}", f"service={service}")]
        listed = docker("ps", "--filter", filters[0], "--filter", filters[1], "--format", "{{.Names}}")
        return sorted(listed.split())

    def container(self, service: str) -> str:
        (only,) = self.containers(service)
        return only

    def nodes(self) -> list[str]:
        return self.containers("node")

    def address(self, container: str, link: str) -> str:
        """Empty while it is cut off there."""
        networks = json.loads(inspect(container, "json .NetworkSettings.Networks"))
        return str(networks.get(f"{self.name}_{link}", {}).get("IPAddress", ""))

    def addresses(self) -> set[str]:
        return {f"{self.address(node, NGINX)}:3333" for node in self.nodes()}

    def upstreams(self) -> set[str]:
        """host:port of each node that nginx is told of."""
        text = docker("exec", self.container("balancer"), "cat", "/balancer/upstreams.conf")
        return {line.split()[1] for line in text.splitlines() if "max_fails" in line}

    def in_nginx(self, node: str) -> bool:
        return f"{self.address(node, NGINX)}:3333" in self.upstreams()

    def cluster(self, node: str) -> dict[str, Any]:
        """What the node tells of itself and the others; empty while it cannot."""
        asked = subprocess.run(
            ["docker", "exec", node, "python3", "-c", ASK_CLUSTER], capture_output=True, timeout=60, check=False
        )
        told: dict[str, Any] = json.loads(asked.stdout) if asked.returncode == 0 else {}
        return told

    def owned(self, nodes: Sequence[str]) -> set[int]:
        told = [self.cluster(node) for node in nodes]
        return {partition for each in told if each for partition in each["partitions"]["owned"]}

    def ask(self, node: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        """Status and body of an answer by one node, nginx left out; status 0 when there is none."""
        url = f"http://{self.address(node, NGINX)}:3333{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, {}

    # --- faults and load ------------------------------------------------------------------------------------------

    def cut(self, node: str, link: str) -> None:
        docker("network", "disconnect", f"{self.name}_{link}", node)

    def mend(self, node: str, link: str) -> None:
        alias = "node.nginx" if link == NGINX else "node"
        docker("network", "connect", "--alias", alias, f"{self.name}_{link}", node)

    @contextmanager
    def attack(self, *options: str) -> Iterator[Attack]:
        dsn = f"postgresql://tally:tally@{self.address(self.container('postgres'), POSTGRES)}:5432/tally"
        load = ["--rate", str(RATE), "--duration", str(LOAD_S_MAX), "--keys", "40"]
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster", "attack", "--url", self.url, "--postgres-dsn", dsn, "--json", *load],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        attack = Attack(process)
        try:
            attack.until_more()
            yield attack
        finally:
            attack.end()
