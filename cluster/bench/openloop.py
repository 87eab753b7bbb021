"""Two loops of our own over plain sockets: an open one, whose requests go out at their times whatever the answers
do, and a closed one, which stands in for wrk.

Latency counts from the scheduled time. So the loop's timers must be finer than a millisecond: run it in the loop that
`fine_loop` makes.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster.attack.report import rank

ANSWER_TIMEOUT_S = 10.0
FAILURES_MAX = 100
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def fine_loop() -> asyncio.AbstractEventLoop:
    """select(2) waits to the microsecond, epoll in Python to the millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@dataclass
class Done:
    """What became of a load: a latency for each 2xx answer, a word for each other one."""

    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[rank(percent, len(ordered))] if ordered else 0.0

    def fail(self, why: str) -> None:
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(why)


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it. `failed` is why it can take no more."""

    def __init__(self) -> None:
        self.failed: str | None = None
        self._read = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, body = self._read.partition(b"\r\n\r\n")
        status, length = _STATUS.match(head), _LENGTH.search(head)
        if blank and status and len(body) >= (int(length.group(1)) if length else 0):
            self._read = b""
            self._resolve(int(status.group(1)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed = repr(exc) if exc else "closed by the server"
        self._resolve(0)

    def _resolve(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    async def ask(self, request: bytes) -> int:
        """Its status; 0 when the connection broke. TimeoutError."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.failed is not None:
            return 0
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await self._answer

    def close(self) -> None:
        self._transport.close()


async def _ask(connection: Connection, request: bytes, since: float, done: Done) -> None:
    try:
        status = await connection.ask(request)
    except TimeoutError:
        return done.fail(f"no answer in {ANSWER_TIMEOUT_S:g} s")
    if 200 <= status < 300:
        done.latencies_s.append(time.perf_counter() - since)
    else:
        done.fail(str(status or connection.failed))
    return None


async def _connect(host: str, port: int, count: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, host, port))[1] for _ in range(count)]


async def closed_loop(host: str, port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Done:
    """Every connection sends its next request when it has its answer. Errors: OSError, when nobody listens."""
    done, pool = Done(), await _connect(host, port, connections)
    began = time.perf_counter()

    async def run(connection: Connection) -> None:
        while (now := time.perf_counter()) < began + seconds and connection.failed is None:
            await _ask(connection, next(requests), now, done)

    await asyncio.gather(*(run(connection) for connection in pool))
    done.seconds = time.perf_counter() - began
    for connection in pool:
        connection.close()
    return done


async def open_loop(
    host: str, port: int, requests: Iterator[bytes], connections: int, rate: float, seconds: float
) -> Done:
    """Request n goes out n/rate seconds after the first, on a connection that is free; the latest waits for one."""
    done, pool = Done(), await _connect(host, port, connections)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()
    for connection in pool:
        free.put_nowait(connection)
    began = time.perf_counter()

    async def send(request: bytes, scheduled: float) -> None:
        connection = await free.get()
        await _ask(connection, request, scheduled, done)
        free.put_nowait(connection)

    for number in range(max(1, round(rate * seconds))):
        scheduled = began + number / rate
        if (early_s := scheduled - time.perf_counter()) > 0:
            await asyncio.sleep(early_s)
        task = asyncio.create_task(send(next(requests), scheduled))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    done.seconds = time.perf_counter() - began
    for connection in pool:
        connection.close()
    return done
