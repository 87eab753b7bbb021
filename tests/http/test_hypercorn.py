"""The public listener served by Hypercorn: of the table of bad input nothing is counted, and nothing is a 5xx but the
501 that RFC 9112 has for transfer codings that nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.http.body_cases import body_cases
from tests.http.client import Front, Ledger
from tests.http.conftest import running_node
from tests.http.head_cases import head_cases

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

AT_ONCE = 8
CASES = [*body_cases(), *head_cases()]
WAITS = ("preface", "chunked, size too large")  # for more, as long as its client lets it: it is for use behind a proxy


@pytest.fixture
def hypercorn(servers: Servers, dsn: str, ledger: Ledger, tmp_path: Path) -> Iterator[Front]:
    with running_node(servers, dsn, tmp_path / "node.log", server="hypercorn") as port:
        yield Front("hypercorn", port, ledger)


async def test_the_table_of_bad_input(hypercorn: Front) -> None:
    room, wrong = asyncio.Semaphore(AT_ONCE), []

    async def check(number: int) -> None:
        case = CASES[number]
        fresh = f"h{number:04}"
        async with room:
            answer = await hypercorn.ask(case.request.replace(b"@KEY@", fresh.encode()))
        if answer.status == 204:
            hypercorn.ledger.count(fresh if case.key is None else case.key, case.value)
        taken, good = answer.status == 204, case.node == {204}
        if (taken != good and 204 not in case.node | case.nginx) or 500 <= answer.status != 501:
            wrong.append((case.name, answer.status))

    await asyncio.gather(*(check(n) for n in range(len(CASES)) if not any(word in CASES[n].name for word in WAITS)))
    assert not wrong
