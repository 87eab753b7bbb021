"""`cluster/__main__.py` before anything but the standard library can be imported."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import __main__ as bootstrap

SOURCE = Path(bootstrap.__file__)


def test_only_the_standard_library_is_imported_at_the_top() -> None:
    names = set()
    for statement in ast.parse(SOURCE.read_text()).body:
        if isinstance(statement, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names.add((statement.module or "").partition(".")[0])
    assert names <= set(sys.stdlib_module_names)


def test_an_older_python_can_read_the_file_and_is_told() -> None:
    ast.parse(SOURCE.read_text(), feature_version=(3, 7))
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.version_info = (3, 9, 2); exec(open({str(SOURCE)!r}).read())"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "needs Python 3.11" in told.stderr
    assert "this is 3.9" in told.stderr


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with an environment that runs, and requirements."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "all.txt").write_text("# nothing\n")
    monkeypatch.setattr(bootstrap, "ENVIRONMENT", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv" / "stamp")
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", tmp_path / "all.txt")
    monkeypatch.delenv(bootstrap.TRIED, raising=False)
    return tmp_path


def digest(clone: Path) -> str:
    return hashlib.sha256((clone / "all.txt").read_bytes()).hexdigest()


def test_an_environment_is_complete_with_the_stamp_of_these_requirements(clone: Path) -> None:
    assert not bootstrap.is_complete(digest(clone))
    (clone / ".venv" / "stamp").write_text(digest(clone))
    assert bootstrap.is_complete(digest(clone))
    (clone / "all.txt").write_text("more\n")
    assert not bootstrap.is_complete(digest(clone))


def test_an_environment_whose_python_is_gone_is_made_anew(clone: Path) -> None:
    (clone / ".venv" / "stamp").write_text(digest(clone))
    (clone / ".venv" / "bin" / "python").unlink()
    (clone / ".venv" / "bin" / "python").symlink_to("/nowhere/python")
    assert not bootstrap.is_complete(digest(clone))
    assert not bootstrap.can_pip()


def test_without_venv_it_says_what_to_install(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clone / ".venv" / "bin" / "python").unlink()
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"python3-venv.*uv venv --seed \.venv`"):
        bootstrap.install("x")


def test_an_environment_with_pip_that_another_program_made_is_completed_without_venv(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: None)
    bootstrap.install(digest(clone))  # what `uv venv --seed` leaves is made of no more than this: a Python and its pip
    assert bootstrap.is_complete(digest(clone))


def test_a_step_that_fails_shows_the_end_of_what_it_said() -> None:
    with pytest.raises(SystemExit, match=r"(?s)no network\?.*\| what went wrong"):
        bootstrap.step([sys.executable, "-c", "print('what went wrong'); raise SystemExit(1)"], "no network?")


def test_it_does_not_execute_itself_for_ever(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bootstrap.TRIED, "1")
    with pytest.raises(SystemExit, match="uhashring"):
        bootstrap.bootstrap(["uhashring"])


def test_without_a_clone_it_says_how_to_install(clone: Path) -> None:
    (clone / "all.txt").unlink()
    with pytest.raises(SystemExit, match="pip install"):
        bootstrap.bootstrap(["uhashring"])


def test_what_is_needed_is_what_the_project_declares() -> None:
    import tomllib
    from importlib.metadata import packages_distributions

    declared = tomllib.loads((bootstrap.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {name.partition("[")[0].partition(">")[0] for name in declared}
    found = {name.lower() for module in bootstrap.NEEDED for name in packages_distributions()[module]}
    assert found == wanted
