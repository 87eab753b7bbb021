"""What changes one counter, and what is remembered of it: add and get, reset, receipts."""

from __future__ import annotations

from quart import Blueprint, request

from node.answers import Answer
from node.call import Outcome
from node.errors import NotFound, OutOfBounds
from node.increment import counter_name, valid_namespace
from node.routes.desk import Desk, request_id
from node.routes.http import body, only
from node.routes.openapi import COUNTING, READING, tells
from node.v1 import headers as heads
from node.v1 import models, told
from node.v1.bodies import guard, parse_add, parse_path_key, parse_reset
from node.v1.query import parse_nothing, parse_receipt


def blueprint(desk: Desk) -> Blueprint:
    routes = Blueprint("adding", __name__)
    routes.post("/v1/<ns>/increments")(desk.counts(add))
    routes.post("/v1/<ns>/counters/<key>/reset")(desk.counts(reset))
    routes.get("/v1/<ns>/receipts")(desk.answers(receipt))
    return routes


@tells(
    told.Added,
    *COUNTING,
    OutOfBounds,
    body=models.AddBody,
    headers=heads.Idempotency,
    says=heads.Replayed,
)
async def add(desk: Desk, ns: str) -> Answer:
    """Add to a counter, and get its total.

    Decided and counted in one atomic step. With `min` or `max`, an increment whose total would pass a bound is
    answered 409 and not counted. A namespace that is not there yet is founded.
    """
    parse_nothing(request.query_string)
    namespace = await desk.namespaces.expected(valid_namespace(ns))
    asked = parse_add(only("Content-Type"), await body(), only("Idempotency-Key"), namespace)
    namespace = await desk.namespaces.found(ns)
    increment = asked.increment(namespace, request_id())
    added = await desk.of(namespace).add(namespace, increment, asked.bounds)
    answer = told.of_added(asked.key, added, increment.short_lived)
    desk.door.decided(answer.status, added.outcome, namespace.strategy)
    return answer


@tells(
    told.Taken,
    *COUNTING,
    NotFound,
    body=models.ResetBody,
    headers=heads.Idempotency,
    says=heads.Replayed,
)
async def reset(desk: Desk, ns: str, key: str) -> Answer:
    """Take off a counter all it has, exactly what is answered; it is 0 then.

    Under an idempotency key it is taken off once, and a repeat is answered the same. In strategies
    `sync` and `rollup` a full counter is emptied like any other. In `dist` it is answered 422 and keeps what it has:
    while too much of it waits to be settled, until that is done, some seconds later; once it is full in Postgres, for
    good.
    """
    parse_nothing(request.query_string)
    key = parse_path_key(key)
    namespace = await desk.namespace(ns)
    given = parse_reset(only("Content-Type"), await body(), only("Idempotency-Key"), namespace)
    idempotency_key, short_lived = guard(given, request_id())
    counter = counter_name(ns, key)
    taken = await desk.of(namespace).reset(namespace, counter, idempotency_key, short_lived)
    if taken.replayed:
        desk.door.decided(200, Outcome.REPLAYED, namespace.strategy)
    return told.of_taken(key, taken, short_lived)


@tells(told.Receipt, *READING, query=models.ReceiptQuery)
async def receipt(desk: Desk, ns: str) -> Answer:
    """Whether what came under an idempotency key was counted, and how long that is remembered."""
    key, idempotency_key = parse_receipt(request.query_string)
    namespace = await desk.namespace(ns)
    found = await desk.of(namespace).receipt(namespace, counter_name(ns, key), idempotency_key)
    return told.ok(told.Receipt(key, idempotency_key, found.counted, found.value, found.window_s))
