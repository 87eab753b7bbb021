"""Health, on both listeners; the cluster view and drain, on the operations listener only."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from quart import Blueprint, Response

from node.answers import Answer
from node.health import Health
from node.routes.http import respond


def health_blueprint(health: Health) -> Blueprint:
    routes = Blueprint("health", __name__)

    @routes.get("/livez")
    async def livez() -> Response:
        return respond(_json(200, {"status": "alive"}))

    @routes.get("/readyz")
    async def readyz() -> Response:
        status, why = health.status()
        return respond(_json(200 if status == "ready" else 503, {"status": status, "why": why}))

    return routes


def ops_blueprint(cluster: Callable[[], dict[str, object]], drain: Callable[[], None]) -> Blueprint:
    """`cluster` describes what this node knows; `drain` asks it to leave."""
    routes = Blueprint("ops", __name__)

    @routes.get("/cluster")
    async def show_cluster() -> Response:
        return respond(_json(200, cluster()))

    @routes.post("/drain")
    async def start_drain() -> Response:
        drain()
        return respond(_json(202, {"status": "draining"}))

    return routes


def _json(status: int, body: object) -> Answer:
    return Answer(status, msgspec.json.encode(body))
