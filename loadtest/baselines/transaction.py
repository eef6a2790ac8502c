"""Counts as Hopcount promises to, by an UPDATE and an INSERT in one transaction a request: the plain way."""

from uuid_utils import uuid7

from loadtest.baselines.pool import Pool
from loadtest.baselines.response import App, application


def create_app(dsn: str) -> App:
    pool = Pool(dsn)

    async def answer(code: str) -> str | None:
        async with pool.pool.acquire() as connection, connection.transaction():
            destination: str | None = await connection.fetchval(
                "UPDATE hopcount.urls SET click_count = click_count + 1 WHERE short_code = $1 RETURNING original_url",
                code,
            )
            if destination is not None:
                await connection.execute("INSERT INTO hopcount.clicks (id, short_code) VALUES ($1, $2)", uuid7(), code)
            return destination

    return application(answer, pool.opened())
