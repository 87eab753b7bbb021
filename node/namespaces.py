"""What this node knows of the namespaces. They are in Postgres; every node looks there twice a second.

So a change is seen everywhere within a second, and while Postgres is away all goes on with what was known last. A
namespace that is not known here is looked for there, for another node may have founded it a moment ago.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from node.errors import Misconfigured, NotFound, Unavailable
from node.increment import DEFAULT_NAMESPACE
from node.ports import NamespaceStore
from node.terms import DEFAULT_STRATEGY, Namespace, StrategyName, Terms

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5


class Namespaces:
    """What is known; `run` keeps it so."""

    def __init__(self, store: NamespaceStore) -> None:
        self._store = store
        self._known: dict[str, Namespace] = {}
        self._changes = 0  # made here
        self._watchers: list[Callable[[Namespace], None]] = []
        self.trouble: str | None = None

    async def start(self, strategy: StrategyName) -> None:
        """Founds the default namespace if this is its first node. Errors: StoreUnavailable; Misconfigured."""
        default = await self._store.found(DEFAULT_NAMESPACE, strategy)
        if default.strategy != strategy:
            raise Misconfigured(
                f"the default namespace of this database counts by {default.strategy!r}, not by {strategy!r}, and "
                f"cannot be changed; set TALLY_STRATEGY={default.strategy}"
            )
        await self.refresh()

    def watch(self, watcher: Callable[[Namespace], None]) -> None:
        """It is told of each namespace as it is, now and whenever one is known or has changed."""
        self._watchers.append(watcher)
        for namespace in self._known.values():
            watcher(namespace)

    def known(self, name: str) -> Namespace | None:
        return self._known.get(name)

    @property
    def default(self) -> Namespace:
        return self._known[DEFAULT_NAMESPACE]

    def all(self) -> list[Namespace]:
        return sorted(self._known.values(), key=lambda namespace: namespace.name)

    async def find(self, name: str) -> Namespace:
        """Errors: NotFound; StoreUnavailable when it is not known here and nobody can be asked."""
        known = self._known.get(name)
        if known is None:
            known = await self._store.get(name)
            if known is None:
                raise NotFound(f"There is no namespace {name!r}.")
            self._note(known)
        return known

    async def expected(self, name: str) -> Namespace:
        """As it is, or as it would be founded. Errors: StoreUnavailable, as `find`."""
        try:
            return await self.find(name)
        except NotFound:
            return Namespace(name)

    async def found(self, name: str) -> Namespace:
        """Founds it if there is none of that name: for a request that is good in all else.

        Errors: TooManyNamespaces; StoreUnavailable when it is not known here and nobody can be asked.
        """
        known = self._known.get(name)
        if known is None:
            known = await self._store.found(name, DEFAULT_STRATEGY)
            self._note(known)
        return known

    async def change(self, name: str, terms: Terms) -> Namespace:
        """Errors: StrategyFixed, TooManyNamespaces, StoreUnavailable."""
        namespace = await self._store.change(name, terms)
        self._changes += 1
        self._note(namespace)
        return namespace

    async def run(self) -> None:
        """Looks for changes until cancelled; trouble with Postgres is waited out."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                await self.refresh()
                self.trouble = None
            except Unavailable as error:
                if self.trouble is None:
                    log.warning("going on with the namespaces known last: %s", error)
                self.trouble = str(error)

    async def refresh(self) -> None:
        before = self._changes
        found = await self._store.all()
        if self._changes == before:  # or what was read may be older than what was changed meanwhile
            for namespace in found:
                self._note(namespace)

    def _note(self, namespace: Namespace) -> None:
        if self._known.get(namespace.name) != namespace:
            self._known[namespace.name] = namespace
            for watcher in self._watchers:
                watcher(namespace)
