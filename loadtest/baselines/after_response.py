"""Answers first and counts later, a second's clicks at a time: a kill loses them. The verdict has to notice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from uuid_utils import UUID, uuid7

from loadtest.baselines.pool import Pool
from loadtest.baselines.response import App, application

_EVERY_SECONDS = 1.0
_COUNT = """
WITH new AS (
    INSERT INTO hopcount.clicks (id, short_code) SELECT * FROM unnest($1::uuid[], $2::text[]) RETURNING short_code
)
UPDATE hopcount.urls AS u SET click_count = u.click_count + n.clicks
FROM (SELECT short_code, count(*) AS clicks FROM new GROUP BY short_code ORDER BY short_code) AS n
WHERE u.short_code = n.short_code
"""


def create_app(dsn: str) -> App:
    pool = Pool(dsn)
    clicks: list[tuple[UUID, str]] = []

    async def answer(code: str) -> str | None:
        destination: str | None = await pool.pool.fetchval(
            "SELECT original_url FROM hopcount.urls WHERE short_code = $1", code
        )
        if destination is not None:
            clicks.append((uuid7(), code))
        return destination

    async def write() -> None:
        if clicks:
            taken = clicks[:]
            clicks.clear()
            await pool.pool.execute(_COUNT, [click for click, _ in taken], [code for _, code in taken])

    async def write_now_and_then() -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await write()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with pool.opened():
            writing = asyncio.create_task(write_now_and_then())
            yield
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            await write()

    return application(answer, lifespan())
