"""Links to follow: `load-0` to `load-<N-1>`, put in by COPY; removable afterwards, with those that clients made."""

from collections.abc import Callable, Iterator, Sequence

import asyncpg
from uuid_utils import uuid7

from loadtest.keys import code, destination

_BATCH = 50_000

# A link of somebody else may be called load-1 too; those of the load tests also lead where these have them lead.
_TAKEN = f"""
SELECT min(short_code) FROM hopcount.urls
WHERE CASE WHEN short_code ~ '^load-(0|[1-9][0-9]{{0,8}})$'
           THEN substr(short_code, 6)::int < $1 AND original_url <> '{destination("")}' || short_code END
"""
_MISSING = """
SELECT link FROM generate_series($1::int, $2::int) AS link
WHERE NOT EXISTS (SELECT FROM hopcount.urls WHERE short_code = 'load-' || link)
"""
_NAMED = "short_code ~ '^load-([0-9a-f]{10}-)?(0|[1-9][0-9]*)$'"
_REMOVE = f"""
DELETE FROM hopcount.urls
WHERE {_NAMED} AND (original_url = '{destination("")}' || short_code
                    OR starts_with(original_url, '{destination("")}' || short_code || '/'))
"""
_REMOVE_CLICKS = f"""
DELETE FROM hopcount.clicks AS c
WHERE {_NAMED} AND NOT EXISTS (SELECT FROM hopcount.urls AS u WHERE u.short_code = c.short_code)
"""


class SeedError(Exception):
    """The links cannot be put in; the message says why."""


async def seed(dsn: str, links: int, on_progress: Callable[[int], None]) -> int:
    """Make the seeded links that are missing, up to `links`: how many were made. `dsn` as administrator.

    `on_progress` is told after each batch how many are there. Raises SeedError, before anything is made, and what
    asyncpg raises.
    """
    connection = await asyncpg.connect(dsn, server_settings={"role": "hopcount_owner"})
    try:
        taken = await connection.fetchval(_TAKEN, links)
        if taken is not None:
            raise SeedError(f"{taken!r} is there already, and was not seeded: it leads elsewhere")
        made = 0
        for start in range(0, links, _BATCH):
            end = min(links, start + _BATCH)
            missing = [row[0] for row in await connection.fetch(_MISSING, start, end - 1)]
            await connection.copy_records_to_table(
                "urls", schema_name="hopcount", columns=["id", "short_code", "original_url"], records=_records(missing)
            )
            made += len(missing)
            on_progress(end)
        await connection.execute("ANALYZE hopcount.urls")
        return made
    finally:
        await connection.close()


def _records(links: Sequence[int]) -> Iterator[tuple[object, str, str]]:
    for link in links:
        yield uuid7(), code(link), destination(code(link))


async def remove(dsn: str) -> int:
    """Delete the links of load tests and their clicks, and no others: how many links. `dsn` as administrator."""
    connection = await asyncpg.connect(dsn, server_settings={"role": "hopcount_owner"})
    try:
        removed = await connection.execute(_REMOVE)
        await connection.execute(_REMOVE_CLICKS)
        return int(removed.rpartition(" ")[2])
    finally:
        await connection.close()
