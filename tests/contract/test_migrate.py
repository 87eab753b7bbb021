"""The command that brings a database up to date before the nodes start."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cluster.cli import main

pytestmark = pytest.mark.postgres


def test_the_first_run_applies_everything_and_the_second_nothing(postgres_dsn: str) -> None:
    first, second = (CliRunner().invoke(main, ["migrate", "--postgres-dsn", postgres_dsn]) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert first.output.startswith("applied ")
    assert "counters" in first.output
    assert second.output == "the schema is up to date\n"


def test_without_a_postgres_it_says_so_after_its_time() -> None:
    result = CliRunner().invoke(main, ["migrate", "--postgres-dsn", "postgresql://127.0.0.1:1/none", "--wait", "0"])
    assert result.exit_code == 1
    assert "cannot be brought up to date" in result.output
