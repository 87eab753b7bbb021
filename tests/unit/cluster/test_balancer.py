"""When nginx is told of which upstreams. nginx itself: tests/http/test_nginx.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.balancer import Balancer
from cluster.errors import ClusterError, RegistryUnavailable
from cluster.upstreams import NOBODY, servers_of
from cluster.view import Member, State, View

ACCEPTS = Path(shutil.which("true") or "true")  # in nginx's place: every configuration is fine
REFUSES = Path(shutil.which("false") or "false")


def member(number: int, state: State = "ready") -> Member:
    return Member(
        f"n{number}-abcdef", f"n{number}", f"http://127.0.0.1:{41000 + number}", "http://127.0.0.1:1", 1, state
    )


def view(*members: Member) -> View:
    return View(1, members)


def servers(balancer: Balancer) -> list[str]:
    """The last part of each address that nginx is to have."""
    return [server[-1] for server in servers_of((balancer.directory / "upstreams.conf").read_text())]


def test_the_folder_holds_all_that_nginx_includes(tmp_path: Path) -> None:
    stale = [tmp_path / "closing-3", tmp_path / "nginx.pid"]
    for file in stale:
        file.write_text("1")
    balancer = Balancer(tmp_path, 3333, ACCEPTS)
    balancer.prepare()
    assert (tmp_path / "listen.conf").read_text() == "listen 3333 backlog=4096;\n"
    assert (tmp_path / "upstreams.conf").read_text() == NOBODY
    assert (tmp_path / "closing.conf").read_text() == f'"" "{tmp_path}/closing-1";\n'
    assert (tmp_path / "nginx.conf").exists()
    assert not any(file.exists() for file in stale)
    assert balancer.command()[1:5] == ["-p", str(tmp_path), "-c", f"{tmp_path}/nginx.conf"]


def test_a_folder_that_nginx_would_read_as_a_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="choose one without"):
        Balancer(tmp_path / "$x", 3333, ACCEPTS).prepare()


def test_there_is_no_pid_without_a_running_nginx(tmp_path: Path) -> None:
    balancer = Balancer(tmp_path, 3333, ACCEPTS)
    balancer.prepare()
    for text in ("", "nonsense", "4194399"):
        (tmp_path / "nginx.pid").write_text(text)
        assert balancer.pid is None
    (tmp_path / "nginx.pid").write_text(str(os.getpid()))
    assert balancer.pid == os.getpid()


class Members:
    """A registry of the test's own; None means it cannot be reached."""

    def __init__(self, *members: Member) -> None:
        self.now: View | None = view(*members)
        self.looks = 0

    async def more_looks(self) -> None:
        """So many that the balancer has surely acted upon what is told now."""
        looks = self.looks
        await until(lambda: self.looks > looks + 5)

    async def view(self) -> View:
        self.looks += 1
        if self.now is None:
            raise RegistryUnavailable
        return self.now


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def following(balancer: Balancer, members: Members) -> AsyncIterator[None]:
    task = asyncio.create_task(balancer.follow(members, interval_ms=5))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


HEARS = """
import signal, sys, time
heard = 0
def hear(*_):
    global heard
    heard += 1
    open(sys.argv[1], "w").write(str(heard))
signal.signal(signal.SIGHUP, hear)
open(sys.argv[1], "w").write("0")
while True: time.sleep(60)
"""


