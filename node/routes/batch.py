"""POST /v1/<ns>/increments/batch: many increments in one request."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from quart import Blueprint, Response, request

from node.answers import Answer, of_error
from node.batch import describe, increments_of, parse_batch, results, worst
from node.door import Door
from node.errors import TallyError
from node.increment import valid_namespace
from node.namespaces import Namespaces
from node.routes.http import body, only, peer, respond
from node.strategy import Strategy
from node.terms import StrategyName


def blueprint(door: Door, namespaces: Namespaces, strategies: Mapping[StrategyName, Strategy]) -> Blueprint:
    routes = Blueprint("batch", __name__)

    @routes.post("/v1/<name>/increments/batch")
    async def add_batch(name: str) -> Response:
        by_proxy = False
        try:
            by_proxy = door.admit(peer(), request.headers.get("X-Real-IP"), request.path)
            request_id = only("X-Request-ID") if by_proxy else None
            namespace = await namespaces.expected(valid_namespace(name))
            given = parse_batch(only("Content-Type"), await body(), namespace)
            increments = increments_of(name, given, request_id)
            if increments:
                namespace = await namespaces.found(name)
            outcomes = await strategies[namespace.strategy].add_many(namespace, increments)
        except TallyError as error:
            return respond(door.failed(error, detailed=True, passed_on=by_proxy))
        found = results(given, increments, outcomes)
        door.counted_batch(found, namespace.strategy)
        described = describe(found, minimal="return=minimal" in request.headers.get("Prefer", ""), passed_on=by_proxy)
        trouble = worst(found)
        if trouble is None:
            return respond(Answer(200, msgspec.json.encode(described)))
        # Some may have counted: the client is told which, and repeats with the same ids.
        answer = of_error(trouble, passed_on=by_proxy)
        return respond(Answer(503, answer.body[:-1] + b"," + msgspec.json.encode(described)[1:], answer.headers))

    return routes
