"""POST /v1/<ns>/increments/batch: many increments in one request."""

from __future__ import annotations

import asyncio

import msgspec
from quart import Blueprint, g, request
from quart_schema import document_response

from node.answers import Answer, of_error
from node.batch import (
    Given,
    all_replayed,
    describe,
    increments_of,
    prefers_minimal,
    quick_batch,
    results,
    strict_batch,
    terms_under,
    worst,
)
from node.errors import BadRequest, PayloadTooLarge, TooManyNamespaces, TooManyRequests
from node.increment import parse_idempotency_header, valid_namespace
from node.routes.desk import Desk, request_id
from node.routes.http import body, only
from node.routes.openapi import tells
from node.terms import Namespace
from node.v1 import headers as heads
from node.v1 import models, told
from node.v1.query import parse_nothing

SHORT_BYTES = 32 * 1024


def blueprint(desk: Desk) -> Blueprint:
    routes = Blueprint("batch", __name__)
    routes.post("/v1/<ns>/increments/batch")(desk.counts(add_batch))
    return routes


@document_response(models.BatchError, 503, heads.Later)
@tells(
    models.BatchTold,
    BadRequest,
    PayloadTooLarge,
    TooManyNamespaces,
    TooManyRequests,
    body=models.BatchBody,
    headers=heads.OfBatch,
    says=heads.Replayed,
)
async def add_batch(desk: Desk, ns: str) -> Answer:
    """Many increments in one request: what became of each, in order.

    An item is counted as if it had come alone. `Prefer: return=minimal` leaves the list of results out.

    An item without an `idempotency_key` of its own counts once under the header `Idempotency-Key` and its place in the
    batch: send the same batch again under the same key, and what was counted before is told as replayed.
    """
    parse_nothing(request.query_string)
    namespace = await desk.namespaces.expected(valid_namespace(ns))
    key = parse_idempotency_header(only("Idempotency-Key"))
    given = await _parsed(only("Content-Type"), await body(), terms_under(key, namespace))
    increments = increments_of(ns, given, key, request_id())
    if increments:
        namespace = await desk.namespaces.found(ns)
    found = results(given, increments, await desk.of(namespace).add_many(namespace, increments))
    desk.door.counted_batch(found, namespace.strategy)
    minimal = prefers_minimal(request.headers.getlist("Prefer"))
    described = describe(found, minimal, passed_on=g.by_proxy)
    trouble = worst(found)
    if trouble is None:
        return Answer(200, msgspec.json.encode(described), told.REPLAYED[all_replayed(found)])
    # Some may have counted: the client is told which, and repeats with the same ids.
    answer = of_error(trouble, passed_on=g.by_proxy)
    return Answer(503, answer.body[:-1] + b"," + msgspec.json.encode(described)[1:], answer.headers)


async def _parsed(content_type: str | None, data: bytes, namespace: Namespace) -> list[Given]:
    """What is long and odd is read in a thread: nobody else waits for it longer than a few milliseconds."""
    given = quick_batch(content_type, data, namespace)
    if given is not None:
        return given
    if len(data) <= SHORT_BYTES:
        return strict_batch(content_type, data, namespace)
    return await asyncio.to_thread(strict_batch, content_type, data, namespace)
