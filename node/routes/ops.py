"""Health, on both listeners; the cluster view, drain and the namespaces, on the operations listener only."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from quart import Blueprint, Response
from quart_schema import document_response

from node.answers import Answer, of_error
from node.errors import TallyError
from node.health import Health
from node.increment import valid_namespace
from node.namespaces import Namespaces
from node.routes.http import body, only, respond
from node.terms import check_keep_days, describe, parse_terms
from node.v1.models import HowItIs


def health_blueprint(health: Health) -> Blueprint:
    routes = Blueprint("health", __name__)

    @routes.get("/livez")
    @document_response(HowItIs, 200)
    async def livez() -> Response:
        """Whether the process is there."""
        return respond(_json(200, {"status": "alive"}))

    @routes.get("/readyz")
    @document_response(HowItIs, 200)
    @document_response(HowItIs, 503)
    async def readyz() -> Response:
        """Whether requests are to be sent here."""
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


def namespaces_blueprint(namespaces: Namespaces) -> Blueprint:
    routes = Blueprint("namespaces", __name__)

    @routes.get("/namespaces")
    async def show_all() -> Response:
        return respond(_json(200, {"namespaces": [describe(each) for each in namespaces.all()]}))

    @routes.get("/namespaces/<name>")
    async def show(name: str) -> Response:
        try:
            return respond(_json(200, describe(await namespaces.find(valid_namespace(name)))))
        except TallyError as error:
            return respond(of_error(error))

    @routes.put("/namespaces/<name>")
    async def change(name: str) -> Response:
        try:
            terms = parse_terms(valid_namespace(name), only("Content-Type"), await body())
            check_keep_days(terms.get("strategy") or (await namespaces.expected(name)).strategy, terms)
            return respond(_json(200, describe(await namespaces.change(name, terms))))
        except TallyError as error:
            return respond(of_error(error))

    return routes


def _json(status: int, told: object) -> Answer:
    return Answer(status, msgspec.json.encode(told))
