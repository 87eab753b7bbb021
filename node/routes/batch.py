"""POST /v1/<ns>/increments/batch: many increments in one request."""

from __future__ import annotations

import asyncio

import msgspec
from quart import Blueprint, g, request

from node.answers import Answer, of_error
from node.batch import Given, describe, increments_of, quick_batch, results, strict_batch, worst
from node.errors import PayloadTooLarge, TooManyNamespaces
from node.increment import valid_namespace
from node.routes.desk import Desk, request_id
from node.routes.http import body, only
from node.routes.openapi import READING, tells
from node.terms import Namespace
from node.v1 import models

SHORT_BYTES = 32 * 1024


def blueprint(desk: Desk) -> Blueprint:
    routes = Blueprint("batch", __name__)
    routes.post("/v1/<ns>/increments/batch")(desk.counts(add_batch))
    return routes


@tells(models.BatchTold, *READING[:1], PayloadTooLarge, TooManyNamespaces, *READING[2:], body=models.BatchBody)
async def add_batch(desk: Desk, ns: str) -> Answer:
    """Many increments in one request: what became of each, in order.

    An item is counted as if it had come alone. `Prefer: return=minimal` leaves the list of results out.
    """
    namespace = await desk.namespaces.expected(valid_namespace(ns))
    given = await _parsed(only("Content-Type"), await body(), namespace)
    increments = increments_of(ns, given, request_id())
    if increments:
        namespace = await desk.namespaces.found(ns)
    found = results(given, increments, await desk.of(namespace).add_many(namespace, increments))
    desk.door.counted_batch(found, namespace.strategy)
    described = describe(found, minimal="return=minimal" in request.headers.get("Prefer", ""), passed_on=g.by_proxy)
    trouble = worst(found)
    if trouble is None:
        return Answer(200, msgspec.json.encode(described))
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
