"""Links to follow: `load-0` to `load-<N-1>`, put in by COPY; removable afterwards, with those that clients made."""

from collections.abc import Callable, Iterator, Sequence

import asyncpg
from uuid_utils import uuid7

from loadtest.keys import code, destination

_BATCH = 50_000

# A link of somebody else may be called load-1 too; those of the load tests also lead where these have them lead.
_NAMED = "short_code ~ '^load-(0|[1-9][0-9]*)$'"
_SEEDED = f"{_NAMED} AND original_url = '{destination('')}' || short_code"
_NAMED_BY_ANY = "short_code ~ '^load-([0-9a-f]{10}-)?(0|[1-9][0-9]*)$'"
_OF_ANY = (
    f"{_NAMED_BY_ANY} AND (original_url = '{destination('')}' || short_code "
    f"OR starts_with(original_url, '{destination('')}' || short_code || '/'))"
)


class SeedError(Exception):
    """The links cannot be put in; the message says why."""


async def seed(dsn: str, links: int, on_progress: Callable[[int], None]) -> int:
    """Make the seeded links that are missing, up to `links`: how many were made. `dsn` as administrator.

    `on_progress` is told after each batch how many are there. Raises SeedError, before anything is made, and what
    asyncpg raises.
    """
    connection = await asyncpg.connect(dsn, server_settings={"role": "hopcount_owner"})
    try:
        found = await connection.fetch(f"SELECT short_code, {_SEEDED} AS seeded FROM hopcount.urls WHERE {_NAMED}")
        there: dict[str, bool] = dict(map(tuple, found))
        missing = [link for link in range(links) if not there.get(code(link), False)]
        taken = next((code(link) for link in missing if code(link) in there), None)
        if taken is not None:
            raise SeedError(f"{taken!r} is there already, and was not seeded: it leads elsewhere")
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            await connection.copy_records_to_table(
                "urls", schema_name="hopcount", columns=["id", "short_code", "original_url"], records=_records(batch)
            )
            on_progress(links - len(missing) + start + len(batch))
        await connection.execute("ANALYZE hopcount.urls")
        return len(missing)
    finally:
        await connection.close()


def _records(links: Sequence[int]) -> Iterator[tuple[object, str, str]]:
    for link in links:
        yield uuid7(), code(link), destination(code(link))


async def remove(dsn: str) -> int:
    """Delete the links of load tests and their clicks, and no others: how many links. `dsn` as administrator."""
    connection = await asyncpg.connect(dsn, server_settings={"role": "hopcount_owner"})
    try:
        removed = await connection.execute(f"DELETE FROM hopcount.urls WHERE {_OF_ANY}")
        await connection.execute(
            f"DELETE FROM hopcount.clicks AS c WHERE {_NAMED_BY_ANY} "
            "AND NOT EXISTS (SELECT FROM hopcount.urls AS u WHERE u.short_code = c.short_code)"
        )
        return int(removed.rpartition(" ")[2])
    finally:
        await connection.close()
