"""Whether Postgres answers, and what a node then offers."""

from __future__ import annotations

import asyncio

import pytest

from node import pulse
from node.pulse import MISSED_MAX, Pulse, follow


async def offers(answers: list[bool]) -> list[bool]:
    """What was offered by the time that all answers were taken."""
    offered: list[bool] = []
    taken = asyncio.Event()

    async def answer() -> bool:
        if not answers:
            taken.set()
            await asyncio.Event().wait()
        return answers.pop(0)

    async def offer(willing: bool) -> None:
        offered.append(willing)

    task = asyncio.create_task(follow(answer, offer, 0))
    await taken.wait()
    task.cancel()
    return offered


async def test_a_node_is_willing_as_long_as_postgres_answers() -> None:
    assert await offers([True] * 5) == []
    assert await offers([True, False, True, False, True]) == []


async def test_after_some_missed_answers_it_is_not_and_with_the_next_good_one_it_is() -> None:
    assert await offers([True] + [False] * (MISSED_MAX - 1)) == []
    assert await offers([True] + [False] * MISSED_MAX) == [False]
    assert await offers([False] * (MISSED_MAX + 3) + [True, True]) == [False, True]


@pytest.mark.postgres
async def test_postgres_answers_until_it_ends_the_connection_and_then_again(postgres_dsn: str) -> None:
    one, other = Pulse(postgres_dsn), Pulse(postgres_dsn)
    assert await one.answers()
    assert await other.answers()
    assert other._connection is not None
    assert one._connection is not None
    await other._connection.execute("SELECT pg_terminate_backend($1)", one._connection.get_server_pid())
    while await one.answers():
        await asyncio.sleep(0.01)
    assert await one.answers()
    one.close()
    other.close()


async def test_what_takes_connections_and_says_nothing_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "ANSWER_TIMEOUT_S", 0.1)
    closed = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        closed.set()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert not await Pulse(f"postgresql://tally@127.0.0.1:{port}/tally?sslmode=disable").answers()
    await closed.wait()
    server.close()


async def test_where_nothing_listens_nothing_answers() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert not await Pulse(f"postgresql://tally@127.0.0.1:{port}/tally").answers()
