"""What asyncpg raises when Postgres cannot be reached, or does not do what it was asked."""

from __future__ import annotations

import asyncpg

# A TimeoutError is an OSError; an InternalClientError is what meets a connection on which the server has said goodbye
# and which it has not closed yet; a RuntimeError is uvloop's, of one that closed just now.
POSTGRES_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, RuntimeError)
