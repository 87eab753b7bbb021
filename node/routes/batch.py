"""POST /v1/<ns>/increments/batch: many increments in one request."""

from __future__ import annotations

import asyncio

import msgspec
from quart import Blueprint, Response, request

from node.answers import Answer, of_error
from node.batch import Bundling, bundle, describe, parse_batch, results, valid_namespace, worst
from node.call import Outcome
from node.door import Door
from node.errors import TallyError
from node.routes.http import body, only, peer, respond
from node.writer import Writer

BundleAnswer = tuple[frozenset[str], list[Outcome]] | TallyError


def blueprint(door: Door, writer: Writer) -> Blueprint:
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
        bundlings = bundle(namespace, given, request_id)
        answers = await asyncio.gather(*(count(writer, bundling) for bundling in bundlings))
        found = results(namespace, given, bundlings, answers)
        door.counted_batch(found)
        described = describe(found, minimal="return=minimal" in request.headers.get("Prefer", ""))
        trouble = worst(found)
        if trouble is None:
            return respond(Answer(200, msgspec.json.encode(described)))
        answer = of_error(trouble)  # some may have counted: the client is told which, and repeats with the same ids
        return respond(Answer(503, answer.body[:-1] + b"," + msgspec.json.encode(described)[1:], answer.headers))

    return routes


async def count(writer: Writer, bundling: Bundling) -> BundleAnswer:
    """One bundle's outcomes; an error is a value here, for the other bundles go on."""
    answer: asyncio.Future[BundleAnswer] = asyncio.get_running_loop().create_future()

    def reply(result: BundleAnswer) -> None:
        if not answer.done():
            answer.set_result(result)

    try:
        writer.submit_bundle(bundling.sums, bundling.items, bundling.total, reply)
    except TallyError as error:
        return error
    return await answer
