"""Clients that never give up: each increment is sent, under its idempotency key, until it is acknowledged.

So in the end every one of them must be counted, once: nothing is of unknown outcome, and a retry that counts again
shows. What each first answer was is counted, too.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import aiohttp

from cluster.attack import readback
from cluster.attack.audit import History, Outcome, Verdict, audit
from cluster.attack.load import KEEP_ALIVE_S
from cluster.attack.plan import Increment, Plan

CLIENTS = 8
TIMEOUT_S = 10.0
PAUSE_S = 0.02
SETTLED_IN_S = 60.0


class Load:
    """Runs in a thread of its own between `start` and `stop`. `urls` may be changed meanwhile."""

    def __init__(self, urls: Sequence[str], keys: int = 20, clients: int = CLIENTS) -> None:
        self.urls = list(urls)
        self.history = History()
        self.answers: Counter[str] = Counter()  # of every try
        self.replayed = 0
        self.slowest_s = 0.0  # until any answer at all
        self._clients = clients
        self._plan: Iterator[Increment] = iter(Plan(1000, 1000, keys, 0.3, secrets.token_hex(4), 1))
        self._stop = False
        self._give_up_at = float("inf")
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    @property
    def acknowledged(self) -> int:
        return self.answers["204"]

    def start(self) -> Load:
        self._thread.start()
        return self

    def more(self, increments: int) -> None:
        """Waits until so many more have been acknowledged."""
        wanted = self.acknowledged + increments
        give_up_at = time.monotonic() + SETTLED_IN_S
        while self.acknowledged < wanted:
            assert self._thread.is_alive(), self._trouble
            assert time.monotonic() < give_up_at, f"nothing is acknowledged any more: {self.answers}"
            time.sleep(0.01)

    def stop(self) -> None:
        """Returns when what was begun has been acknowledged."""
        self._stop, self._give_up_at = True, time.monotonic() + SETTLED_IN_S
        self._thread.join()
        if self._trouble is not None:
            raise self._trouble

    def verdicts(self, url: str, dsn: str) -> tuple[Verdict, Verdict]:
        """What a node says of all values, and what Postgres does once everything is settled."""
        return asyncio.run(self._verdicts(url, dsn))

    async def _verdicts(self, url: str, dsn: str) -> tuple[Verdict, Verdict]:
        keys = list(self.history.keys)
        values = await readback.counted(url, keys)
        rows = await readback.settled(dsn, values, keys, SETTLED_IN_S)
        return audit(self.history, values), audit(self.history, rows)

    def is_exact(self, url: str, dsn: str) -> None:
        """Every increment is counted once, by a node's word and in Postgres."""
        public, stored = self.verdicts(url, dsn)
        assert not public.findings, public.findings
        assert not stored.findings, stored.findings
        assert public.counted == stored.counted == self.acknowledged > 0

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self._trouble = error

    async def _all(self) -> None:
        timeout, connector = (
            aiohttp.ClientTimeout(total=TIMEOUT_S),
            aiohttp.TCPConnector(keepalive_timeout=KEEP_ALIVE_S),
        )
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as tasks:
            for number in range(self._clients):
                tasks.create_task(self._client(session, number))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        while not self._stop:
            increment = next(self._plan)
            for attempt in count(number):
                if await self._send(session, self.urls[attempt % len(self.urls)], increment) == "204":
                    break
                assert time.monotonic() < self._give_up_at, f"it is never acknowledged: {self.answers}"
                await asyncio.sleep(PAUSE_S)
            self.history.add(increment.key, increment.value, Outcome.ACKNOWLEDGED, digit=increment.digit)

    async def _send(self, session: aiohttp.ClientSession, url: str, increment: Increment) -> str:
        body = json.dumps({"key": increment.key, "value": increment.value}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": increment.idempotency_key}
        began = time.monotonic()
        try:
            async with session.post(f"{url}/increment", data=body, headers=headers) as answer:
                told, text = str(answer.status), await answer.text()
                self.replayed += answer.headers.get("Idempotent-Replayed") == "true"
        except (aiohttp.ClientError, TimeoutError) as error:
            told = type(error).__name__
        else:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            if told == "503":
                assert answer.headers["Retry-After"], "a 503 says when to try again"
                told += f" counted {json.loads(text)['error']['counted']}"
        self.answers[told] += 1
        return told


@contextmanager
def load(*urls: str, keys: int = 20, clients: int = CLIENTS) -> Iterator[Load]:
    """Stopped afterwards, whatever happens."""
    running = Load(urls, keys, clients).start()
    try:
        yield running
    finally:
        running.stop()
