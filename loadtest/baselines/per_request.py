"""Counts as Hopcount promises to, with one statement per request: the best of the comparable systems."""

from uuid_utils import uuid7

from loadtest.baselines.pool import Pool
from loadtest.baselines.response import App, application

_COUNT = """
WITH counted AS (
    UPDATE hopcount.urls SET click_count = click_count + 1 WHERE short_code = $1
    RETURNING short_code, original_url
), logged AS (
    INSERT INTO hopcount.clicks (id, short_code) SELECT $2, short_code FROM counted
)
SELECT original_url FROM counted
"""


def create_app(dsn: str) -> App:
    return counting(Pool(dsn))


def counting(pool: Pool) -> App:
    """The application on `pool`."""

    async def answer(code: str) -> str | None:
        destination: str | None = await pool.pool.fetchval(_COUNT, code, uuid7())
        return destination

    return application(answer, pool.opened())
