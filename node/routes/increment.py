"""The seed's two routes: POST /increment and GET /increment/<key>."""

from __future__ import annotations

from quart import Blueprint, Response, request

from node import answers
from node.door import Door
from node.errors import BadRequest, NotFound, TallyError
from node.increment import DEFAULT_NAMESPACE, counter_name, key_of_path, parse_increment
from node.routes.http import body, only, peer, respond
from node.routes.openapi import COUNTING, READING, tells
from node.strategy import Intake, Values
from node.v1 import headers as heads
from node.v1 import models

KEY_PATH = b"/increment/"


def blueprint(door: Door, intake: Intake, values: Values) -> Blueprint:
    routes = Blueprint("increment", __name__)

    @routes.post("/increment")
    @tells(
        models.Nothing,
        *COUNTING,
        status=204,
        body=models.IncrementBody,
        headers=heads.Idempotency,
        says=heads.Replayed,
        error=models.SeedError,
    )
    async def count() -> Response:
        """Add to a counter of the default namespace."""
        by_proxy = False
        try:
            by_proxy = door.admit(peer(), request.headers.get("X-Real-IP"), "/increment")
            increment = parse_increment(
                only("Content-Type"),
                await body(),
                only("Idempotency-Key"),
                only("X-Request-ID") if by_proxy else None,
            )
            door.check(increment)
            outcome = await intake.add(increment)
        except BadRequest:
            return respond(door.failed(BadRequest()))  # without detail: the wire contract fixes the bytes
        except TallyError as error:
            return respond(door.failed(error, passed_on=by_proxy))
        return respond(door.counted(outcome, increment))

    @routes.get("/increment/<rest:key>")
    @tells(models.KeyAndValue, *READING, error=models.SeedError)
    async def value(key: str) -> Response:
        """The value of a counter of the default namespace."""
        raw: bytes = request.scope["raw_path"]
        path = raw.partition(b"?")[0]
        try:
            door.admit(peer(), request.headers.get("X-Real-IP"), path.decode("latin-1"))
            key = _key_of(path)
            total = await values.value(counter_name(DEFAULT_NAMESPACE, key))
        except TallyError as error:
            return respond(door.failed(error))
        return respond(answers.of_value(key, total))

    return routes


def _key_of(path: bytes) -> str:
    if not path.startswith(KEY_PATH):  # %2F is no slash here, though the router takes it for one
        raise NotFound
    return key_of_path(path[len(KEY_PATH) :])
