"""The driver's errors, as ours."""

from __future__ import annotations

import asyncpg
import pytest

from node.errors import StoreOverflow, StoreRefused, StoreUnavailable
from node.postgres import translated


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (asyncpg.NumericValueOutOfRangeError("bigint"), StoreOverflow),
        (asyncpg.LockNotAvailableError("lock"), StoreRefused),
        (asyncpg.AdminShutdownError("terminating connection"), StoreUnavailable),
        (asyncpg.CrashShutdownError("terminating connection"), StoreUnavailable),
        (asyncpg.ConnectionDoesNotExistError("closed"), StoreUnavailable),
        (asyncpg.InterfaceError("pool is closing"), StoreUnavailable),
        (asyncpg.InternalClientError("another operation is in progress"), StoreUnavailable),
        (ConnectionResetError(), StoreUnavailable),
        (TimeoutError(), StoreUnavailable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_what_the_driver_fails_with_is_said_in_our_words(error: Exception, ours: type[Exception]) -> None:
    """Only of what Postgres refused it is known that it was not done."""
    with pytest.raises(ours) as raised:
        async with translated():
            raise error
    assert type(raised.value) is ours
