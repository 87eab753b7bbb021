"""What reads: a counter, many, a namespace's in order, and what was counted when."""

from __future__ import annotations

from datetime import UTC, datetime

from quart import Blueprint, request
from quart_schema import document_response

from node.answers import Answer
from node.errors import NotFound, PayloadTooLarge, UnknownCounter
from node.routes.desk import Desk
from node.routes.http import body, only
from node.routes.openapi import READING, tells
from node.v1 import headers as heads
from node.v1 import models, told
from node.v1.bodies import parse_keys, parse_path_key
from node.v1.query import BUCKETS_MAX, parse_consistency, parse_page, parse_span


def blueprint(desk: Desk) -> Blueprint:
    routes = Blueprint("counters", __name__)
    routes.get("/v1/<ns>/counters/<key>")(desk.answers(show))
    routes.post("/v1/<ns>/counters/read")(desk.answers(read))
    routes.get("/v1/<ns>/counters")(desk.answers(page))
    routes.get("/v1/<ns>/counters/<key>/history")(desk.answers(history))
    return routes


@tells(told.Counter, *READING, query=models.ConsistencyQuery, headers=heads.Conditional, says=heads.Tagged)
@document_response(models.NotModified, 304, heads.Tagged)
async def show(desk: Desk, ns: str, key: str) -> Answer:
    """A counter.

    `consistency=exact`, the default: everything acknowledged before is in the value. `stored`: what is in Postgres,
    which may be some seconds old, and is there while Redis is away.
    """
    consistency, key = parse_consistency(request.query_string), parse_path_key(key)
    (counter,) = await desk.read(await desk.namespace(ns), [key], consistency)
    if counter is None:
        raise UnknownCounter(ns)
    answer = told.ok(counter)
    tag = told.etag_of(answer.body)
    headers = (("ETag", f'"{tag}"'), ("Cache-Control", "no-cache"))
    unchanged = request.if_none_match.contains_weak(tag)
    return Answer(304, b"", headers) if unchanged else answer._replace(headers=headers)


@tells(told.CounterList, *READING, PayloadTooLarge, body=models.KeysBody, query=models.ConsistencyQuery)
async def read(desk: Desk, ns: str) -> Answer:
    """Many counters at once, in the order of the request."""
    consistency = parse_consistency(request.query_string)
    keys = parse_keys(only("Content-Type"), await body())
    return told.ok(told.of_many(keys, await desk.read(await desk.namespace(ns), keys, consistency)))


@tells(told.CounterPage, *READING, query=models.PageQuery)
async def page(desk: Desk, ns: str) -> Answer:
    """The counters of a namespace whose keys begin with `prefix`, in the order of their keys' UTF-8.

    Those that Postgres has, with their exact values: a new one is listed once it is settled, some seconds later.
    """
    asked = parse_page(request.query_string)
    namespace = await desk.namespace(ns)
    listed = await desk.records.counters(ns, asked.prefix, asked.after, asked.limit + 1)
    counters = [told.of_listed(each) for each in listed[: asked.limit]]
    if asked.consistency == "exact" and counters:
        read = await desk.read(namespace, [each.key for each in counters], "exact")
        counters = [exact or stored for exact, stored in zip(read, counters, strict=True)]
    return told.ok(told.of_page(counters, more=len(listed) > asked.limit))


@tells(told.History, *READING, query=models.SpanQuery)
async def history(desk: Desk, ns: str, key: str) -> Answer:
    """What was counted when, in UTC: from the step that `from` is in, to before `to`.

    For namespaces that keep a history; it is settled with the counters, some seconds later.
    """
    span, key = parse_span(request.query_string, datetime.now(UTC)), parse_path_key(key)
    namespace = await desk.namespace(ns)
    buckets = await desk.records.history(ns, key, span.step, span.start, span.end, BUCKETS_MAX + 1)
    if not buckets and not namespace.history:
        raise NotFound("This namespace keeps no history: switch it on where namespaces are changed.")
    return told.ok(told.of_history(key, span.step, buckets))
