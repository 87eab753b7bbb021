"""The v1 API, and the description of it."""

from __future__ import annotations

from quart import Quart

from node.routes import adding, batch, counters, openapi, watch
from node.routes.desk import Desk
from node.watches import Watches


def register(app: Quart, desk: Desk, watches: Watches, guarded: bool) -> None:
    """`guarded`: it asks for tokens."""
    app.register_blueprint(batch.blueprint(desk))
    app.register_blueprint(adding.blueprint(desk))
    app.register_blueprint(counters.blueprint(desk))
    app.register_blueprint(openapi.blueprint(app, guarded))
    app.register_blueprint(watch.blueprint(desk, watches))
