from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.local import folder as folder_module
from cluster.local.errors import LocalError
from cluster.local.folder import MARKER, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    claimed = Folder(tmp_path / "data")
    claimed.claim()
    return claimed


def hold(folder: Folder) -> subprocess.Popen[str]:
    """Another process that holds the lock, and has written its pid, when this returns."""
    program = (
        "import sys; from pathlib import Path; from cluster.local.folder import Folder;"
        "Folder(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(folder_module.__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_with_other_files_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(LocalError, match="--data"):
        Folder(tmp_path).claim()
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(LocalError, match="--data"):
        Folder(tmp_path / "data").claim()


def test_wiping_keeps_the_marker_and_the_lock(folder: Folder) -> None:
    descriptor = folder.acquire()
    folder.redis.mkdir()
    (folder.redis / "file").write_text("x")
    folder.state.write_text("{}")
    folder.wipe()
    assert sorted(os.listdir(folder.path)) == sorted([MARKER, "lock"])
    os.close(descriptor)


def test_wiping_follows_the_symlink_of_postgres_only_to_our_own_place(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = tmp_path / "outside" / "1a2b", tmp_path / "other"
    monkeypatch.setattr(folder_module, "OUTSIDE", tmp_path / "outside")
    for target in (ours, other):
        target.mkdir(parents=True)
        folder.postgres.symlink_to(target)
        folder.wipe()
    assert not ours.exists()
    assert other.exists()


def test_a_second_launcher_is_told_the_pid_of_the_first(folder: Folder) -> None:
    process = hold(folder)
    assert folder.is_running()
    with pytest.raises(LocalError, match=f"pid {process.pid}"):
        folder.acquire()
    process.communicate()
    assert not folder.is_running()
    os.close(folder.acquire())


def test_a_lock_whose_launcher_is_dead_is_waited_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    process = hold(folder)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder.lock.write_text(f"{dead.pid}\n")  # as if the guard of that one still held it
    monkeypatch.setattr(folder_module, "CLEARING_TIMEOUT_S", 0.2)
    with pytest.raises(LocalError, match="earlier cluster"):
        folder.acquire()
    assert folder.is_locked()
    assert not folder.is_running()
    process.communicate()
    os.close(folder.acquire())


def test_asking_whether_it_is_locked_does_not_lock(folder: Folder) -> None:
    assert not folder.is_locked()
    os.close(folder.acquire())
    assert not folder.is_locked()
