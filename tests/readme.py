"""The README's commands, in blocks and within lines: every one of them is run by a test, word for word.

But for `pip install .`, which needs a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from cluster.cli import main

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
ALL = [text.strip() for language, text in BLOCKS if language == "sh"]
IN_CONTAINERS = [command for command in ALL if command.startswith(("docker-compose ", "deploy/"))]
COMMANDS = [command for command in ALL if command not in IN_CONTAINERS]
OURS = "python3 -m cluster "
BETWEEN = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)


def inline() -> Iterator[str]:
    """What stands within a line and is a command of ours. A name alone (`up`) is none, unless it is called whole."""
    for text in re.findall(r"`([^`\n]+)`", BETWEEN):
        words = text.removeprefix(OURS).split()
        if words[0] in main.commands and (len(words) > 1 or text.startswith(OURS)):
            yield OURS + text.removeprefix(OURS)


INLINE = list(dict.fromkeys(inline()))


def take(prefix: str) -> str:
    """The one command of the README that begins so."""
    (found,) = [command for command in dict.fromkeys([*ALL, *INLINE]) if command.startswith(prefix)]
    return found


def with_output(prefix: str) -> Iterator[tuple[str, list[str]]]:
    """The commands that begin so, in order, each with the lines that the README shows as its output."""
    for (language, text), (next_language, output) in pairwise([*BLOCKS, ("sh", "")]):
        if language == "sh" and text.startswith(prefix):
            yield text.strip(), output.strip().splitlines() if next_language == "" else []
