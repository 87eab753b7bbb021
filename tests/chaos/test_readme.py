"""Every command of the README that needs no container, run as it stands there, on a fresh copy of the tree and the port
it names. tests/compose runs the others, and ELSEWHERE names who runs those that take long.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import guard
from cluster.local.folder import Folder
from cluster.local.ports import is_free
from tests.chaos.local_cluster import DEADLINE_S, ROOT, until
from tests.readme import COMMANDS, INLINE, take, with_output

PORT = 3333
ATTACK_S = 120.0
ELSEWHERE = {
    "python3 -m cluster test": ".ci/run",
    "python3 -m cluster attack --chaos --duration 60": "tests/chaos/test_attack.py",
    "python3 -m cluster bench": "tests/bench",
}


class Clone:
    """A copy of the tree, and a shell in it whose python3 is this one."""

    def __init__(self, path: Path) -> None:
        self.path = path / "tally"
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in names.stdout.splitlines():
            if (ROOT / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.path / name)
        for python in (path / "bin" / "python3", self.path / ".venv" / "bin" / "python"):
            python.parent.mkdir(parents=True)
            python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            python.chmod(0o755)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
        self.environment["PATH"] = f"{path / 'bin'}:{self.environment['PATH']}"
        self.folder = Folder(self.path / ".tally")

    def run(self, command: str, timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, command: str, out: Path) -> subprocess.Popen[bytes]:
        with out.open("wb") as file:
            return subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.path, env=self.environment, stdout=file, stderr=file
            )


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    if not is_free(PORT, "0.0.0.0"):
        pytest.skip(f"port {PORT}, which the README names, is in use here")
    clone = Clone(tmp_path)
    yield clone
    if clone.folder.path.exists():
        os.close(clone.folder.acquire())
        clone.folder.wipe()


def audit_passed(told: str) -> bool:
    """That no request fails is shown by test_front.py; here, on a busy machine, 500 a second may be too many."""
    return any(line.split() == ["audit", "passed"] for line in told.splitlines())


def test_the_test_command_is_the_one_that_the_check_runs():
    assert take("python3 -m cluster test") == "python3 -m cluster test"
    assert "python3 -m cluster test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.timeout(400)
@pytest.mark.cluster
@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.nginx
def test_every_command_does_what_is_written_beside_it(clone: Clone, tmp_path: Path) -> None:
    ran = list(ELSEWHERE)

    def command(prefix: str) -> str:
        ran.append(take(prefix))
        return ran[-1]

    up = clone.start(command("python3 -m cluster up"), tmp_path / "up.log")
    try:
        until(lambda: '"public_url"' in (tmp_path / "up.log").read_text() or up.poll() is not None, "up")
        for curl, output in [*with_output("curl"), *with_output("operations=")]:
            answer = clone.run(curl)
            assert answer.returncode == 0, answer.stderr
            lines = [line.lower() for line in answer.stdout.splitlines()]
            for line in output:
                assert line.lower() in lines
            ran.append(curl)
        audited = clone.run(command("python3 -m cluster attack --namespace"), ATTACK_S)
        assert audit_passed(audited.stdout), audited.stdout + audited.stderr
        attack = clone.start(command("python3 -m cluster attack --rate"), tmp_path / "attack.log")
        until(lambda: "acknowledged" in (tmp_path / "attack.log").read_text(), "the load has begun")
        killed = clone.run(command("python3 -m cluster kill"))
        assert killed.returncode == 0, killed.stderr
        assert "n2" in clone.run(command("python3 -m cluster status")).stdout
        attack.wait(ATTACK_S)
        assert audit_passed((tmp_path / "attack.log").read_text()), (tmp_path / "attack.log").read_text()
        pause, drain = (command(f"python3 -m cluster {name} n1") for name in ("pause", "drain"))
        for line in (pause, "python3 -m cluster add", drain):
            told = clone.run(line)
            assert told.returncode == 0, told.stdout + told.stderr
        assert "TALLY_PORT" in clone.run(command(".venv/bin/python")).stdout
        state = json.loads(clone.folder.state.read_text())
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(DEADLINE_S) == 0
    until(lambda: not guard.members(state["guard"]), "nothing is left")
    assert sorted(set(ran)) == sorted({*COMMANDS, *INLINE}), "a command of the README is not tried here"
