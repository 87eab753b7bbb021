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
from node.answers import Answer, as_problem, of_error
from node.errors import BadRequest, MethodNotAllowed, NotFound, PayloadTooLarge, TallyError, Unavailable
from node.increment import BODY_BYTES_MAX
from node.routes.large import BODILESS, LargeBodies
from node.v1.bodies import KEYS_BYTES_MAX

log = logging.getLogger(__name__)

BODY_TIMEOUT_S = 15  # the protocol gives up after 10: this is for Hypercorn
BODY_BYTES = {"/increments/batch": batch.BODY_BYTES_MAX, "/counters/read": KEYS_BYTES_MAX}  # by the path's end
V1 = "/v1/"
SLOW = "The body did not come in time: send it again, faster or in smaller requests."
PROBLEM = "application/problem+json"
REFUSALS: dict[int, type[TallyError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    408: BadRequest,
    413: PayloadTooLarge,
}


class PublicRequest(Request):
    """A request whose body may be as large as its route takes. In v1 the path stays as it was sent, percent-encoded: a
    slash that belongs to a key is no separator there.
    """

    def __init__(self, method: str, scheme: str, path: str, *args: Any, **kwargs: Any) -> None:
        if path.startswith(V1):
            raw: bytes = kwargs["scope"]["raw_path"]
            path = raw.partition(b"?")[0].decode("latin-1")
        limits = (most for end, most in BODY_BYTES.items() if path.endswith(end) and method not in BODILESS)
        kwargs["max_content_length"] = next(limits, BODY_BYTES_MAX)
        super().__init__(method, scheme, path, *args, **kwargs)


class Rest(BaseConverter):
    """The rest of a path, slashes and all, however it begins; not empty."""

    regex = r"[\s\S]+?"  # a key may hold line breaks
    part_isolating = False


def application(name: str) -> Quart:
    """A Quart application without routes that answers errors as the contract has them."""
    app = Quart(name, static_folder=None)
    app.config.update(BODY_TIMEOUT=BODY_TIMEOUT_S)
    app.request_class = PublicRequest
    app.url_map.converters["rest"] = Rest
    app.url_map.merge_slashes = False
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    app.after_request(_as_asked)
    app.asgi_app = LargeBodies(app.asgi_app)  # type: ignore[method-assign]
    return app


def peer() -> str:
    """The address of whoever is at the other end of the connection."""
    client = request.scope.get("client")
    return client[0] if client else ""


def only(name: str) -> str | None:
    """A header that may come once. Errors: BadRequest."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise BadRequest(f"{name} was given twice: send it once.")
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


async def _as_asked(response: Response) -> Response:
    """An error in v1 as a problem (RFC 9457), where Accept names that."""
    if response.status_code >= 400 and request.path.startswith(V1):
        response.headers.add("Vary", "Accept")
        if any(kind.lower() == PROBLEM and quality > 0 for kind, quality in request.accept_mimetypes):
            response.set_data(as_problem(response.status_code, await response.get_data(as_text=False)))
            response.headers["Content-Type"] = PROBLEM
    return response


async def _refused(error: HTTPException) -> Response:
    code = error.code or 500
    kind = REFUSALS.get(code, BadRequest if code < 500 else Unavailable)
    detail = SLOW if code == 408 and request.path.startswith(V1) else None  # elsewhere the contract fixes the bytes
    response = respond(of_error(kind(detail)))
    if code == 405 and (allow := error.get_response().headers.get("Allow")):
        response.headers["Allow"] = allow
    return response


async def _failed(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return respond(of_error(TallyError("Internal Server Error.")))
