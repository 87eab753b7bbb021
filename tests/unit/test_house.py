"""The rules of the house, as tests: who imports whom, what is pure, how large things are, what the linters say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("cluster", "node") for path in (ROOT / package).rglob("*.py"))
LINES_MAX = 310
FUNCTION_LINES_MAX = 50
PURE = [
    "cluster/ring.py",
    "cluster/upstreams.py",
    "cluster/view.py",
    "cluster/attack/audit.py",
    "cluster/attack/bounds.py",
    "cluster/attack/faults.py",
    "cluster/attack/plan.py",
    "node/answers.py",
    "node/batch.py",
    "node/bundling.py",
    "node/call.py",
    "node/counters.py",
    "node/deciding.py",
    "node/increment.py",
    "node/metrics.py",
    "node/payload.py",
    "node/ports.py",
    "node/settlement.py",
    "node/stock.py",
    "node/strategy.py",
    "node/terms.py",
    "node/v1/bodies.py",
    "node/v1/headers.py",
    "node/v1/models.py",
    "node/v1/query.py",
    "node/v1/told.py",
]
IMPURE = {"asyncio", "time", "os", "logging", "socket", "threading", "redis", "asyncpg", "quart", "uvicorn"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("name", PURE)
def test_the_pure_modules_neither_wait_nor_look_at_the_world(name: str) -> None:
    path = ROOT / name
    assert not {module.split(".")[0] for module in imports(path)} & IMPURE
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert not [node for node in tree if isinstance(node, ast.Await)]


def test_the_cluster_knows_nothing_of_a_node() -> None:
    """But for the commands that start one or measure it."""
    core = [path for path in SOURCES if path.parent == ROOT / "cluster"]
    assert not [path.name for path in core if any(module.split(".")[0] == "node" for module in imports(path))]


def test_only_one_module_of_a_node_constructs_it() -> None:
    adapters = {"node.log", "node.postgres", "node.store", "node.namespace_table", "node.sync_table"}
    adapters |= {"node.rollup_table", "node.key_table", "node.records", "cluster.registry"}
    allowed = {
        "parts.py",
        "pulse.py",
        "log.py",
        "store.py",
        "namespace_table.py",
        "sync_table.py",
        "rollup_table.py",
        "key_table.py",
        "records.py",
        "migrations.py",
    }
    users = {path.name for path in (ROOT / "node").rglob("*.py") if adapters & imports(path)}
    assert users <= allowed


def test_environ_is_read_at_the_edge_only() -> None:
    assert not [path for path in (ROOT / "node").rglob("*.py") if "environ" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_the_linters_have_nothing_to_say(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
