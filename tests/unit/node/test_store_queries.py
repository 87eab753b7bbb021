"""How queries.sql is taken apart."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import node.store
from node.store import SQL, named_queries


def test_a_query_begins_with_its_name_and_ends_at_the_next() -> None:
    text = "-- a comment before\n-- name: one\nSELECT 1;\n\n-- name: two\n-- what it does\nSELECT\n  2;\n"
    assert named_queries(text) == {"one": "SELECT 1;\n\n", "two": "-- what it does\nSELECT\n  2;\n"}


def test_no_query_is_none() -> None:
    assert named_queries("") == {}
    assert named_queries("SELECT 1;") == {}


def test_every_query_of_the_file_is_found_and_has_one_statement() -> None:
    text = files("node").joinpath("queries.sql").read_text(encoding="utf-8")
    assert len(SQL) == text.count("-- name: ")
    for name, sql in SQL.items():
        statements = [line for line in sql.splitlines() if not line.startswith("--") and line.rstrip().endswith(";")]
        assert len(statements) == 1, name


def test_every_query_is_used_and_every_one_that_is_used_is_there() -> None:
    assert node.store.__file__ is not None
    used = set()
    for module in Path(node.store.__file__).parent.rglob("*.py"):
        used |= set(re.findall(r'SQL\["(\w+)"\]', module.read_text(encoding="utf-8")))
    assert used == set(SQL)
