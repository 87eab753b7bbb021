"""The table of namespaces in memory. It passes the same contract suite as the real one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from node.errors import StoreUnavailable, StrategyFixed, TooManyNamespaces
from node.terms import DEFAULT_STRATEGY, NAMESPACES_MAX, Namespace, StrategyName, Terms

WINDOW_S = 86_400


@dataclass
class MemoryNamespaces:
    """`ports.NamespaceStore`. While it is `away` nobody gets an answer."""

    rows: dict[str, Namespace] = field(default_factory=dict)
    away: bool = False

    async def all(self) -> list[Namespace]:
        self._reach()
        return [self.rows[name] for name in sorted(self.rows)]

    async def get(self, name: str) -> Namespace | None:
        self._reach()
        return self.rows.get(name)

    async def found(self, name: str, strategy: StrategyName) -> Namespace:
        self._reach()
        if name not in self.rows and len(self.rows) >= NAMESPACES_MAX:
            raise TooManyNamespaces
        return self.rows.setdefault(name, Namespace(name, strategy))

    async def change(self, name: str, terms: Terms) -> Namespace:
        self._reach()
        now = self.rows.get(name) or await self.found(name, terms.get("strategy", DEFAULT_STRATEGY))
        if terms.get("strategy", now.strategy) != now.strategy:
            raise StrategyFixed
        changed = replace(now, **terms)
        self.rows[name] = replace(changed, idempotency_window_s=changed.idempotency_window_s or WINDOW_S)
        return self.rows[name]

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable
