"""HTTP answers, as values: the one table from error to answer, and the bodies that the wire contract fixes. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from node.call import Outcome
from node.errors import (
    BadRequest,
    CounterFull,
    Forbidden,
    MethodNotAllowed,
    Misconfigured,
    Mismatch,
    NotFound,
    OutOfBounds,
    PayloadTooLarge,
    StrategyFixed,
    TallyError,
    TooManyNamespaces,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from node.metrics import Count

RETRY_AFTER_S = 1
ELSEWHERE = "A node that was asked before this one may have counted it: repeat it with the same idempotency key."
STATUS: dict[type[TallyError], int] = {
    BadRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    OutOfBounds: 409,
    StrategyFixed: 409,
    PayloadTooLarge: 413,
    Mismatch: 422,
    CounterFull: 422,
    TooManyNamespaces: 422,
    TooManyRequests: 429,
    Unavailable: 503,
    Misconfigured: 503,
    TallyError: 500,
}
COUNT: dict[int, Count] = {  # status -> metric
    204: "api.create_key",
    400: "api.bad_request",
    401: "api.unauthorized",
    403: "api.forbidden",
    404: "api.key_not_found",
    409: "api.out_of_bounds",
    422: "api.mismatch",
    429: "api.rate_limited",
    503: "api.unavailable",
}


class Answer(NamedTuple):
    """What goes back to the client. `headers` beside Content-Type and Content-Length."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


NO_CONTENT = Answer(204)
REPLAYED = Answer(204, headers=(("Idempotent-Replayed", "true"),))


def status_of(error: TallyError) -> int:
    """By the nearest class in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def refusal(error: TallyError, passed_on: bool) -> dict[str, object]:
    """What is said where an increment could not be counted now, `passed_on` as below."""
    counted = error.counted if isinstance(error, Unavailable) else False
    if passed_on and counted is False:
        return {"message": f"{error.message} {ELSEWHERE}", "counted": "unknown"}
    return {"message": error.message, "counted": counted}


def of_error(error: TallyError, retry_after_s: int = RETRY_AFTER_S, passed_on: bool = False) -> Answer:
    """`passed_on`: a proxy brought an increment, and may have asked another node before this one, which counted it."""
    status = status_of(error)
    detail: dict[str, object] = {"message": error.message}
    headers: tuple[tuple[str, str], ...] = (("X-Content-Type-Options", "nosniff"),)
    if status == 503:
        detail = refusal(error, passed_on)
    if status == 401:
        headers += (("WWW-Authenticate", 'Bearer realm="tally"'),)
    if status in (429, 503):
        headers += (("Retry-After", str(retry_after_s)),)
    return Answer(status, msgspec.json.encode({"error": detail}), headers)


def as_problem(status: int, body: bytes) -> bytes:
    """An error's body as RFC 9457 has it; what it says beside its message becomes members of its own."""
    told: dict[str, Any] = msgspec.json.decode(body)
    detail = told.pop("error")
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return msgspec.json.encode(problem | {"detail": detail.pop("message")} | detail | told)


def of_outcome(outcome: Outcome, short_lived: bool) -> Answer:
    """A proxy's own retry is none of its client's business: only a key of the client's is said to be replayed."""
    match outcome:
        case Outcome.COUNTED:
            return NO_CONTENT
        case Outcome.REPLAYED:
            return NO_CONTENT if short_lived else REPLAYED
        case Outcome.MISMATCH:
            return of_error(Mismatch())
        case Outcome.FULL:
            return of_error(CounterFull())
        case Outcome.OUT_OF_BOUNDS:
            return of_error(OutOfBounds())


def of_value(key: str, value: int) -> Answer:
    return Answer(200, msgspec.json.encode({key: value}))
