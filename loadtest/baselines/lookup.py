"""Reads the destination and counts nothing."""

from loadtest.baselines.pool import Pool
from loadtest.baselines.response import App, application


def create_app(dsn: str) -> App:
    pool = Pool(dsn)

    async def answer(code: str) -> str | None:
        destination: str | None = await pool.pool.fetchval(
            "SELECT original_url FROM hopcount.urls WHERE short_code = $1", code
        )
        return destination

    return application(answer, pool.opened())
