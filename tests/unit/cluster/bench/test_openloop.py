"""The loops that stand in for wrk, against a server of a few lines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from cluster.bench import load as loading
from cluster.bench.load import LoadFailed, drive
from cluster.bench.openloop import closed_loop, open_loop
from cluster.bench.pins import Cores
from cluster.bench.rows import get

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"


class Server:
    def __init__(self) -> None:
        self.answer = OK
        self.requests = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                writer.write(self.answer[:20])  # in two parts: an answer may come so
                await asyncio.sleep(0)
                writer.write(self.answer[20:])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()


def requests() -> itertools.repeat[bytes]:
    return itertools.repeat(b"GET / HTTP/1.1\r\n\r\n")


async def test_the_open_loop_sends_what_the_rate_says(server: Server) -> None:
    done = await open_loop("127.0.0.1", server.port, requests(), connections=4, rate=200, seconds=0.2)
    assert (len(done.latencies_s), server.requests, done.failures) == (40, 40, [])
    assert done.percentile_ms(99) > 0


async def test_the_closed_loop_counts_every_answer(server: Server) -> None:
    done = await closed_loop("127.0.0.1", server.port, requests(), connections=3, seconds=0.1)
    assert len(done.latencies_s) == server.requests > 3
    assert done.failures == []


async def test_other_answers_than_2xx_are_failures(server: Server) -> None:
    server.answer = BUSY
    done = await open_loop("127.0.0.1", server.port, requests(), connections=1, rate=100, seconds=0.05)
    assert set(done.failures) == {"503"}
    assert done.latencies_s == []


async def test_without_wrk_our_own_loop_measures(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(loading, "which", lambda _: None)
    cores, url = Cores(frozenset(), frozenset()), f"http://127.0.0.1:{server.port}"
    sample = await drive(get(), url, 0.1, cores, tmp_path)  # type: ignore[arg-type]
    assert sample.completed == server.requests
    assert sample.figure == pytest.approx(sample.completed / sample.seconds)
    server.answer = BUSY
    with pytest.raises(LoadFailed, match="503"):
        await drive(get(), url, 0.1, cores, tmp_path)  # type: ignore[arg-type]
