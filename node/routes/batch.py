"""POST /v1/<ns>/increments/batch: many increments in one request."""

from __future__ import annotations

import msgspec
from quart import Blueprint, Response, request

from node.answers import Answer, of_error
from node.batch import describe, increments_of, parse_batch, results, valid_namespace, worst
from node.door import Door
from node.errors import TallyError
from node.routes.http import body, only, peer, respond
from node.strategy import Namespace, Strategy


def blueprint(door: Door, dist: Strategy, window_s: int) -> Blueprint:
    routes = Blueprint("batch", __name__)

    @routes.post("/v1/<namespace>/increments/batch")
    async def add_batch(namespace: str) -> Response:
        try:
            by_proxy = door.admit(peer(), request.headers.get("X-Real-IP"), request.path)
            request_id = only("X-Request-ID") if by_proxy else None
            namespace = valid_namespace(namespace)
            given = parse_batch(only("Content-Type"), await body())
        except TallyError as error:
            return respond(door.failed(error, detailed=True))
        increments = increments_of(namespace, given, request_id)
        outcomes = await dist.add_many(Namespace(namespace, idempotency_window_s=window_s), increments)
        found = results(given, increments, outcomes)
        door.counted_batch(found)
        described = describe(found, minimal="return=minimal" in request.headers.get("Prefer", ""))
        trouble = worst(found)
        if trouble is None:
            return respond(Answer(200, msgspec.json.encode(described)))
        answer = of_error(trouble)  # some may have counted: the client is told which, and repeats with the same ids
        return respond(Answer(503, answer.body[:-1] + b"," + msgspec.json.encode(described)[1:], answer.headers))

    return routes
