"""`/openapi.json`: the public routes, described out of the code that answers them.

quart-schema's decorators say at each route what it takes and answers; its provider puts that together. Here it is told
what it does not know by itself: models within models, errors in two forms, event streams, answers without a body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

import msgspec
from quart import Blueprint, Quart, Response
from quart_schema import Info, OpenAPIProvider, QuartSchema, document
from quart_schema.openapi import HttpSecurityScheme
from quart_schema.validation import QUART_SCHEMA_RESPONSE_ATTRIBUTE as RESPONSES
from werkzeug.routing import BaseConverter, Rule

from node.answers import Answer, status_of
from node.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    Mismatch,
    NotFound,
    PayloadTooLarge,
    TallyError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from node.routes.http import PROBLEM, respond
from node.tokens import OPEN
from node.v1 import headers as heads
from node.v1 import models
from node.v1.models import BatchError, BatchProblem, Error, Events, Nothing, Problem

T = TypeVar("T", bound=Callable[..., Any])
JSON = "application/json"
NDJSON = "application/x-ndjson"
TOKEN = "token"  # what the description calls them
FORMS: dict[Any, dict[str, tuple[type, ...]]] = {  # of errors that come in two: what each may look like
    Error: {JSON: (Error,), PROBLEM: (Problem,)},
    BatchError: {JSON: (BatchError, Error), PROBLEM: (BatchProblem, Problem)},
}
READING = (BadRequest, NotFound, TooManyRequests, Unavailable)
COUNTING = (BadRequest, PayloadTooLarge, Mismatch, TooManyRequests, Unavailable)
INFO = Info(
    title="Tally",
    version="1",
    description=(
        "Counts exactly once. Integers in answers are exact, also above 2^53: read them as such. "
        "HEAD is answered as GET, without the body. Methods that a path does not have are answered as the component "
        "`MethodNotAllowed` says."
    ),
)


def tells(
    told: Any,
    *errors: type[TallyError],
    status: int = 200,
    body: Any = None,
    query: Any = None,
    headers: Any = None,
    says: Any = None,
    error: type[Error] = Error,
) -> Callable[[T], T]:
    """Documents a route: what it answers when all is well, what may be wrong, and what it takes. `says`: the headers
    of its answer, as `headers` are those of the request.
    """
    refused = {code: (error, heads.of_error(code)) for code in (status_of(kind()) for kind in errors)}
    return document(querystring=query, request=body, headers=headers, responses={status: (told, says), **refused})


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

    def schema(self) -> dict[str, Any]:
        described = super().schema()
        refused, _ = self.build_response_object(Error, heads.NotAllowed)
        described["components"]["responses"] = {MethodNotAllowed.__name__: refused}
        return described

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        if self._guarded and rule.rule not in OPEN:
            error, _ = getattr(self._app.view_functions[rule.endpoint], RESPONSES)[status_of(TooManyRequests())]
            for operation in (operation for methods in paths.values() for operation in methods.values()):
                for code in (status_of(Unauthorized()), status_of(Forbidden())):
                    operation["responses"][code], _ = self.build_response_object(error, heads.of_error(code))
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
        kinds = (JSON, NDJSON) if model is models.BatchBody else getattr(model, "KINDS", (JSON,))
        content = {kind: {"schema": schema} for kind in kinds}
        return {"required": getattr(model, "REQUIRED", True), "content": content}, components

    def build_response_object(self, model: Any, headers_model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        described: dict[str, Any] = {"description": (model.__doc__ or "").strip()}
        says = dict(_properties(headers_model)) if headers_model else {}
        if model in FORMS:
            says |= _properties(heads.Negotiated)
        if says:
            described["headers"] = says
        if issubclass(model, Nothing):
            return described, {}
        if issubclass(model, Events):
            return described | {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, {}
        content, components = _content(FORMS.get(model, {JSON: (model,)}))
        return described | {"content": content}, components


def _schema(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if model is models.KeyAndValue:
        return {"type": "object", "additionalProperties": {"type": "integer"}}, {}
    (schema,), components = msgspec.json.schema_components([model], ref_template="#/components/schemas/{name}")
    return schema, components


def _content(forms: dict[str, tuple[type, ...]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bodies by their kinds, each like one of the models."""
    content: dict[str, Any] = {}
    components: dict[str, Any] = {}
    for kind, likes in forms.items():
        schemas = []
        for model in likes:
            schema, more = _schema(model)
            schemas.append(schema)
            components |= more
        content[kind] = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
    return content, components


def _parameters(where: str, model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return [{"name": name, "in": where, **described} for name, described in _properties(model)], {}


def _properties(model: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """A model's, each by its name: as parameters are described, and headers."""
    _, components = _schema(model)
    (described,) = components.values()
    for name, schema in described["properties"].items():
        told = {"description": schema.pop("description")} if "description" in schema else {}
        yield name, {"required": name in described["required"], "schema": schema, **told}
