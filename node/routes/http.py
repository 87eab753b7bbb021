"""Quart's side of answers, and the application around the blueprints: the contract's error bodies for whatever Quart
refuses itself.
"""

from __future__ import annotations

import logging
from typing import Any

from quart import Quart, Request, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from node import batch
from node.answers import Answer, of_error
from node.errors import BadRequest, MethodNotAllowed, NotFound, PayloadTooLarge, TallyError, Unavailable
from node.increment import BODY_BYTES_MAX

log = logging.getLogger(__name__)

BODY_TIMEOUT_S = 15  # the protocol gives up after 10: this is for Hypercorn
BATCH_PATH = "/increments/batch"
REFUSALS: dict[int, type[TallyError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    408: BadRequest,
    413: PayloadTooLarge,
}


class BoundedRequest(Request):
    """A request whose body may be as large as its route takes."""

    def __init__(self, method: str, scheme: str, path: str, *args: Any, **kwargs: Any) -> None:
        kwargs["max_content_length"] = batch.BODY_BYTES_MAX if path.endswith(BATCH_PATH) else BODY_BYTES_MAX
        super().__init__(method, scheme, path, *args, **kwargs)


class Rest(BaseConverter):
    """The rest of a path, slashes and all, however it begins."""

    regex = r"[\s\S]*?"  # a key may hold line breaks
    part_isolating = False


def application(name: str) -> Quart:
    """A Quart application without routes that answers errors as the contract has them."""
    app = Quart(name, static_folder=None)
    app.config.update(BODY_TIMEOUT=BODY_TIMEOUT_S)
    app.request_class = BoundedRequest
    app.url_map.converters["rest"] = Rest
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    return app


def peer() -> str:
    """The address of whoever is at the other end of the connection."""
    client = request.scope.get("client")
    return client[0] if client else ""


def only(name: str) -> str | None:
    """A header that may come once. Errors: BadRequest."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise BadRequest
    return values[0] if values else None


async def body() -> bytes:
    """The request's body, as it was sent: compressed ones are not taken, for they may be bombs. Errors: BadRequest."""
    if only("Content-Encoding") not in (None, "", "identity"):
        raise BadRequest("Send the body without Content-Encoding.")
    data = await request.get_data(as_text=False)
    assert isinstance(data, bytes)
    return data


def respond(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, content_type="application/json")
    if not answer.body:
        del response.headers["Content-Type"], response.headers["Content-Length"]  # a 204 has neither (RFC 9110, 8.6)
    for name, value in answer.headers:
        response.headers[name] = value
    return response


def _refused(error: HTTPException) -> Response:
    code = error.code or 500
    response = respond(of_error(REFUSALS.get(code, BadRequest if code < 500 else Unavailable)()))
    if code == 405 and (allow := error.get_response().headers.get("Allow")):
        response.headers["Allow"] = allow
    return response


def _failed(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return respond(of_error(TallyError("Internal Server Error.")))
