"""Quart's side of answers, and the application around the blueprints: the contract's error bodies for whatever Quart
refuses itself.
"""

from __future__ import annotations

import logging

from quart import Quart, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from node.answers import Answer, of_error
from node.errors import BadRequest, MethodNotAllowed, NotFound, PayloadTooLarge, TallyError, Unavailable
from node.increment import BODY_BYTES_MAX

log = logging.getLogger(__name__)

BODY_TIMEOUT_S = 10
REFUSALS: dict[int, type[TallyError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    408: BadRequest,
    413: PayloadTooLarge,
}


class Rest(BaseConverter):
    """The rest of a path, slashes and all, however it begins."""

    regex = ".*?"
    part_isolating = False


def application(name: str) -> Quart:
    """A Quart application without routes that answers errors as the contract has them."""
    app = Quart(name, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=BODY_BYTES_MAX, BODY_TIMEOUT=BODY_TIMEOUT_S)
    app.url_map.converters["rest"] = Rest
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    return app


def respond(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, content_type="application/json")
    if not answer.body:
        del response.headers["Content-Type"]
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
