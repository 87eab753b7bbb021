"""The balancer's side of the folder that an nginx elsewhere reads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from cluster.service.shared import SharedFolder
from cluster.upstreams import Patience, servers_of
from cluster.view import Member, View


class Members:
    def __init__(self, *urls: str) -> None:
        self.urls = urls
        self.looks = 0

    async def view(self) -> View:
        self.looks += 1
        return View(1, tuple(Member(url, url, url, url, 1, "ready") for url in self.urls))


def made(path: Path, ready_file: Path | None = None) -> SharedFolder:
    folder = SharedFolder(path, 3333, ready_file)
    folder._announce_s = folder._min_reload_s = 0.01
    folder.prepare()
    return folder


async def following(folder: SharedFolder, members: Members, until: Callable[[], bool]) -> None:
    task = asyncio.create_task(folder.follow(members, interval_ms=1))
    give_up_at = time.monotonic() + 10
    while not until():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.001)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_new_folder_has_all_that_nginx_starts_with_and_nobody_in_it(tmp_path: Path) -> None:
    made(tmp_path)
    assert (tmp_path / "nginx.conf").exists()
    assert "3333" in (tmp_path / "listen.conf").read_text()
    assert "down" in (tmp_path / "upstreams.conf").read_text()
    assert (tmp_path / "reload").read_text() == "1\n"


async def test_nginx_is_told_of_new_members_once_everything_is_written(tmp_path: Path) -> None:
    folder = made(tmp_path)
    await following(folder, Members("http://10.0.0.7:3333"), lambda: (tmp_path / "reload").read_text() == "2\n")
    assert "server 10.0.0.7:3333 " in (tmp_path / "upstreams.conf").read_text()
    assert "closing-2" in (tmp_path / "closing.conf").read_text()


async def test_one_that_is_started_again_leaves_the_members_and_goes_on_counting(tmp_path: Path) -> None:
    await following(made(tmp_path), Members("http://10.0.0.7:3333"), lambda: (tmp_path / "reload").read_text() == "2\n")
    (tmp_path / "closing-2").touch()  # it ended between the announcement and the reload
    again = made(tmp_path)
    assert "server 10.0.0.7:3333 " in (tmp_path / "upstreams.conf").read_text()
    assert (tmp_path / "reload").read_text() == "2\n"
    assert not (tmp_path / "closing-2").exists()
    members = Members("http://10.0.0.8:3333", "http://10.0.0.9:3333")
    await following(again, members, lambda: (tmp_path / "reload").read_text() == "3\n")
    assert "server 10.0.0.8:3333 " in (tmp_path / "upstreams.conf").read_text()


async def test_one_that_is_started_again_tells_nginx_what_the_last_one_had_written_and_not_told(tmp_path: Path) -> None:
    first, members, upstreams = made(tmp_path), Members("http://10.0.0.7:3333"), tmp_path / "upstreams.conf"
    await following(first, members, lambda: (tmp_path / "reload").read_text() == "2\n")
    first._announce_s = 60.0  # it ends in the middle of an announcement
    members.urls = ("http://10.0.0.7:3333", "http://10.0.0.8:3333")
    await following(first, members, lambda: "10.0.0.8:3333" in servers_of(upstreams.read_text()))
    again = made(tmp_path)
    assert (tmp_path / "reload").read_text() == "2\n"
    await following(again, members, lambda: (tmp_path / "reload").read_text() == "3\n")
    assert (tmp_path / "closing-2").exists(), "nginx serves members, so it was announced"


async def test_it_is_ready_when_the_ready_nodes_are_there_and_those_of_the_last_run_are_not(tmp_path: Path) -> None:
    folder, ready_file = tmp_path / "folder", tmp_path / "ready"
    await following(made(folder, ready_file), Members("http://10.0.0.7:3333"), ready_file.exists)
    again, members = made(folder, ready_file), Members()
    assert not ready_file.exists()
    upstreams = folder / "upstreams.conf"
    await following(again, members, lambda: members.looks > 5)
    assert "server 10.0.0.7:3333 " in upstreams.read_text()
    assert not ready_file.exists(), "nobody is ready yet"
    members.urls, again._patience = ("http://10.0.0.8:3333",), Patience(0.05)
    await following(again, members, ready_file.exists)
    assert servers_of(upstreams.read_text()) == ("10.0.0.8:3333",)
