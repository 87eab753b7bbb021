"""GET /v1/<ns>/counters/<key>/watch: a counter's live values, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from quart import Blueprint, Response, request

from node.increment import counter_name
from node.routes.desk import Desk, client
from node.routes.openapi import READING, tells
from node.v1 import headers as heads
from node.v1 import models
from node.v1.bodies import parse_path_key
from node.v1.query import parse_nothing
from node.v1.told import Live
from node.watches import HEARTBEAT_S, Nothing, Watcher, Watches

RETRY = b"retry: 1000\n\n"  # ms until a client whose stream ended comes again
HEARTBEAT = b": nothing new\n\n"


def blueprint(desk: Desk, watches: Watches) -> Blueprint:
    routes = Blueprint("watch", __name__)

    @tells(models.Events, *READING, says=heads.Streamed)
    async def watch(desk: Desk, ns: str, key: str) -> Response:
        """A counter's value now and whenever it has changed, as server-sent events.

        Each event `value` has the newest value; those in between may be left out. The stream ends when its node leaves:
        connect again, as a browser's EventSource does by itself.
        """
        parse_nothing(request.query_string)
        key = parse_path_key(key)
        namespace = await desk.namespace(ns)
        watcher = watches.watch(namespace, counter_name(ns, key), client())
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        if request.method == "HEAD":
            return Response(b"", headers=headers)
        response = Response(events(key, watcher), headers=headers)
        response.timeout = None
        return response

    routes.get("/v1/<ns>/counters/<key>/watch")(desk.answers(watch))
    return routes


async def events(key: str, watcher: Watcher) -> AsyncIterator[bytes]:
    with watcher:
        yield RETRY
        while (told := await watcher.next(HEARTBEAT_S)) is not Nothing.MORE:
            yield HEARTBEAT if isinstance(told, Nothing) else event(key, told)


def event(key: str, value: int | None) -> bytes:
    return b"event: value\ndata: %b\n\n" % msgspec.json.encode(Live(key, value))
