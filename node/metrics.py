"""Every metric's name: a wrong one does not type-check. The first six are the seed's."""

from __future__ import annotations

from typing import Literal

Count = Literal[
    "kv.dist.increment",  # increments counted by strategy dist
    "kv.sync.increment",  # ... by strategy sync
    "api.create_key",  # POST requests answered 204
    "api.key_not_found",
    "api.rate_limited",
    "api.replayed",  # idempotency keys that came again
    "api.mismatch",  # ... with another value
    "api.out_of_bounds",  # 409: the total would have passed a bound
    "api.bad_request",
    "api.unavailable",  # 503
]
Timing = Literal["kv.dist.sync_to_db"]  # ms that one settling of the owned partitions took
