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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.needs(missing=missing))
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


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
