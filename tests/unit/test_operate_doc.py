"""deploy/OPERATE.md names log lines, metrics and settings that are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from node.metrics import Count, Timing

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "deploy" / "OPERATE.md").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker-compose.cluster.yml").read_text(encoding="utf-8")
(TO_BE_TOLD_OF,) = re.findall(r"^Log lines to be told of, of level error: (.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL)


def logged(level: str) -> Iterator[str]:
    """The texts of all calls `log.<level>(...)`; of one that is chosen by a condition, each."""
    for path in [*(ROOT / "cluster").rglob("*.py"), *(ROOT / "node").rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == f"log.{level}":
                for part in ast.walk(call.args[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value


def test_every_log_line_to_be_told_of_is_logged_at_its_level() -> None:
    errors, warnings = TO_BE_TOLD_OF.split("Of level warning:")
    for level, named in (("error", errors), ("warning", warnings)):
        lines, texts = re.findall(r"`([^`]+)`", named), list(logged(level))
        assert len(lines) >= 4
        for line in lines:
            assert any(line in text for text in texts), f"{line!r} is in no log of level {level}"


def test_every_metric_is_there() -> None:
    named = set(re.findall(r"`tally\.([a-z_.]+)`", TEXT))
    assert len(named) >= 6
    assert named <= {*get_args(Count), *get_args(Timing)}


def test_what_is_to_be_watched_in_the_cluster_view_is_in_it() -> None:
    overview = (ROOT / "node" / "overview.py").read_text(encoding="utf-8")
    rows = [line for line in TEXT.splitlines() if line.startswith("| `/cluster`")]
    named = [name for row in rows for name in re.findall(r"`([a-z_.]+)`", row.split("|")[1]) if "tally." not in name]
    assert len(named) >= 5
    for name in named:
        for part in name.split("."):
            assert f'"{part}"' in overview, name


def test_the_table_of_settings_is_what_the_compose_file_takes() -> None:
    taken = dict(re.findall(r"\$\{(TALLY_\w+):-([^}]*)\}", COMPOSE))
    del taken["TALLY_TESTS_IMAGE"]  # of the profile `tests`, for who develops
    told = dict(re.findall(r"^\| `(TALLY_\w+)` \| `?([^`|]*?)`? \|", TEXT, re.MULTILINE))
    assert {name: default.replace("none", "") for name, default in told.items()} == taken
