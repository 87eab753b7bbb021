"""What `/openapi.json` says, as checks of answers: that they are as described, and that nothing else is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import schemathesis
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

BATCH = "/v1/{ns}/increments/batch"
NDJSON = "application/x-ndjson"
HTTPS_OWN = {"content-type", "content-length", "transfer-encoding", "connection", "date"}  # every server sends them


def nothing_is_left_out(ctx: CheckContext, response: Response, case: schemathesis.Case) -> None:
    """Every header that is sent is described, and an error that comes in two forms names what chooses between them."""
    described = case.operation.responses.find_by_status_code(response.status_code)
    assert described is not None
    names = {name.lower() for name, _ in described.headers.items()}
    assert response.headers.keys() - HTTPS_OWN <= names, f"{case.operation.label}: {response.headers}"
    assert ("vary" in response.headers) == ("vary" in names)


def what_is_wrong_is_not_counted(ctx: CheckContext, response: Response, case: schemathesis.Case) -> None:
    """A batch's items are refused one by one, in a 200."""
    if case.path != BATCH or response.status_code != 200 or not json.loads(response.content)["refused"]:
        negative_data_rejection(ctx, response, case)


AS_DESCRIBED = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    nothing_is_left_out,
]
CHECKS = [*AS_DESCRIBED, not_a_server_error, what_is_wrong_is_not_counted]


@schemathesis.serializer(NDJSON)
def lines(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    items = value if isinstance(value, list) else [value]
    return "".join(json.dumps(item, default=str) + "\n" for item in items).encode()


def told_by(port: int) -> Any:
    with urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=10) as answer:
        return json.load(answer)


def described_by(port: int) -> OpenApiSchema:
    """What a node says, taken for all there is: an answer with a member that is not described is none of these."""
    schema = schemathesis.openapi.from_dict(closed(told_by(port)))
    schema.config.update(base_url=f"http://127.0.0.1:{port}")
    return schema


def asking_as_described(port: int) -> Callable[..., Response]:
    """Asks a node, and holds what it answers against what it says of itself."""
    schema = described_by(port)

    def ask(method: str, path: str, **parts: Any) -> Response:
        operation = schema[path][method]
        case = operation.Case(**parts)
        assert case.body is NOT_SET or case.media_type in schema.get_request_payload_content_types(operation)
        return case.call_and_validate(checks=AS_DESCRIBED, timeout=10)

    return ask


def closed(told: Any) -> Any:
    """Without other members in objects than those that are described; where a request may have some, it says so."""
    for name, schema in told["components"]["schemas"].items():
        if name != "IncrementBody":
            schema["additionalProperties"] = False
    return told
