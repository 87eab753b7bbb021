"""Every metric's name: a wrong one does not type-check. The first are the seed's."""

from __future__ import annotations

from typing import Literal

from node.terms import StrategyName

Count = Literal[
    "kv.dist.increment",  # increments counted by strategy dist
    "kv.sync.increment",  # ... by strategy sync
    "kv.rollup.increment",  # ... by strategy rollup
    "api.create_key",  # POST requests answered 204
    "api.key_not_found",
    "api.rate_limited",
    "api.replayed",  # idempotency keys that came again
    "api.mismatch",  # ... with another value
    "api.out_of_bounds",  # 409: the total would have passed a bound
    "api.bad_request",
    "api.unauthorized",  # 401: no valid token
    "api.forbidden",  # 403: a token that may not do that
    "api.unavailable",  # 503
    "redis.calls_made_again",  # Redis went back in time: calls of this node that were put back
    "redis.calls_lost",  # ... and that could not be
]
Timing = Literal["kv.dist.sync_to_db"]  # ms that one settling of the owned partitions took

COUNTED: dict[StrategyName, Count] = {  # strategy -> metric
    "dist": "kv.dist.increment",
    "sync": "kv.sync.increment",
    "rollup": "kv.rollup.increment",
}
