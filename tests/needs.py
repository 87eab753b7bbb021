"""Tests that need what not every machine can have: where that is missing they are left out, and the summary says so.

    @pytest.mark.needs(missing=root)        `missing` says what is not here, or None

Left out, not skipped: `--require-all` fails for whatever this machine could have run and did not.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

Missing = Callable[[], str | None]
LEFT_OUT = "left_out"
left_out = pytest.StashKey[Counter[str]]()


def root() -> str | None:
    return None if os.geteuid() == 0 else "root"


def what_is_missing(item: pytest.Item) -> str | None:
    asked: list[Missing] = [mark.kwargs["missing"] for mark in item.iter_markers("needs")]
    return next((what for missing in asked if (what := missing()) is not None), None)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[left_out] = Counter()


@pytest.hookimpl(trylast=True)  # nothing is asked for the sake of a test that -m or -k has left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = [(item, what) for item in items if (what := what_is_missing(item)) is not None]
    if missing:
        config.stash[left_out] = Counter(what for _, what in missing)
        config.hook.pytest_deselected(items=[item for item, _ in missing])
        gone = {item for item, _ in missing}
        items[:] = [item for item in items if item not in gone]


def pytest_sessionfinish(session: pytest.Session) -> None:
    told = getattr(session.config, "workeroutput", None)
    if told is not None:  # one of pytest-xdist's processes: the one that shows the summary has collected nothing
        told[LEFT_OUT] = dict(session.config.stash[left_out])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    told = getattr(node, "workeroutput", {}).get(LEFT_OUT, {})
    node.config.stash[left_out] |= Counter(told)  # the larger one: every process has collected the same tests


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[left_out]:
        terminalreporter.section("left out")
    for what, count in config.stash[left_out].items():
        terminalreporter.line(f"{count} tests need what is not here: {what}")
