"""Bad input never makes a 5xx and is never counted, at a node and through nginx; odd input that is good is counted."""

from __future__ import annotations

import re

import pytest

from tests.http.body_cases import body_cases
from tests.http.case import BAD_REQUEST, Case
from tests.http.client import Front
from tests.http.head_cases import head_cases

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

CASES = [*body_cases(), *head_cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"[^ -~]", "?", case.name))
async def test_every_case_of_the_table(front: Front, case: Case) -> None:
    fresh = f"{front.name[1]}{CASES.index(case):04}"  # as long as @KEY@: lengths and chunks stay right
    data = case.request.replace(b"@KEY@", fresh.encode())
    answer = await front.ask(data)
    assert answer.status in (case.nginx if front.name == "nginx" else case.node), answer
    key = fresh if case.key is None else case.key
    if answer.status == 204:
        assert answer.body == b""
        front.ledger.count(key, case.value)
    elif answer.status and not data.startswith((b"HEAD", b"OPTIONS")):
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.status != 400 or answer.body == BAD_REQUEST
        assert isinstance(answer.error["message"], str)
    assert "x-injected" not in answer.headers
    assert await front.value(key) == front.ledger.counts.get(key)
