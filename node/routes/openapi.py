"""`/openapi.json`: the public routes, described out of the code that answers them.

quart-schema's decorators say at each route what it takes and answers; its provider puts that together. Here it is told
what it does not know by itself: models within models, errors in two forms, event streams, answers without a body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar, get_origin

import msgspec
from quart import Blueprint, Quart, Response
from quart_schema import Info, OpenAPIProvider, QuartSchema, document
from quart_schema.openapi import HttpSecurityScheme
from quart_schema.validation import QUART_SCHEMA_RESPONSE_ATTRIBUTE as RESPONSES
from werkzeug.routing import BaseConverter, Rule

from node.answers import Answer, status_of
from node.errors import BadRequest, Forbidden, NotFound, TallyError, TooManyRequests, Unauthorized, Unavailable
from node.routes.http import PROBLEM, respond
from node.tokens import OPEN
from node.v1 import models
from node.v1.models import Error, Events, Nothing, Problem

T = TypeVar("T", bound=Callable[..., Any])
JSON = "application/json"
TOKEN = "token"  # what the description calls them
READING = (BadRequest, NotFound, TooManyRequests, Unavailable)
INFO = Info(
    title="Tally",
    version="1",
    description="Counts exactly once. Integers in answers are exact, also above 2^53: read them as such.",
)


def tells(
    told: Any,
    *errors: type[TallyError],
    status: int = 200,
    body: Any = None,
    query: Any = None,
    headers: Any = None,
    error: type[Error] = Error,
) -> Callable[[T], T]:
    """Documents a route: what it answers when all is well, what may be wrong, and what it takes."""
    responses = {status_of(kind()): (error, None) for kind in errors}
    return document(querystring=query, request=body, headers=headers, responses={status: (told, None), **responses})


def blueprint(app: Quart, guarded: bool) -> Blueprint:
    """Describes what `app` has once it is asked. `guarded`: it asks for tokens."""
    routes = Blueprint("openapi", __name__)
    extension = QuartSchema(
        info=INFO,
        conversion_preference="msgspec",
        security_schemes={TOKEN: HttpSecurityScheme(scheme="bearer")} if guarded else None,
    )
    provider = Provider(app, extension, guarded)

    @cache
    def described() -> bytes:
        return msgspec.json.encode(provider.schema())

    @routes.get("/openapi.json")
    async def openapi() -> Response:
        return respond(Answer(200, described()))

    return routes


class Provider(OpenAPIProvider):
    """Describes those routes that are documented."""

    def __init__(self, app: Quart, extension: QuartSchema, guarded: bool) -> None:
        super().__init__(app, extension)
        self._guarded = guarded

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        if self._guarded and rule.rule not in OPEN:
            for operation in (operation for methods in paths.values() for operation in methods.values()):
                refused = operation["responses"][status_of(TooManyRequests())]
                operation["responses"] |= {status_of(kind()): refused for kind in (Unauthorized, Forbidden)}
                operation["security"] = [{TOKEN: []}]
        return paths, components

    def generate_rules(self) -> Iterable[Rule]:
        functions = self._app.view_functions
        return [rule for rule in super().generate_rules() if hasattr(functions[rule.endpoint], RESPONSES)]

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        described = super().build_path_parameter(name, converter)
        return described | models.PATH[name]

    def build_querystring_parameters(self, model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return _parameters("query", model)

    def build_headers_parameters(self, model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return _parameters("header", model)

    def build_request_body(self, model: Any, source: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        schema, components = _schema(model)
        content = {kind: {"schema": schema} for kind in getattr(model, "KINDS", (JSON,))}
        if get_origin(model) is list:
            content["application/x-ndjson"] = {"schema": {"type": "string", "description": "An item a line."}}
        return {"required": getattr(model, "REQUIRED", True), "content": content}, components

    def build_response_object(self, model: Any, headers_model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        described: dict[str, Any] = {"description": (model.__doc__ or "").strip()}
        if issubclass(model, Nothing):
            return described, {}
        if issubclass(model, Events):
            return described | {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, {}
        schema, components = _schema(model)
        content = {JSON: {"schema": schema}}
        if model is Error:
            problem, more = _schema(Problem)
            content[PROBLEM] = {"schema": problem}
            components |= more
        return described | {"content": content}, components


def _schema(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if model is models.KeyAndValue:
        return {"type": "object", "additionalProperties": {"type": "integer"}}, {}
    (schema,), components = msgspec.json.schema_components([model], ref_template="#/components/schemas/{name}")
    return schema, components


def _parameters(where: str, model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    _, components = _schema(model)
    (described,) = components.values()
    required: Sequence[str] = described.get("required", ())
    return [
        {
            "name": name if where == "query" else models.HEADERS[name],
            "in": where,
            "required": name in required,
            "schema": schema,
        }
        for name, schema in described["properties"].items()
    ], {}
