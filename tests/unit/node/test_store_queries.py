"""How the .sql files are taken apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import node.postgres
from node.postgres import named_queries

assert node.postgres.__file__ is not None
FOLDER = Path(node.postgres.__file__).parent
FILES = sorted(path.name for path in FOLDER.glob("queries*.sql"))


def test_a_query_begins_with_its_name_and_ends_at_the_next() -> None:
    text = "-- a comment before\n-- name: one\nSELECT 1;\n\n-- name: two\n-- what it does\nSELECT\n  2;\n"
    assert named_queries(text) == {"one": "SELECT 1;\n\n", "two": "-- what it does\nSELECT\n  2;\n"}


def test_no_query_is_none() -> None:
    assert named_queries("") == {}
    assert named_queries("SELECT 1;") == {}


@pytest.mark.parametrize("file", FILES)
def test_every_query_of_a_file_is_found_and_has_one_statement(file: str) -> None:
    text = (FOLDER / file).read_text(encoding="utf-8")
    queries = named_queries(text)
    assert len(queries) == text.count("-- name: ")
    for name, sql in queries.items():
        statements = [line for line in sql.splitlines() if not line.startswith("--") and line.rstrip().endswith(";")]
        assert len(statements) == 1, name


@pytest.mark.parametrize("file", FILES)
def test_one_module_uses_a_file_and_it_uses_every_query_that_is_there_and_no_other(file: str) -> None:
    (text,) = [text for path in FOLDER.rglob("*.py") if f'queries("{file}")' in (text := path.read_text("utf-8"))]
    used = set(re.findall(r'SQL\["(\w+)"\]', text))
    assert used == set(named_queries((FOLDER / file).read_text(encoding="utf-8")))
