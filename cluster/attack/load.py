"""The open loop: every increment is sent at its time, whatever became of the ones before, and sent once.

Latency counts from the scheduled time, so a slow answer is not hidden by requests that were not sent
meanwhile (coordinated omission). Nothing is retried: what a client sees is what is reported.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import aiohttp

from cluster.attack.audit import History, Outcome
from cluster.attack.plan import Increment
from cluster.attack.route import Route

REQUEST_TIMEOUT_S = 15.0  # more than nginx ever takes: three tries, 8 s in all, and one read
MAX_ANSWER_BYTES = 4096
MAX_FAILURES_TOLD = 5  # of each kind of answer
_HEADERS = {"Content-Type": "application/json"}


@dataclass(slots=True)
class Tally:
    """What happened so far. Latencies are seconds from the scheduled time."""

    history: History = field(default_factory=History)
    answers: Counter[str] = field(default_factory=Counter)  # status, or the name of the error
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    sent: int = 0
    replayed: int = 0  # answered by a second try of nginx, after a first one that had counted
    in_flight: int = 0
    waited: int = 0  # sent late, because as many as allowed were in flight
    failures: list[str] = field(default_factory=list)  # the first few of each kind, told

    @property
    def failed(self) -> int:
        return self.sent - self.in_flight - self.outcomes[Outcome.ACKNOWLEDGED]


async def run(
    plan: Iterable[Increment],
    url: str,
    *,
    connections: int,
    tally: Tally,
    every_second: Callable[[float], None] = lambda _: None,
    namespace: str | None = None,
) -> None:
    """Send the whole plan to a namespace, or to `url`/increment, and wait for every answer; `tally` is filled as it
    goes.

    At most `connections` are in flight; a request that finds none free is sent late, and its latency says so.
    """
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, use_dns_cache=True)
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        sender = _Sender(session, Route(url, namespace), tally)
        ticker = asyncio.create_task(_tick(every_second))
        try:
            await _pace(plan, sender, asyncio.Semaphore(connections), tally)
        finally:
            ticker.cancel()


async def _pace(plan: Iterable[Increment], sender: _Sender, slots: asyncio.Semaphore, tally: Tally) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for increment in plan:
            scheduled = began + increment.at_s
            early_s = scheduled - time.monotonic()
            if early_s > 0.001:
                await asyncio.sleep(early_s)
            if slots.locked():
                tally.waited += 1
            await slots.acquire()
            tally.sent += 1
            tally.in_flight += 1
            task = tasks.create_task(sender.send(increment, scheduled))
            task.add_done_callback(lambda _: slots.release())


async def _tick(every_second: Callable[[float], None]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(1.0)
        every_second(time.monotonic() - began)


class _Sender:
    """Sends one increment and records what came of it."""

    def __init__(self, session: aiohttp.ClientSession, route: Route, tally: Tally) -> None:
        self._session, self._route, self._tally = session, route, tally

    async def send(self, increment: Increment, scheduled: float) -> None:
        tally = self._tally
        answer, outcome = await self._post(increment)
        tally.latencies_s.append(time.monotonic() - scheduled)
        tally.in_flight -= 1
        tally.answers[answer] += 1
        tally.outcomes[outcome] += 1
        tally.history.add(increment.key, increment.value, outcome, digit=increment.digit)

    async def _post(self, increment: Increment) -> tuple[str, Outcome]:
        body = b'{"key":"%b","value":%d}' % (increment.key.encode("ascii"), increment.value)
        headers = {**_HEADERS, "Idempotency-Key": increment.idempotency_key}
        try:
            async with self._session.post(
                self._route.increments, data=body, headers=headers, allow_redirects=False
            ) as got:
                text = await got.content.read(MAX_ANSWER_BYTES)
                status, replayed = got.status, got.headers.get("Idempotent-Replayed") == "true"
        except aiohttp.ClientConnectorError as error:  # nobody listens: not a byte was sent
            return self._failed(increment, type(error).__name__, repr(error)), Outcome.REFUSED
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._failed(increment, type(error).__name__, repr(error)), Outcome.UNKNOWN
        if status == self._route.acknowledged:
            self._tally.replayed += replayed
            return str(status), Outcome.ACKNOWLEDGED
        return self._failed(increment, str(status), text.decode("utf-8", "replace")), outcome_of(status, text)

    def _failed(self, increment: Increment, answer: str, detail: str) -> str:
        if self._tally.answers[answer] < MAX_FAILURES_TOLD:
            self._tally.failures.append(f"{increment.at_s:.3f} s, {increment.idempotency_key}: {answer} {detail[:200]}")
        return answer


def outcome_of(status: int, body: bytes) -> Outcome:
    """What an answer means for the count. A 5xx is unknown, unless it says `counted: false`."""
    if status == 204:
        return Outcome.ACKNOWLEDGED
    if 400 <= status < 500:
        return Outcome.REFUSED
    try:
        said = json.loads(body)
    except ValueError:
        return Outcome.UNKNOWN
    error = said.get("error") if isinstance(said, Mapping) else None
    not_counted = isinstance(error, Mapping) and error.get("counted") is False
    return Outcome.REFUSED if not_counted else Outcome.UNKNOWN
