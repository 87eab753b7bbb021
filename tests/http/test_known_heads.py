"""One connection, many requests alike: the second is taken without being parsed, and must mean what it says."""

from __future__ import annotations

import asyncio

from tests.http.conftest import *  # noqa: F403
