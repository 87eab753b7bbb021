"""What one writes first: Quart on Hypercorn, one upsert a request. The benchmark's peer, and nothing else.

python -m tests.bench.naive PORT DSN
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, request

UPSERT = """
INSERT INTO key_counters (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = key_counters.value + excluded.value, updated_at = now()
"""
TABLE = """
CREATE TABLE IF NOT EXISTS key_counters (
    id uuid NOT NULL DEFAULT gen_random_uuid(), key text PRIMARY KEY, value bigint NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()
)
"""
CONNECTIONS = 10  # asyncpg's own default


def application(pool: asyncpg.Pool) -> Quart:
    app = Quart("naive")

    @app.post("/increment")
    async def increment() -> tuple[str, int]:
        given = await request.get_json()
        await pool.execute(UPSERT, given["key"], given["value"])
        return "", 204

    @app.get("/livez")
    async def livez() -> str:
        return "ok"

    return app


async def main(port: int, dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(TABLE)
        config = Config()
        config.bind = [f"127.0.0.1:{port}"]
        config.accesslog = config.errorlog = None
        await serve(application(pool), config)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
