"""The guard: outlives the launcher just long enough to stop what the launcher started.

The launcher starts this file first, as a script of its own (standard library only), and hands it two
descriptors: the read end of a pipe and the lock of the data folder. The guard leads a process group, into
which the launcher puts every child. Only the launcher has the pipe's write end, so however the launcher ends,
SIGKILL included, the guard reads end of file, stops the whole group, and only then lets go of the lock.

A child that the launcher was just starting cannot slip through: until it has executed its program it holds a
copy of the write end, and it joins the group before that, so the guard reads end of file only when the child
is in the group.

    python -I -S guard.py PIPE_FD LOCK_FD [GRACE_S]
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 10.0
"""How long the group has to end on SIGINT (Postgres: fast shutdown; Redis, nginx and nodes: their own
end)."""
KILL_S = 5.0
"""How long processes may take to vanish after SIGKILL before the guard gives up on them."""
POLL_S = 0.05


def process_table() -> dict[int, tuple[str, int]]:
    """Returns {pid: (state letter, process group)} of every process that can be seen."""
    if Path("/proc/self/stat").exists():
        return _table_from_proc()
    listing = subprocess.run(["ps", "-A", "-o", "pid=,stat=,pgid="], capture_output=True, text=True, check=False)
    rows = (line.split() for line in listing.stdout.splitlines())
    return {int(row[0]): (row[1][0], int(row[2])) for row in rows if len(row) == 3}


def _table_from_proc() -> dict[int, tuple[str, int]]:
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The command name is in parentheses and may hold anything, so the fields begin after the last
            # one.
            fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
            table[int(entry)] = (fields[0], int(fields[2]))
    return table


def members(group: int) -> list[int]:
    """The living processes of a group, without the caller. A zombie does not live: nobody may ever reap
    it."""
    return [
        pid
        for pid, (state, pgid) in process_table().items()
        if pgid == group and state not in "ZX" and pid != os.getpid()
    ]


def command_of(pid: int) -> str:
    """The command line (nginx writes there what it is); empty when the process is gone."""
    if Path("/proc/self/stat").exists():
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        return ""
    return subprocess.run(["ps", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False).stdout


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    return process_table().get(pid, ("X", 0))[0] not in "ZX"


def _signal_all(pids: list[int], signum: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def _until_empty(group: int, timeout_s: float, signum: signal.Signals | None = None) -> bool:
    deadline = time.monotonic() + timeout_s
    while left := members(group):
        if time.monotonic() > deadline:
            return False
        if signum is not None:
            _signal_all(left, signum)  # again each round: one of them may have forked meanwhile
        time.sleep(POLL_S)
    return True


def clear(group: int, grace_s: float) -> None:
    """Stops every process of the group: SIGINT, a grace, then SIGKILL."""
    left = members(group)
    _signal_all(left, signal.SIGINT)
    _signal_all(left, signal.SIGCONT)  # a paused node has to wake up to end
    if not _until_empty(group, grace_s):
        _until_empty(group, KILL_S, signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Waits for the end of the pipe, then clears the own group. The lock is let go by exiting."""
    pipe = int(arguments[0])
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    while os.read(pipe, 64):
        pass
    clear(os.getpgrp(), float(arguments[2]) if len(arguments) > 2 else GRACE_S)


if __name__ == "__main__":
    main(sys.argv[1:])
