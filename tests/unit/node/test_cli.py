"""The command line of a node, before there is a node: usage, wrong usage, missing libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from node import cli
from node.config import Config

ROOT = Path(__file__).resolve().parents[3]


def node(*options: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "node", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_the_libraries_it_says_which_is_missing_and_what_to_do() -> None:
    told = node(python=("-S",))
    assert told.returncode == 2
    assert "this Python has no uvloop" in told.stderr
    assert "pip install ." in told.stderr
    assert "python3 -m cluster" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_setting_with_its_default_and_what_it_is(option: str) -> None:
    told = node(option)
    assert (told.returncode, told.stderr) == (0, "")
    words = " ".join(told.stdout.split())
    for name, field in Config.model_fields.items():
        assert f"TALLY_{name.upper()}={cli.default(field)}" in told.stdout.replace(" ", "").splitlines()
        assert field.description, name
        assert " ".join(field.description.split()) in words, name


@pytest.mark.parametrize(
    ("name", "value"), [("hot_lane", "true"), ("port", "3333"), ("trusted_proxies", ""), ("rate_limit", "1000/5s")]
)
def test_a_default_is_shown_as_one_writes_it_into_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert cli.default(Config.model_fields[name]) == value
    monkeypatch.setenv(f"TALLY_{name.upper()}", value)
    assert getattr(Config(), name) == Config.model_fields[name].default


@pytest.mark.parametrize("wrong", [["--port=4000"], ["-x"], ["a.toml", "b.toml"]])
def test_what_it_does_not_take_is_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(wrong)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert wrong[-1] in told
    assert "usage: python3 -m node" in told


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(tmp_path / "none.toml")]) == 2
    assert "none.toml cannot be read" in capsys.readouterr().err
