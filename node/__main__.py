"""`python3 -m node`: one node, configured by TALLY_* variables or a TOML file. What it does is in `cli.py`.

Only the standard library is imported here, so that a Python without Tally's libraries is told so and what to do.
"""

from __future__ import annotations

import sys

OURS = ("cluster", "node")
MISSING = """\
python3 -m node: this Python has no {name}, which a node needs. In a clone of Tally either
  python3 -m cluster --help                  makes .venv there, and then .venv/bin/python -m node
  pip install .                              in a venv of your own"""


def main() -> int:
    """Exit code: 2 where a library is missing; else `cli.main`'s."""
    try:
        from node.cli import main as run
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in OURS:
            raise
        print(MISSING.format(name=name), file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
