"""`test`: the repository's tests in this very environment. This module is also the pytest plugin that they
run with.

    python -m pytest -p cluster.local.testing --require-all
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from cluster.local.errors import LocalError

ROOT = Path(__file__).resolve().parents[2]
ALONE = "alone"  # the marker of tests that have the machine to themselves


def run(arguments: Sequence[str], require_all: bool) -> NoReturn:
    """Becomes pytest, so that its exit code and its signals are ours; without arguments, in two phases.

    Does not return.
    """
    if not (ROOT / "tests").is_dir():
        raise LocalError("The tests are not installed with the package: run this in a clone of the repository.")
    # Paths are the caller's: they are meant from where he is, and everything else from the root.
    given = [str(Path(argument).resolve()) if Path(argument).exists() else argument for argument in arguments]
    os.chdir(ROOT)
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    command = [sys.executable, "-m", "pytest", "-p", __name__, *(["--require-all"] if require_all else [])]
    if given:
        os.execv(sys.executable, [*command, *given])
    side_by_side, alone = phases()
    if (code := subprocess.run([*command, *side_by_side], check=False).returncode) != 0:
        sys.exit(code)
    os.execv(sys.executable, [*command, *alone])


def phases() -> tuple[list[str], list[str]]:
    """pytest's arguments for what runs in two processes, and then for what has the machine to itself.

    A cluster under load and faults, beside other tests, would show what the machine lacks and not what the cluster
    does.
    """
    return ["-m", f"not {ALONE}", "--numprocesses", "2", "--dist", "loadfile"], ["-m", ALONE]


class RequireAll:
    """Counts what was skipped and makes the run fail for it."""

    def __init__(self) -> None:
        self.skipped = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.skipped += report.skipped and not hasattr(report, "wasxfail")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.skipped += report.skipped

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("--require-all", red=True)
            terminalreporter.line(f"{self.skipped} skipped, and nothing may be skipped here: see the reasons below.")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-all", action="store_true", help="fail when any test is skipped")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--require-all"):
        config.pluginmanager.register(RequireAll(), "tally-require-all")
