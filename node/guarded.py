"""The hot lane of a node that has tokens. One that has none does not pass through here."""

from __future__ import annotations

from typing import Any

from node.guard import Guard
from node.heads import Head, guarded_request
from node.lane import Lane
from node.tokens import SEED_GET, SEED_POST


class GuardedLane(Lane):
    """Checks each request's token, also where its head is known: a token may have been taken back meanwhile."""

    split = staticmethod(guarded_request)

    def __init__(self, guard: Guard, *parts: Any, **server: Any) -> None:
        super().__init__(*parts, **server)
        self._guard = guard

    def _learn(self, head: Head) -> None:
        if self._whole is not None and self._whole.authorization != self._parsed_authorization():
            self._whole = None
        super()._learn(head)

    def _post(self, head: Head, body: bytes, idempotency_key: str | None, request_id: str | None) -> None:
        self._guard.check(self._authorization(), SEED_POST)
        super()._post(head, body, idempotency_key, request_id)

    def _get(self, head: Head) -> None:
        self._guard.check(self._authorization(), SEED_GET)
        super()._get(head)

    def _authorization(self) -> str | None:
        """Of the request that is taken: cut out of its bytes if its head was known, else parsed."""
        return self._whole.authorization if self._whole is not None else self._parsed_authorization()

    def _parsed_authorization(self) -> str | None:
        value = self._known.get(b"authorization")
        return None if value is None else value.decode("latin-1")
