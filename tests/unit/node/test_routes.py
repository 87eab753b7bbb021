"""The application around the routes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from node.answers import Answer
from node.routes.http import application, body, respond


@pytest.mark.parametrize(("path", "named"), [("/v1/shop/increments", "in time"), ("/increment", "Bad Request.")])
async def test_a_body_that_does_not_come_is_said_to_be_late(path: str, named: str) -> None:
    """But where the wire contract fixes the bytes."""
    app = application("test")
    app.config["BODY_TIMEOUT"] = 0.05

    @app.post(path)
    async def taken() -> Any:
        await body()
        return respond(Answer(204))

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[Any] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "query_string": b"",
    }
    scope |= {"raw_path": path.encode(), "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    await app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert named in json.loads(sent[1]["body"])["error"]["message"]