@asynccontextmanager
async def a_master(balancer: Balancer, heard: Path) -> AsyncIterator[Callable[[], int]]:
    """In nginx's place: counts the SIGHUPs it gets."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HEARS, str(heard))
    try:
        await until(lambda: heard.exists() and heard.read_text() == "0")
        (balancer.directory / "nginx.pid").write_text(str(process.pid))
        yield lambda: int(heard.read_text() or -1)
    finally:
        process.kill()
        await process.wait()


async def test_nginx_is_told_once_of_each_change_and_after_an_announcement(tmp_path: Path) -> None:
    balancer = Balancer(tmp_path / "nginx", 3333, ACCEPTS, announce_ms=100, min_reload_ms=1)
    balancer.prepare()
    members = Members(member(1))
    async with a_master(balancer, tmp_path / "heard") as heard, following(balancer, members):
        await until(lambda: heard() == 1)
        closing = balancer.directory / "closing-2"
        assert not (balancer.directory / "closing-1").exists(), "with nobody behind nginx nothing is announced"
        await members.more_looks()
        assert heard() == 1, "the same view again is no change"
        members.now = view(member(1), member(2))
        await until(closing.exists)
        assert heard() == 1, "announced, not yet reloaded"
        await until(lambda: heard() == 2)
        assert servers(balancer) == ["1", "2"]
        assert "closing-3" in (balancer.directory / "closing.conf").read_text()


@pytest.mark.parametrize(
    ("now", "hanging_ms", "least_s"),
    [([], 1000, 0.5), ([member(2, "draining")], 600_000, 0.0)],
    ids=["gone", "draining"],
)
async def test_what_may_hang_at_a_node_that_is_gone_is_waited_for(
    tmp_path: Path, now: list[Member], hanging_ms: int, least_s: float
) -> None:
    """It was asked for before the announcement, so its answer keeps its connection."""
    balancer = Balancer(tmp_path / "nginx", 3333, ACCEPTS, announce_ms=1, min_reload_ms=1, hanging_ms=hanging_ms)
    balancer.prepare()
    members = Members(member(1), member(2))
    async with a_master(balancer, tmp_path / "heard") as heard, following(balancer, members):
        await until(lambda: heard() == 1)
        members.now = view(member(1), *now)
        await until((balancer.directory / "closing-2").exists)
        announced_at = asyncio.get_running_loop().time()
        await until(lambda: heard() == 2)
        assert asyncio.get_running_loop().time() - announced_at >= least_s
        assert servers(balancer) == ["1"]


async def test_an_nginx_that_was_starting_when_the_members_came_is_told_later(tmp_path: Path) -> None:
    balancer = Balancer(tmp_path / "nginx", 3333, ACCEPTS, announce_ms=10, min_reload_ms=1)
    balancer.prepare()
    async with following(balancer, Members(member(1))):
        await until(lambda: (balancer.directory / "upstreams.conf").read_text() != NOBODY)
        async with a_master(balancer, tmp_path / "heard") as heard:
            await until(lambda: heard() == 1)
        assert (balancer.directory / "closing-1").exists(), "it may have served the members: so it is announced"


async def test_a_registry_out_of_reach_never_empties_the_upstreams(tmp_path: Path) -> None:
    balancer = Balancer(tmp_path, 3333, ACCEPTS, announce_ms=0, min_reload_ms=1, patience_ms=1)
    balancer.prepare()
    members = Members(member(1))
    async with following(balancer, members):
        await until(lambda: servers(balancer) == ["1"])
        members.now = None
        await members.more_looks()
        assert servers(balancer) == ["1"]


async def test_one_that_answers_again_and_has_forgotten_everybody_has_time_to_hear_of_them(tmp_path: Path) -> None:
    balancer = Balancer(tmp_path / "nginx", 3333, ACCEPTS, announce_ms=0, min_reload_ms=1, patience_ms=60_000)
    balancer.prepare()
    members = Members(member(1), member(2))
    async with a_master(balancer, tmp_path / "heard") as heard, following(balancer, members):
        await until(lambda: heard() == 1)
        for forgotten in (None, view(), view(member(2)), None, view(member(1)), view(member(1), member(2))):
            members.now = forgotten
            await members.more_looks()
            assert servers(balancer) == ["1", "2"]
        members.now = view(member(1), member(2), member(3))
        await until(lambda: heard() == 2)
        assert servers(balancer) == ["1", "2", "3"], "and meanwhile nginx was told nothing"


async def test_when_they_do_not_come_back_nobody_is_left(tmp_path: Path) -> None:
    balancer = Balancer(tmp_path, 3333, ACCEPTS, announce_ms=0, min_reload_ms=1, patience_ms=100)
    balancer.prepare()
    members = Members(member(1), member(2))
    async with following(balancer, members):
        await until(lambda: servers(balancer) == ["1", "2"])
        members.now = view()
        await until(lambda: (tmp_path / "upstreams.conf").read_text() == NOBODY)


async def test_one_that_dies_and_all_that_drain_are_let_go_at_once(tmp_path: Path) -> None:
    balancer = Balancer(tmp_path, 3333, ACCEPTS, announce_ms=0, min_reload_ms=1, patience_ms=60_000)
    balancer.prepare()
    members = Members(member(1), member(2), member(3))
    async with following(balancer, members):
        await until(lambda: servers(balancer) == ["1", "2", "3"])
        members.now = view(member(1), member(3))
        await until(lambda: servers(balancer) == ["1", "3"])
        members.now = view(member(1, "draining"), member(3, "draining"))
        await until(lambda: (tmp_path / "upstreams.conf").read_text() == NOBODY)


async def test_what_nginx_refuses_is_undone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    balancer = Balancer(tmp_path, 3333, REFUSES, announce_ms=0, min_reload_ms=1)
    balancer.prepare()
    members = Members(member(1))
    async with following(balancer, members):
        await until(lambda: members.looks > 5)
    assert (tmp_path / "upstreams.conf").read_text() == NOBODY
    assert len([r for r in caplog.records if "nginx refuses" in r.message]) == 1, "said once, not at every look"
