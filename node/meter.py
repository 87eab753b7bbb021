"""The way to StatsD: counted in memory and sent once a second, so that a request costs no system call."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from statsd import StatsClient

from node.metrics import Count, Timing

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 1.0
TIMINGS_MAX = 1000  # kept between two flushes
DATAGRAM_BYTES_MAX = 1400  # fits an Ethernet frame


class StatsdMeter:
    """`ports.Meter`. `address` is "host:port"; an empty one, or one that does not resolve, sends nothing."""

    def __init__(self, address: str, prefix: str = "tally") -> None:
        self.counts: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self.sources: list[Callable[[], None]] = []  # called before each flush: they count what they gathered
        self._timings: list[tuple[str, float]] = []
        self._client = _client(address, prefix)

    def count(self, name: Count, by: int = 1) -> None:
        self.counts[name] += by

    def timing(self, name: Timing, ms: float) -> None:
        if len(self._timings) < TIMINGS_MAX:
            self._timings.append((name, ms))

    async def run(self) -> None:
        """Flushes until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            self.flush()

    def flush(self) -> None:
        """Sends what gathered since the last time."""
        for source in self.sources:
            source()
        counts, self.counts = self.counts, Counter()
        timings, self._timings = self._timings, []
        self.totals += counts
        if self._client is None or not (counts or timings):
            return
        with self._client.pipeline() as pipeline:
            for name, by in counts.items():
                pipeline.incr(name, by)
            for name, ms in timings:
                pipeline.timing(name, ms)

    def close(self) -> None:
        """Sends the rest. Nothing is sent after."""
        self.flush()
        if self._client is not None:
            self._client.close()
            self._client = None


def _client(address: str, prefix: str) -> StatsClient | None:
    if not address:
        return None
    host, _, port = address.rpartition(":")
    try:
        return StatsClient(host, int(port), prefix=prefix, maxudpsize=DATAGRAM_BYTES_MAX)
    except OSError as error:
        log.warning("StatsD at %s is not used: %s; check TALLY_STATSD", address, error)
        return None
