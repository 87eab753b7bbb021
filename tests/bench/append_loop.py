"""The bare append script in a loop: what Redis and node/log.lua allow for ids, without HTTP, parsing or hashing.

python -m tests.bench.append_loop REDIS_URL SECONDS BATCH

Every call has BATCH ids that were never used before over 1000 counters, as a node would send them, and two calls are in
flight. The payloads are made before the clock starts. Prints {"calls", "ids", "seconds"}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator

from node.call import Bundle, Pending, Windows, form_call
from node.increment import Increment
from node.log import RedisLog
from node.ports import Appender, Fenced

PARTITIONS, COUNTERS = 64, 1000
IDS_A_SECOND = 250_000  # more than Redis takes: so many are made ready for each second
IN_FLIGHT = 2
WRITER = f"bare-{os.urandom(3).hex()}"


def payloads(calls: int, batch: int) -> list[bytes]:
    """As a node forms them."""
    inbox: deque[Pending | Bundle] = deque()
    formed = []
    for number in range(1, calls + 1):
        for each in range(batch):
            increment = Increment(f"default:k{each % COUNTERS:07d}", 1, f"{WRITER}-{number:06d}-{each:04d}")
            inbox.append(Pending(increment, 0.0))
        formed.append(form_call(number, inbox, PARTITIONS, Windows()).payload)
    return formed


async def appends(appender: Appender, bodies: list[bytes], seconds: float) -> tuple[int, float]:
    """-> calls answered, and the time they took."""
    numbered: Iterator[tuple[int, bytes]] = iter(enumerate(bodies, 1))
    flight: deque[asyncio.Task[str]] = deque()
    done, began = 0, time.perf_counter()
    while True:
        while len(flight) < IN_FLIGHT and time.perf_counter() < began + seconds:
            number, body = next(numbered, (0, b""))
            if not number:
                break
            flight.append(asyncio.create_task(appender.append(WRITER, 1, number, body)))
        if not flight:
            return done, time.perf_counter() - began
        await flight.popleft()
        done += 1


async def main(redis_url: str, seconds: float, batch: int) -> None:
    log = RedisLog.open(redis_url, 0, PARTITIONS)
    await log.redis.flushall()
    await log.repair(Fenced("bench", 1, dict.fromkeys(range(PARTITIONS), 0), ()), await log.facts())
    await log.introduce(WRITER, 0)
    bodies = payloads(max(2, round(IDS_A_SECOND * seconds / batch)), batch)
    appender = await log.connect(lambda: None)
    calls, took = await appends(appender, bodies, seconds)
    await appender.close()
    await log.close()
    print(json.dumps({"calls": calls, "ids": calls * batch, "seconds": took}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
