"""At most so many requests per client address and path, of IPv6 per /64; aiolimiter's leaky bucket for each, a bounded
number of them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address

from aiolimiter import AsyncLimiter

BUCKETS_MAX = 20_000  # the least recently used is forgotten, which lets its client begin anew
_RATE = re.compile(r"([0-9]+)/([0-9]+)s")


@dataclass(frozen=True, slots=True)
class Rate:
    """`requests` per `period_s`; 0 requests = no limit."""

    requests: int
    period_s: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """ "1000/5s", or "0" for no limit. Errors: ValueError."""
        if text.strip() in ("0", ""):
            return cls(0, 1)
        match = _RATE.fullmatch(text.strip())
        if match is None or int(match[2]) == 0:
            raise ValueError(f"{text!r} is not a rate like 1000/5s (or 0 for no limit)")
        return cls(int(match[1]), int(match[2]))


class Bucket(AsyncLimiter):
    """An AsyncLimiter that is asked and never waited for."""

    def take(self) -> bool:
        if not self.has_capacity():
            return False
        self._level += 1  # what acquire() does when there is room; it awaits nothing then
        return True


@lru_cache(maxsize=BUCKETS_MAX)
def network_of(client: str) -> str:
    """The /64 that an IPv6 address is in: who has one has as many addresses as he likes."""
    try:
        address = IPv6Address(client)
    except ValueError:
        return client
    return client if address.ipv4_mapped else address.exploded[:19]


class Limiter:
    """Who may make another request now. The limit is this node's: a client that reaches n nodes has n times as much."""

    def __init__(self, rate: Rate, buckets_max: int = BUCKETS_MAX) -> None:
        self._rate = rate
        self._buckets_max = buckets_max
        self._buckets: OrderedDict[int, Bucket] = OrderedDict()  # by a hash: paths are as long as clients like

    @property
    def retry_after_s(self) -> int:
        """When there is room again for one request at least, in whole seconds."""
        return max(1, -(-self._rate.period_s // max(1, self._rate.requests)))

    def admit(self, client: str, path: str) -> bool:
        if not self._rate.requests:
            return True
        name = hash((network_of(client) if ":" in client else client, path))
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(self._rate.requests, self._rate.period_s)
            if len(self._buckets) > self._buckets_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket.take()
