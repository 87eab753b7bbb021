"""The README's commands are commands: tests/chaos and tests/compose run them, and this says which are mistyped."""

from __future__ import annotations

import shlex

import pytest

from cluster.cli import main
from tests.readme import COMMANDS, INLINE, OURS


@pytest.mark.parametrize("command", sorted({*INLINE, *(line for line in COMMANDS if line.startswith(OURS))}))
def test_the_command_line_takes_every_command(command: str) -> None:
    name, *arguments = shlex.split(command.removeprefix(OURS))
    main.commands[name].make_context(name, arguments).close()


def test_commands_within_lines_are_found() -> None:
    assert {"python3 -m cluster bench", "python3 -m cluster pause n1 10"} <= set(INLINE)
