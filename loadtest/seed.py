"""Links to follow: `load-0` to `load-<N-1>`, put in by COPY and removable afterwards."""

from collections.abc import Callable, Iterator

import asyncpg
from uuid_utils import uuid7

from loadtest.keys import code, destination

_BATCH = 50_000


async def seed(dsn: str, links: int, on_progress: Callable[[int], None]) -> int:
    """Make the seeded links that are missing, up to `links`: how many were made. `dsn` as administrator.

    `on_progress` is told after each batch how many are there. Raises what asyncpg raises.
    """
    connection = await asyncpg.connect(dsn, server_settings={"role": "hopcount_owner"})
    try:
        there: int = await connection.fetchval("SELECT count(*) FROM hopcount.urls WHERE short_code LIKE 'load-%'")
        for start in range(there, links, _BATCH):
            end = min(links, start + _BATCH)
            await connection.copy_records_to_table(
                "urls", schema_name="hopcount", columns=["id", "short_code", "original_url"],
                records=_records(start, end),
            )  # fmt: skip
            on_progress(end)
        await connection.execute("ANALYZE hopcount.urls")
        return max(0, links - there)
    finally:
        await connection.close()


def _records(start: int, end: int) -> Iterator[tuple[object, str, str]]:
    for link in range(start, end):
        yield uuid7(), code(link), destination(code(link))


async def remove(dsn: str) -> int:
    """Delete all seeded links and their clicks: how many links. `dsn` as administrator."""
    connection = await asyncpg.connect(dsn, server_settings={"role": "hopcount_owner"})
    try:
        removed: int = await connection.fetchval(
            "WITH gone AS (DELETE FROM hopcount.urls WHERE short_code LIKE 'load-%' RETURNING 1) "
            "SELECT count(*) FROM gone"
        )
        await connection.execute("DELETE FROM hopcount.clicks WHERE short_code LIKE 'load-%'")
        return removed
    finally:
        await connection.close()
