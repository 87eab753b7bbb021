"""On what terms a namespace counts: what may be asked for, and how it is told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from node.errors import BadRequest
from node.increment import DEFAULT_NAMESPACE, json_kind, json_object

NAMESPACES_MAX = 1000
WINDOW_S_MIN, WINDOW_S_MAX = 60, 2_678_400  # 31 days; dist remembers up to twice as long
KEEP_DAYS_MAX = 36_500

StrategyName = Literal["dist", "sync", "rollup"]
DEFAULT_STRATEGY: StrategyName = "dist"


@dataclass(frozen=True, slots=True)
class Namespace:
    """How the counters of one namespace count. Kept in Postgres; the strategy is fixed once it exists."""

    name: str = DEFAULT_NAMESPACE
    strategy: StrategyName = DEFAULT_STRATEGY
    idempotency_window_s: int = 86_400
    idempotency_key_required: bool = False
    negative_allowed: bool = False
    history: bool = False
    keep_days: int | None = None  # rollup: how long increments that are rolled up are kept; None = for ever


Terms = Mapping[str, Any]  # members of `Namespace`; those that are not given stay as they are


def parse_terms(name: str, content_type: str | None, body: bytes) -> Terms:
    """Errors: BadRequest, which names the member."""
    if content_type is not None:
        json_kind(content_type, ("application/json",), "Send Content-Type: application/json.")
    given = json_object(body)
    if given.pop("name", name) != name:
        raise BadRequest(f"`name` must be {name!r} as in the path, or left out: a namespace keeps its name.")
    if unknown := given.keys() - CHECKS.keys():
        raise BadRequest(f"Unknown member {min(unknown)!r}: a namespace has {', '.join(CHECKS)}.")
    for name, value in given.items():
        CHECKS[name](name, value)
    return given


def check_keep_days(strategy: StrategyName, terms: Terms) -> None:
    """Errors: BadRequest, where nothing is kept increment by increment."""
    if strategy != "rollup" and terms.get("keep_days") is not None:
        raise BadRequest(
            f"`keep_days` is for strategy rollup only, and this namespace counts by {strategy}: leave it out."
        )


def check_key(namespace: Namespace, idempotency_key: str | None) -> None:
    """Errors: BadRequest, when the namespace requires one. A proxy's request id is none: it is not its client's."""
    if namespace.idempotency_key_required and idempotency_key is None:
        raise BadRequest("This namespace requires an idempotency key.")


def describe(namespace: Namespace) -> dict[str, Any]:
    return {"name": namespace.name, **{name: getattr(namespace, name) for name in CHECKS}}


def _strategy(name: str, value: Any) -> None:
    if value not in get_args(StrategyName):
        raise BadRequest(f"`{name}` must be one of {', '.join(get_args(StrategyName))}.")


def _switch(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise BadRequest(f"`{name}` must be true or false.")


def _number(least: int, most: int, none: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise BadRequest(f"`{name}` must be an integer from {least} to {most}, or null: {none}.")

    return check


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "strategy": _strategy,
    "idempotency_window_s": _number(WINDOW_S_MIN, WINDOW_S_MAX, "as the nodes are set"),
    "idempotency_key_required": _switch,
    "negative_allowed": _switch,
    "history": _switch,
    "keep_days": _number(0, KEEP_DAYS_MAX, "for ever"),
}
