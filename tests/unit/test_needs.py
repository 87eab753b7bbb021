"""Tests that this machine cannot run, on small test files of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = """
import pytest

needs = pytest.mark.needs


@needs(missing=lambda: "a wing")
def test_a():
    raise AssertionError


@needs(missing=lambda: "a wing")
@needs(missing=lambda: None)
def test_b():
    raise AssertionError


@needs(missing=lambda: None)
def test_c():
    pass


@needs(missing=lambda: 1 / 0)
def test_not_selected():
    pass
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(TEXT)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = needs\n")
    command = [sys.executable, "-m", "pytest", "-p", "cluster.local.testing", "-p", "tests.needs", "--require-all"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-k", "not selected", *arguments, str(folder)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [[], ["--numprocesses", "2"]], ids=["one-process", "two-processes"])
def test_a_test_that_cannot_be_run_here_is_left_out_and_told_and_fails_nothing(
    tmp_path: Path, arguments: list[str]
) -> None:
    done = run(tmp_path, "-c", str(tmp_path / "pytest.ini"), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 tests need what is not here: a wing" in done.stdout
    assert "1 passed" in done.stdout
    assert "skipped" not in done.stdout


def test_where_nothing_is_missing_nothing_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", str(tmp_path / "pytest.ini"), "-k", "test_c")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stdout
