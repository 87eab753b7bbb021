from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from cluster.local import child as child_module
from cluster.local.child import Child, Recipe, rotate, tail
from cluster.local.errors import LocalError


def recipe(folder: Path, program: str) -> Recipe:
    return Recipe([sys.executable, "-u", "-c", program], folder / "logs" / "it.log", folder)


async def test_what_a_child_says_is_in_its_log(tmp_path: Path) -> None:
    child = await Child.start(recipe(tmp_path, "import sys; print('out'); print('err', file=sys.stderr)"), 0)
    assert await child.wait() == 0
    assert child.last_lines() == ["out", "err"]


async def test_a_child_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    program = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    child = await Child.start(recipe(tmp_path, program), 0)
    while not child.last_lines():
        await asyncio.sleep(0.01)
    await child.stop((signal.SIGTERM, 0.2))
    assert child.exit_code == -signal.SIGKILL


async def test_stopping_a_child_that_has_ended_does_nothing(tmp_path: Path) -> None:
    child = await Child.start(recipe(tmp_path, ""), 0)
    await child.wait()
    await child.stop((signal.SIGTERM, 1.0))
    child.send(signal.SIGTERM)
    assert child.exit_code == 0


async def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="/nowhere/server"):
        await Child.start(Recipe(["/nowhere/server"], tmp_path / "it.log", tmp_path), 0)


def test_a_log_that_grew_too_large_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LOG_BYTES_MAX", 10)
    log = tmp_path / "n1.log"
    log.write_text("x" * 11)
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "n1.log.1").read_text() == "x" * 11
    log.write_text("y")
    rotate(log)
    assert log.read_text() == "y"


def test_the_tail_of_a_long_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "n1.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert tail(log, 2) == ["line 9998", "line 9999"]
    assert tail(tmp_path / "none.log", 2) == []
