"""What OPERATE.md says of restores, with its own lines: a backup, then Redis alone and Postgres alone, put back."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

from tests.chaos.local_cluster import until
from tests.compose.lines import COMPOSE
from tests.compose.stack import ROOT, Stack, docker

OPERATE = (ROOT / "deploy" / "OPERATE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", OPERATE, re.MULTILINE | re.DOTALL)
KEY = "restored"


class Operator:
    """Types what OPERATE.md says, in a folder that holds the backup, and counts on one key."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        (folder / "deploy").symlink_to(ROOT / "deploy")

    def run(self, marked_by: str) -> None:
        """The block with these words in it."""
        (block,) = [block for block in BLOCKS if marked_by in block]
        file = COMPOSE.split()[-1]
        compose = f'compose() {{ docker-compose --project-directory {ROOT} -f {ROOT}/{file} "$@"; }}'
        self._stack.shell(f"set -euo pipefail; cd {self._folder}; {compose}; {block}")

    def count(self, idempotency_key: str) -> bool:
        """Posts until it is taken; -> whether it was a repeat."""
        headers = {"Idempotency-Key": idempotency_key}
        request = urllib.request.Request(f"{self._stack.url}/increment", f"key={KEY}&value=1".encode(), headers)
        repeated, _ = until(lambda: ask(request), "the increment is taken")
        return bool(repeated)

    def until_value(self, wanted: int) -> None:
        """Through nginx, and in Postgres."""
        until(lambda: self.value() == wanted, f"the value is {wanted}")
        until(lambda: self.stored() == str(wanted), f"Postgres has {wanted}")

    def value(self) -> int | None:
        answer = ask(urllib.request.Request(f"{self._stack.url}/increment/{KEY}"))
        return None if answer is None else int(json.loads(answer[1])[KEY])

    def stored(self) -> str:
        sql = f"SELECT value FROM key_counters WHERE key = '{KEY}'"
        return docker("exec", self._stack.container("postgres"), "psql", "-U", "tally", "-At", "-c", sql, "tally")


def ask(request: urllib.request.Request) -> tuple[bool, bytes] | None:
    """Whether it was answered as a repeat, and the body; nothing unless it was answered well."""
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return "Idempotent-Replayed" in answer.headers, answer.read()
    except OSError:
        return None


def test_restoring_redis_alone_loses_nothing_and_postgres_alone_what_was_settled_since(
    stack: Stack, tmp_path: Path
) -> None:
    operator = Operator(stack, tmp_path)
    operator.count("one")
    operator.until_value(1)
    operator.run("pg_dump")
    operator.count("two")
    operator.until_value(2)
    operator.count("three")

    operator.run("rm -rf /data/appendonlydir")
    operator.until_value(3)

    operator.run("realign.lua")
    operator.until_value(1)
    assert operator.count("three"), "Redis knows the key of an increment that is lost"
    assert not operator.count("four")
    operator.until_value(2)
