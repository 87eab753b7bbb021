"""Tokens in front of every route of a Quart application, those that are added later too."""

from __future__ import annotations

from collections.abc import Callable

from quart import Quart, Response, request

from node.answers import Answer, of_error
from node.door import Door
from node.errors import TallyError
from node.guard import Guard
from node.routes.http import V1, only, respond
from node.tokens import Needed, needed_by_operations, needed_by_public


def protect_both(public: Quart, operations: Quart, guard: Guard | None, door: Door) -> None:
    """A node's two listeners, if it has tokens."""
    if guard is None:
        return

    def refused(error: TallyError) -> Answer:
        return door.failed(error, detailed=request.path.startswith(V1))

    protect(public, guard, needed_by_public, refused)
    protect(operations, guard, needed_by_operations, of_error)


def protect(app: Quart, guard: Guard, needed: Needed, failed: Callable[[TallyError], Answer]) -> None:
    """`needed` goes by the rule that the router found: what the path means is decided once."""

    @app.before_request
    async def check() -> Response | None:
        rule = request.url_rule
        need = needed(rule.rule if rule else None, request.method, request.view_args or {})
        if need is None:
            return None
        try:
            guard.check(only("Authorization"), need)
        except TallyError as error:
            return respond(failed(error))
        return None
