"""The open loop: every increment is sent at its time, whatever became of the ones before, and sent once.

Latency counts from the scheduled time, so a slow answer is not hidden by requests that were not sent
meanwhile (coordinated omission). Nothing is retried meanwhile: what a client sees is what is reported. When asked to,
those of unknown outcome are sent again at the end, under their keys, as a client should: then they count once.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import aiohttp

from cluster.attack import bearer
from cluster.attack.audit import History, Outcome
from cluster.attack.bounds import Bounds
from cluster.attack.plan import Increment
from cluster.attack.route import Route

REQUEST_TIMEOUT_S = 15.0  # more than nginx ever takes: three tries, 8 s in all, and one read
MAX_ANSWER_BYTES = 4096
MAX_FAILURES_TOLD = 5  # of each kind of answer
KEEP_ALIVE_S = 0.5  # less than the notice nginx gives before a reload closes idle connections
READERS = 4
READ_AMONG = 32  # keys that were incremented last
RESEND_AT_ONCE = 20
RESEND_PAUSE_S = 0.2
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
    doubtful: list[Increment] = field(default_factory=list)  # of unknown outcome
    resent: int = 0  # of these, acknowledged when they were sent again
    unread: int = 0  # reads that got no value
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=READ_AMONG))
    bounds: Bounds = field(init=False)

    def __post_init__(self) -> None:
        self.bounds = Bounds(self.history)

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
    reads_per_s: float = 0,
    sent: Callable[[], None] = lambda: None,
    resend_s: float = 0,
) -> None:
    """Send the whole plan to a namespace, or to `url`/increment, and wait for every answer; `tally` is filled as it
    goes.

    At most `connections` are in flight; a request that finds none free is sent late, and its latency says so.
    Meanwhile keys are read. When all is sent, `sent` is called, and increments of unknown outcome are sent again for up
    to `resend_s`.
    """
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, use_dns_cache=True, keepalive_timeout=KEEP_ALIVE_S)
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, headers=bearer.headers()
    ) as session:
        sender = _Sender(session, Route(url, namespace), tally)
        beside = [asyncio.create_task(_tick(every_second))]
        if reads_per_s:
            beside += [asyncio.create_task(sender.read_on(READERS / reads_per_s)) for _ in range(READERS)]
        try:
            await _pace(plan, sender, asyncio.Semaphore(connections), tally)
            sent()
            await sender.resend(resend_s)
        finally:
            for task in beside:
                task.cancel()
        for task in beside:
            if task.done() and not task.cancelled():
                task.result()


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
        tally.bounds.sent(increment.key, increment.value)
        answer, outcome, replayed = await self._post(increment)
        tally.latencies_s.append(time.monotonic() - scheduled)
        tally.in_flight -= 1
        tally.answers[answer] += 1
        tally.outcomes[outcome] += 1
        tally.replayed += replayed
        if outcome is Outcome.UNKNOWN:
            tally.doubtful.append(increment)
        else:
            self._record(increment, outcome)

    def _record(self, increment: Increment, outcome: Outcome) -> None:
        self._tally.history.add(increment.key, increment.value, outcome, digit=increment.digit)
        self._tally.recent.append(increment.key)

    async def resend(self, for_s: float) -> None:
        """Those of unknown outcome, until they are acknowledged; what is not by then stays unknown."""
        give_up_at, gate = time.monotonic() + for_s, asyncio.Semaphore(RESEND_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for increment in self._tally.doubtful:
                tasks.create_task(self._resend(increment, give_up_at, gate))

    async def _resend(self, increment: Increment, give_up_at: float, gate: asyncio.Semaphore) -> None:
        async with gate:
            while time.monotonic() < give_up_at:
                if (await self._post(increment))[1] is Outcome.ACKNOWLEDGED:
                    self._tally.resent += 1
                    self._record(increment, Outcome.ACKNOWLEDGED)
                    return
                await asyncio.sleep(RESEND_PAUSE_S)
        self._record(increment, Outcome.UNKNOWN)

    async def read_on(self, interval_s: float) -> None:
        """Reads keys that were incremented lately, for ever; the bounds say what is wrong."""
        bounds = self._tally.bounds
        while True:
            await asyncio.sleep(interval_s)
            if not self._tally.recent:
                continue
            key = random.choice(self._tally.recent)
            least = bounds.begin(key)
            value = await self._get(key)
            if value is None:
                self._tally.unread += 1
            else:
                bounds.end(key, least, value)

    async def _get(self, key: str) -> int | None:
        """None when there was no answer that says a value; an unknown key has 0."""
        try:
            async with self._session.get(self._route.counter(key), allow_redirects=False) as got:
                text = await got.content.read(MAX_ANSWER_BYTES)
                if got.status == 404:
                    return 0
                return self._route.value_in(json.loads(text), key) if got.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _post(self, increment: Increment) -> tuple[str, Outcome, bool]:
        """-> status or error, what it means, and whether it was a replay"""
        body = b'{"key":"%b","value":%d}' % (increment.key.encode("ascii"), increment.value)
        headers = {**_HEADERS, "Idempotency-Key": increment.idempotency_key}
        try:
            async with self._session.post(
                self._route.increments, data=body, headers=headers, allow_redirects=False
            ) as got:
                text = await got.content.read(MAX_ANSWER_BYTES)
                status, replayed = got.status, got.headers.get("Idempotent-Replayed") == "true"
        except aiohttp.ClientConnectorError as error:  # nobody listens: not a byte was sent
            return self._failed(increment, type(error).__name__, repr(error)), Outcome.REFUSED, False
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._failed(increment, type(error).__name__, repr(error)), Outcome.UNKNOWN, False
        if status == self._route.acknowledged:
            return str(status), Outcome.ACKNOWLEDGED, replayed
        failed = self._failed(increment, str(status), text.decode("utf-8", "replace"))
        return failed, outcome_of(status, text), False

    def _failed(self, increment: Increment, answer: str, detail: str) -> str:
        if self._tally.answers[answer] < MAX_FAILURES_TOLD:
            self._tally.failures.append(f"{increment.at_s:.3f} s, {increment.idempotency_key}: {answer} {detail[:200]}")
        return answer


def outcome_of(status: int, body: bytes) -> Outcome:
    """What an answer means for the count. A 5xx is unknown, unless it says `counted: false`.

    So is a 429: nginx may have asked a node before, which counted and died, and the next one knows its own limit only.
    """
    if status == 204:
        return Outcome.ACKNOWLEDGED
    if 400 <= status < 500 and status != 429:
        return Outcome.REFUSED
    try:
        said = json.loads(body)
    except ValueError:
        return Outcome.UNKNOWN
    error = said.get("error") if isinstance(said, Mapping) else None
    not_counted = isinstance(error, Mapping) and error.get("counted") is False
    return Outcome.REFUSED if not_counted else Outcome.UNKNOWN
