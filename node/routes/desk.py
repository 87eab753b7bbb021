"""What the v1 routes have in common: who asks, where a namespace's counters are, and how errors are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps

from quart import Response, g, request

from node.answers import Answer
from node.counters import Records
from node.door import Door, asker
from node.errors import TallyError
from node.increment import counter_name, valid_namespace
from node.limiter import network_of
from node.namespaces import Namespaces
from node.routes.http import only, peer, respond
from node.strategy import Strategy
from node.terms import Namespace, StrategyName
from node.v1 import told
from node.v1.query import Consistency

Handler = Callable[..., Awaitable[Answer | Response]]


class Desk:
    """One for all v1 routes of a node."""

    def __init__(
        self, door: Door, namespaces: Namespaces, strategies: Mapping[StrategyName, Strategy], records: Records
    ) -> None:
        self.door, self.namespaces, self.strategies, self.records = door, namespaces, strategies, records

    def answers(self, handler: Handler, counts: bool = False) -> Callable[..., Awaitable[Response]]:
        """A route of `handler(desk, **parts of the path)`: admits, and answers what it returns or raises.

        `counts`: it changes counters.
        """

        @wraps(handler)
        async def answer(**parts: str) -> Response:
            g.by_proxy = False
            try:
                g.by_proxy = self.door.admit(peer(), request.headers.get("X-Real-IP"), request.path)
                answer = await handler(self, **parts)
            except TallyError as error:
                answer = self.door.failed(error, detailed=True, passed_on=counts and g.by_proxy)
            return answer if isinstance(answer, Response) else respond(answer)

        return answer

    def counts(self, handler: Handler) -> Callable[..., Awaitable[Response]]:
        return self.answers(handler, counts=True)

    async def namespace(self, name: str) -> Namespace:
        """One that is there. Errors: NotFound."""
        return await self.namespaces.find(valid_namespace(name))

    def of(self, namespace: Namespace) -> Strategy:
        return self.strategies[namespace.strategy]

    async def read(
        self, namespace: Namespace, keys: Sequence[str], consistency: Consistency
    ) -> list[told.Counter | None]:
        """In the order of `keys`; None for one that is no counter."""
        if consistency == "stored":
            listed = await self.records.stored(namespace.name, keys)
            return [None if each is None else told.of_listed(each) for each in listed]
        counters = [counter_name(namespace.name, key) for key in keys]
        readings = await self.of(namespace).read(namespace, counters)
        return [
            None if reading is None else told.of_reading(key, reading)
            for key, reading in zip(keys, readings, strict=True)
        ]


def client() -> str:
    """Who asks: an address, or of IPv6 the network that is one client's."""
    return network_of(asker(peer(), request.headers.get("X-Real-IP"), g.by_proxy))


def request_id() -> str | None:
    """A trusted proxy's, which it sends again with every try of one request."""
    return only("X-Request-ID") if g.by_proxy else None
