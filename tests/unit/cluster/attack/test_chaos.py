"""What the faults wait for."""

from __future__ import annotations

import pytest

from cluster.attack.chaos import _until
from cluster.local.errors import LocalError


async def test_waiting_ends_with_what_was_found_or_says_that_it_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.attack.chaos.POLL_S", 0.001)
    looks = iter([None, None, 7])
    assert await _until(lambda: next(looks), 60, "never said") == 7
    with pytest.raises(LocalError, match="n1 is not ready"):
        await _until(lambda: False, 0.01, "n1 is not ready")
