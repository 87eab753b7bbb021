"""Which routes an attack speaks: the default namespace's short ones, or those of a namespace in v1."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from yarl import URL

from cluster.attack import bearer

OPERATIONS_TIMEOUT_S = 10.0


class NotFounded(Exception):
    """The namespace is not as it was asked for. The message names the next step."""


@dataclass(frozen=True, slots=True)
class Route:
    """`url` is the public port; `namespace` None means the short routes. Keys are of [a-z0-9-] only (plan.py)."""

    url: str
    namespace: str | None = None

    @property
    def increments(self) -> URL:
        return self._at("increment" if self.namespace is None else f"v1/{self.namespace}/increments")

    def counter(self, key: str) -> URL:
        return self._at(f"increment/{key}" if self.namespace is None else f"v1/{self.namespace}/counters/{key}")

    @property
    def acknowledged(self) -> int:
        """The status of an answer that says: counted."""
        return 204 if self.namespace is None else 200

    @property
    def stored_in(self) -> str:
        return self.namespace or "default"

    def value_in(self, answer: Any, key: str) -> int:
        """Errors: KeyError, TypeError."""
        value: int = answer[key if self.namespace is None else "value"]
        return value

    def _at(self, path: str) -> URL:
        return URL(f"{self.url.rstrip('/')}/{path}", encoded=True)


def found(ops_url: str, namespace: str, strategy: str) -> None:
    """Makes the namespace count by this strategy, on a node's operations listener. Errors: NotFounded."""
    body = json.dumps({"strategy": strategy}).encode()
    where = f"{ops_url.rstrip('/')}/namespaces/{namespace}"
    headers = {"Content-Type": "application/json", **bearer.headers()}
    try:
        with urlopen(Request(where, body, headers, method="PUT"), timeout=OPERATIONS_TIMEOUT_S):
            return
    except OSError as error:
        said = error.read().decode("utf-8", "replace") if isinstance(error, HTTPError) else ""
        raise NotFounded(f"PUT {where} with strategy {strategy}: {error} {said}") from error
