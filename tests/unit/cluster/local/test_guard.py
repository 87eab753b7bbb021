"""The guard with real processes: whatever way its pipe ends, nobody in its group is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from cluster.local import guard

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
POLITE = "import time; print('up', flush=True); time.sleep(60)"


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


GRACE_S = 2.0


class Guarded:
    """A guard whose pipe this test holds, and processes in its group."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        read_end, self.pipe = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(read_end), "-1", str(grace_s)],
            pass_fds=[read_end],
            process_group=0,
        )
        os.close(read_end)
        self.children: list[subprocess.Popen[str]] = []

    def start(self, program: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            process_group=self.process.pid,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.stdout.close()
        self.children.append(child)
        return child

    def wait(self) -> list[int]:
        self.process.wait(20)
        return [child.wait(5) for child in self.children]


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


def test_at_the_end_of_the_pipe_the_group_is_asked_to_end(guarded: Guarded) -> None:
    guarded.start(POLITE)
    os.close(guarded.pipe)
    assert guarded.wait() != [-signal.SIGKILL]


def test_a_paused_process_is_woken_to_end() -> None:
    guarded = Guarded(grace_s=15.0)
    guarded.start(POLITE).send_signal(signal.SIGSTOP)
    os.close(guarded.pipe)
    assert guarded.wait() != [-signal.SIGKILL]


def test_whoever_does_not_end_is_killed_after_the_grace(guarded: Guarded) -> None:
    guarded.start(STUBBORN)
    since = time.monotonic()
    os.close(guarded.pipe)
    assert guarded.wait() == [-signal.SIGKILL]
    assert time.monotonic() - since >= GRACE_S


def test_the_signals_of_a_terminal_do_not_end_the_guard(guarded: Guarded) -> None:
    child = guarded.start(POLITE)
    # It is up and has set its signals aside once it waits for the pipe; until then SIGINT would end it.
    until(lambda: guard.process_table()[guarded.process.pid][0] == "S" and _ignores_sigint(guarded.process.pid))
    os.killpg(guarded.process.pid, signal.SIGINT)
    child.wait(10)
    assert guarded.process.poll() is None
    os.close(guarded.pipe)
    assert guarded.process.wait(10) == 0


def _ignores_sigint(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as file:
        ignored = next(line for line in file if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) & (1 << (signal.SIGINT - 1)))


def test_a_zombie_is_neither_alive_nor_a_member(guarded: Guarded) -> None:
    child = guarded.start(POLITE)
    assert guard.alive(child.pid)
    assert child.pid in guard.members(guarded.process.pid)
    child.kill()
    until(lambda: guard.process_table()[child.pid][0] == "Z")
    assert not guard.alive(child.pid)
    assert child.pid not in guard.members(guarded.process.pid)
    os.close(guarded.pipe)
    guarded.wait()


def test_the_command_of_a_process_is_known_while_it_runs(guarded: Guarded) -> None:
    child = guarded.start(POLITE)
    assert "time.sleep(60)" in guard.command_of(child.pid)
    os.close(guarded.pipe)
    guarded.wait()
    assert guard.command_of(child.pid) == ""
