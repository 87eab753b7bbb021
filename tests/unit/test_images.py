"""deploy/images/build, on programs that stand in for the engine's and Debian's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "images"
IMAGES = ["redis:7", "postgres:15", "nginx:1.28", "python:3.11-slim", "statsd/statsd:v0.10.2"]

# No image is there. A pull under `timeout` is told from one without by the variable that our timeout sets.
DOCKER = """
case "$1 $2" in
  "image inspect") if flock -n "$BUILD" true; then echo unlocked >>"$DONE"; fi; exit 1 ;;
  "pull -q") echo "${LIMIT:-no limit} $3" >>"$DONE"; echo "the engine's words"; eval "$PULL" ;;
esac
"""
TIMEOUT = """
export LIMIT="$1 s"
shift
"$@"
code=$?
[ "$code" != 75 ] || exit 124
exit "$code"
"""
DEBOOTSTRAP = 'echo debootstrap >>"$DONE"; exit 1'
PROGRAMS = {"docker": DOCKER, "timeout": TIMEOUT, "debootstrap": DEBOOTSTRAP, "python3": "exit 1"}


class Machine:
    """The programs, and what they were asked for."""

    def __init__(self, folder: Path) -> None:
        self.script = shutil.copytree(FOLDER, folder / "images") / "build"  # the clone's may be at work, and locked
        self.done = folder / "done"
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.done.touch()
        for name, text in PROGRAMS.items():
            (self.programs / name).write_text(f"#!/bin/bash\n{text}\n")
            (self.programs / name).chmod(0o755)

    def build(self, pull: str) -> subprocess.CompletedProcess[str]:
        """`pull` is what a pull does; 75 in place of running into its limit."""
        path = os.pathsep.join([str(self.programs), os.environ["PATH"]])
        told = {"PATH": path, "BUILD": str(self.script), "DONE": str(self.done), "PULL": pull}
        return subprocess.run([self.script], env=told, capture_output=True, text=True, check=False, timeout=60)

    def asked(self) -> list[str]:
        return self.done.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_a_registry_has_is_pulled_one_at_a_time(machine: Machine) -> None:
    done = machine.build("exit 0")
    assert done.returncode == 0, done.stderr
    assert machine.asked() == [f"60 s {image}" for image in IMAGES]  # and never was the script unlocked


def test_a_registry_that_is_slow_is_waited_for_and_nothing_stands_in(machine: Machine) -> None:
    done = machine.build('case "$3" in *asks-who*) exit 1 ;; esac; [ -z "${LIMIT:-}" ] || exit 75')
    assert done.returncode == 0, done.stderr
    assert [line for line in machine.asked() if line.startswith("no limit")] == [f"no limit {name}" for name in IMAGES]
    assert "redis:7 is coming slowly" in done.stderr
    assert "debootstrap" not in machine.asked()


def test_a_slow_pull_that_breaks_off_is_an_error_and_nothing_stands_in(machine: Machine) -> None:
    done = machine.build('[ -n "${LIMIT:-}" ] || exit 1; case "$3" in *asks-who*) exit 1 ;; *) exit 75 ;; esac')
    assert done.returncode == 1
    assert "redis:7 broke off (the engine's words): run this again" in done.stderr
    assert "debootstrap" not in machine.asked()


@pytest.mark.parametrize("code", [1, 75], ids=["says-so", "silent"])
def test_without_a_registry_stand_ins_are_made(machine: Machine, code: int) -> None:
    done = machine.build(f"exit {code}")
    assert done.returncode == 1  # they would be, with more than our debootstrap
    assert "no registry gives redis:7 (the engine's words): stand-ins are made here" in done.stderr
    assert not [line for line in machine.asked() if line.startswith("no limit")]
    assert "debootstrap" in done.stderr
