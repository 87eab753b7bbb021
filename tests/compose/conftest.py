"""One stack for all tests here. Where there is no engine these tests are left out, and the summary says so."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.compose import lines
from tests.compose.stack import Stack

HERE = Path(__file__).parent
TIMEOUT_S = 600  # the first test waits for the images and the stack
left_out = pytest.StashKey[int]()


@cache
def missing() -> str | None:
    """What these tests need and is not here."""
    if not _answers("docker", "version"):
        return "a Docker Engine that answers"
    if not (_answers("docker-compose", "version") or _answers("docker", "compose", "version")):
        return "docker-compose"
    return None


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out, not skipped: nothing that this machine could run is missing from the run."""
    here = [item for item in items if item.path.is_relative_to(HERE)]
    if here and missing() is not None:
        config.stash[left_out] = len(here)
        config.hook.pytest_deselected(items=here)
        items[:] = [item for item in items if item not in here]
    for item in here:
        item.add_marker(pytest.mark.timeout(TIMEOUT_S))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(left_out, 0):
        terminalreporter.section("tests/compose is left out")
        terminalreporter.line(f"{count} tests need what is not here: {missing()}")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Brought up as the README says, and taken down whatever happens."""
    stack = Stack()
    try:
        stack.shell(lines.IMAGES)
        stack.shell(lines.UP)
        stack.until_nodes(3)
        yield stack
        stack.shell(lines.DOWN)
    finally:
        stack.down()
