"""Reads the count, adds one and writes it back: loses clicks. The verdict has to notice."""

from uuid_utils import uuid7

from loadtest.baselines.pool import Pool
from loadtest.baselines.response import App, application


def create_app(dsn: str) -> App:
    pool = Pool(dsn)

    async def answer(code: str) -> str | None:
        async with pool.pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "SELECT original_url, click_count FROM hopcount.urls WHERE short_code = $1", code
            )
            if row is None:
                return None
            await connection.execute(
                "UPDATE hopcount.urls SET click_count = $2 WHERE short_code = $1",
                code,
                row["click_count"] + 1,
            )
            await connection.execute("INSERT INTO hopcount.clicks (id, short_code) VALUES ($1, $2)", uuid7(), code)
            destination: str = row["original_url"]
            return destination

    return application(answer, pool.opened())
