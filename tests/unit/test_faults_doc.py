"""deploy/FAULTS.md promises nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "deploy" / "FAULTS.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("|") and not re.match(r"\|(---| fault )", line)]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_row_has_its_six_columns_and_names_a_test() -> None:
    assert len(ROWS) > 30
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 6, row
        assert all(cells), row
        assert NAMED.search(cells[-1]), row


def test_every_test_that_is_named_is_there() -> None:
    for path, name in NAMED.findall(TEXT):
        defined = re.findall(r"^(?:async )?def (test_\w+)\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert name in defined, f"{path}::{name}"
