"""Since when writers have had no lease, as far as was looked: who lives may be missing for a moment. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

APART_MAX_S = 10.0  # more than a store that is slow keeps anybody from looking again


class Absence:
    """Those who are missing for `dead_after_s` are dead.

    A time in which nobody could look does not count: the registry was away, its leases ran out, and who lives needs
    time to renew them. So it begins anew after a look that is too long ago.
    """

    def __init__(self, dead_after_s: float) -> None:
        self.dead_after_s = dead_after_s
        self._apart_max_s = max(dead_after_s, APART_MAX_S)
        self._since: dict[str, float] = {}
        self._looked_at = -math.inf

    def forget(self) -> None:
        self._since.clear()

    def dead(self, missing: Iterable[str], now: float) -> list[str]:
        """Of those who are missing at this look, who has been for too long."""
        if now - self._looked_at > self._apart_max_s:
            self.forget()
        self._looked_at = now
        self._since = {name: self._since.get(name, now) for name in missing}
        return [name for name, since in self._since.items() if now - since > self.dead_after_s]
