"""The local Postgres: its home folder, initdb, the server, the database.

Home is `postgres/` in the data folder, and it holds `data/` and `password`. As root, Postgres runs as another
user; when that user cannot enter the data folder, `postgres` there is a symlink to a folder that he can
enter.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from cluster.local.child import Child, Recipe
from cluster.local.errors import LocalError, StartFailed
from cluster.local.folder import OUTSIDE
from cluster.local.programs import Program
from cluster.local.service import Service
from cluster.local.user import User
from cluster.postgres_errors import POSTGRES_ERRORS

HOST, USER, DATABASE = "127.0.0.1", "tally", "tally"
INITDB_TIMEOUT_S = 120.0
ASK_TIMEOUT_S = 2.0
MAKE_TIMEOUT_S = 30.0  # a database is a copy of files, and a slow disk takes longer than an answer
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a deep folder would make the path of a socket too long
    "max_connections": "200",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


@dataclass(frozen=True)
class Home:
    """Where a Postgres keeps its things, and as whom it runs."""

    path: Path
    user: User | None

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def password(self) -> Path:
        return self.path / "password"

    def major(self) -> int | None:
        """The version that the data belongs to; None when there is none yet."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.data / "PG_VERSION").read_text())
        return None


def find_home(wanted: Path, user: User | None, outside: Path = OUTSIDE) -> Home:
    """The home at `wanted`, made when there is none, moved outside when the user cannot enter it."""
    if not wanted.exists():
        wanted.unlink(missing_ok=True)  # a symlink to a folder that is gone
        _make(wanted, user)
    if user is None and not os.access(wanted, os.R_OK | os.W_OK | os.X_OK):
        raise LocalError(f"{wanted} belongs to another user: run as that user, or name another folder with --data.")
    # Resolved: the server is given the path of the folder itself, for it may not enter the one with the symlink.
    if user is not None and not user.may("-w", wanted.resolve()):
        _move_outside(wanted, user, outside)
    return Home(wanted.resolve(), user)


def _make(path: Path, user: User | None) -> None:
    path.mkdir(mode=0o700, parents=True)
    if user is not None:
        os.chown(path, user.uid, user.gid)


def _move_outside(wanted: Path, user: User, outside: Path) -> None:
    """`wanted` becomes a symlink. The folder's name is random: the data folder may be moved, and another one
    made in its place must not find these data."""
    outside.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = outside / secrets.token_hex(6)
    shutil.move(wanted.resolve(), target)
    wanted.unlink(missing_ok=True)
    wanted.symlink_to(target)
    if not user.may("-w", target):
        raise LocalError(
            f"User {user.name} cannot enter {target}, where Postgres is to keep its data: check {outside}."
        )


def runnable(program: Program, user: User | None, outside: Path = OUTSIDE) -> Program:
    """The program, or a copy that the user can execute: a wheel's binaries may be in a folder he cannot
    enter."""
    if user is None or user.may("-x", program.path):
        return program
    install = program.path.parent.parent
    package = install.parent
    target = outside / "programs" / f"{program.kind}-{program.version}"
    if not target.exists():
        _copy(package, target)
    return replace(program, path=target / package.name / program.path.relative_to(package))


def _copy(package: Path, target: Path) -> None:
    """Copies the package and the shared libraries beside it, which its programs look for by relative path."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copytree(package, partial / package.name, symlinks=True, ignore=shutil.ignore_patterns("*.pyc"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name)
    for folder in (partial, *partial.rglob("*")):
        if not folder.is_symlink():
            folder.chmod(folder.stat().st_mode | 0o055 if folder.is_dir() or os.access(folder, os.X_OK) else 0o644)
    target.parent.chmod(0o755)
    try:
        partial.rename(target)
    except OSError:  # another launcher was faster
        shutil.rmtree(partial)


class PostgresServer(Service):
    """Postgres on 127.0.0.1, with a password, and the database `tally` in it."""

    name = "postgres"
    attempts = 5  # the backends of one that was killed need a moment to see that it is gone
    stop_steps = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))  # fast, then immediate

    def __init__(self, program: Program, home: Home, log: Path, port: int, group: int) -> None:
        super().__init__(group)
        self.program = program
        self._home = home
        self._log = log
        self._port = port

    @property
    def dsn(self) -> str:
        return self._dsn(DATABASE)

    def _dsn(self, database: str) -> str:
        password = self._home.password.read_text().strip()
        return f"postgresql://{USER}:{password}@{HOST}:{self._port}/{database}"

    async def initialise(self) -> None:
        """Makes the database cluster when there is none. All or nothing: data appears by a rename."""
        if self._home.major() is not None:
            return
        self._write_password()
        partial = self._home.path / "data.new"
        shutil.rmtree(partial, ignore_errors=True)
        await self._initdb(partial)
        partial.rename(self._home.data)

    def _write_password(self) -> None:
        descriptor = os.open(self._home.password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(16) + "\n")
        if self._home.user is not None:
            os.chown(self._home.password, self._home.user.uid, self._home.user.gid)

    async def _initdb(self, target: Path) -> None:
        command = [str(self.program.path.with_name("initdb")), "-D", str(target), "-U", USER, "-E", "UTF8"]
        command += [
            "--locale=C",
            "-A",
            "scram-sha-256",
            f"--pwfile={self._home.password}",
            "--no-instructions",
        ]
        recipe = Recipe(command, self._log, self._home.path, _environment(), self._home.user)
        child = await Child.start(recipe, self._group)
        try:
            if not await child.ended_within(INITDB_TIMEOUT_S) or child.exit_code != 0:
                raise StartFailed("initdb failed; the end of its log says:", child.last_lines())
        finally:
            await child.stop((signal.SIGINT, 5.0))

    def recipe(self) -> Recipe:
        settings = SETTINGS | {"port": str(self._port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.program.path), "-D", str(self._home.data), *options]
        return Recipe(command, self._log, self._home.path, _environment(), self._home.user)

    async def is_ready(self) -> bool:
        """Whether the database `tally` answers; makes it the first time."""
        times = {"timeout": ASK_TIMEOUT_S, "command_timeout": ASK_TIMEOUT_S}
        try:
            connection = await asyncpg.connect(self._dsn("postgres"), **times)
            try:
                await _make_database(connection)
            finally:
                await connection.close(timeout=ASK_TIMEOUT_S)
        except POSTGRES_ERRORS:  # also of one that dies, or stalls, between two words
            return False
        return True


async def _make_database(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval("select true from pg_database where datname = $1", DATABASE):
        await connection.execute(f'create database "{DATABASE}"', timeout=MAKE_TIMEOUT_S)


def _environment() -> dict[str, str]:
    """Ours without the variables that would redirect Postgres."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}
