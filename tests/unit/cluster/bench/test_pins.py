"""Cores and their costs, on this very process."""

from __future__ import annotations

import os
import subprocess
import sys

from cluster.bench.pins import Cores, cpu_s, family, machine


def test_a_child_runs_where_it_was_started() -> None:
    cores = Cores.choose()
    before = os.sched_getaffinity(0)
    with cores.on("load"):
        said = subprocess.check_output([sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"])
    assert said.decode().strip() == str(sorted(cores.load))
    assert os.sched_getaffinity(0) == before


def test_without_affinity_nothing_is_pinned() -> None:
    before = os.sched_getaffinity(0)
    with Cores(frozenset(), frozenset()).on("server"):
        assert os.sched_getaffinity(0) == before


def test_what_a_child_used_is_counted_while_it_lives() -> None:
    busy = "import time\nwhile time.process_time() < .2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in family(os.getpid())
        assert 0.15 <= cpu_s([child.pid]) < 5
        child.communicate(b"\n")


def test_the_machine_is_named() -> None:
    assert machine().keys() == {"cores", "model", "kernel", "load_average_before"}
