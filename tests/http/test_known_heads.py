"""One connection, requests alike but for an id: the later ones are taken without being parsed, and mean what they
say.
"""

from __future__ import annotations

import pytest

from tests.http.client import PROXY, STRANGER, Front, increment, post, request

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY"])
async def test_every_id_is_its_own_however_its_header_is_written(front: Front, key: str, name: str) -> None:
    async with front.connect() as connection:
        for i in range(6):
            answer = await connection.ask(post(increment(key), **{name: f"{key}-{name}-{i // 2}"}))
            assert (answer.status, answer.headers.get("idempotent-replayed")) == (204, "true" if i % 2 else None)
        assert (await connection.ask(post(increment(key)))).headers.get("idempotent-replayed") is None
        assert (await connection.ask(post(increment(key, 2), **{name: f"{key}-{name}-0"}))).status == 422
    front.ledger.count(key, 4)
    assert await front.value(key) == 4


async def test_a_known_head_with_another_body_is_another_request(front: Front, key: str) -> None:
    async with front.connect() as connection:
        for value in (1, 2, 3):
            assert (await connection.ask(post(increment(key, value)))).status == 204
        assert (await connection.ask(post(increment(key, 7).replace(b"7", b"x")))).status == 400
    front.ledger.count(key, 6)
    assert await front.value(key) == 6


async def test_a_known_head_in_pieces_or_in_a_row_is_read_all_the_same(front: Front, key: str) -> None:
    one = post(increment(key))
    async with front.connect() as connection:
        assert (await connection.ask(one)).status == 204
        for cut in (1, 20, one.index(b"\r\n\r\n"), len(one) - 1):
            await connection.send(one[:cut])
            await connection.send(one[cut:] + one)
            assert [(await connection.answer()).status for _ in range(2)] == [204, 204]
    front.ledger.count(key, 9)
    assert await front.value(key) == 9


async def test_a_proxys_request_id_counts_once_and_a_strangers_is_no_id(node: Front, key: str) -> None:
    for source, counted in ((PROXY, 2), (STRANGER, 4)):
        async with node.connect(source) as connection:
            for i in range(4):
                answer = await connection.ask(post(increment(key), **{"X-Request-ID": f"{key}{i // 2}"}))
                assert (answer.status, answer.headers.get("idempotent-replayed")) == (204, None)
        node.ledger.count(key, counted)
    assert await node.value(key) == 6


async def test_reads_of_many_keys_on_one_connection_are_each_their_own(front: Front, key: str) -> None:
    async with front.connect() as connection:
        for i in range(3):
            assert (await connection.ask(post(increment(f"{key}{i}", i)))).status == 204
            front.ledger.count(f"{key}{i}", i)
        for _ in range(2):
            for i in range(3):
                answer = await connection.ask(request("GET", f"/increment/{key}{i}"))
                assert answer.body == b'{"%s%d":%d}' % (key.encode(), i, i)
