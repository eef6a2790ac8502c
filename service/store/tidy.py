"""Clicks that go in small steps: those of a deleted link, and old ones that lie in no month's partition."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from service.store.connections import Database

CHUNK = 1000
"""Clicks that one statement deletes: a few milliseconds' work."""
REST = 4
"""Times of a chunk between two of them: at most a fifth of one connection's time goes into this."""

_LOWEST = UUID(int=0)
_HIGHEST = UUID(int=2**128 - 1)

_END_OF_LINKS_CHUNK = f"""
SELECT id FROM hopcount.clicks WHERE short_code = $1 AND id > $2 ORDER BY id OFFSET {CHUNK - 1} LIMIT 1
"""
# A link that has come into being under this code keeps its clicks.
_DELETE_OF_LINK = """
DELETE FROM hopcount.clicks
WHERE short_code = $1 AND id > $2 AND id <= $3
  AND NOT EXISTS (SELECT FROM hopcount.urls WHERE short_code = $1)
"""
_END_OF_OLD_CHUNK = f"""
SELECT id FROM hopcount.clicks_default WHERE id < $1 AND id > $2 ORDER BY id OFFSET {CHUNK - 1} LIMIT 1
"""
_DELETE_OLD = "DELETE FROM hopcount.clicks_default WHERE id < $1 AND id > $2 AND id <= $3"
# From each code straight to the next, since a link may have millions of clicks.
_CODES = """
WITH RECURSIVE codes AS (
    (SELECT short_code FROM hopcount.clicks WHERE short_code > $1 ORDER BY short_code LIMIT 1)
    UNION ALL
    SELECT (
        SELECT c.short_code FROM hopcount.clicks AS c
        WHERE c.short_code > codes.short_code ORDER BY c.short_code LIMIT 1
    )
    FROM codes WHERE codes.short_code IS NOT NULL
)
SELECT short_code, EXISTS (SELECT FROM hopcount.urls AS u WHERE u.short_code = codes.short_code) AS linked
FROM codes WHERE short_code IS NOT NULL
LIMIT 1000
"""


def purge(database: Database, short_code: str) -> AsyncIterator[int]:
    """Delete the clicks of a deleted link; after each chunk, how many went. Raises Unavailable."""
    return _in_chunks(database, _END_OF_LINKS_CHUNK, _DELETE_OF_LINK, short_code)


def purge_unpartitioned(database: Database, before: UUID) -> AsyncIterator[int]:
    """Delete the clicks of the default partition with ids below `before`; after each chunk, how many went.

    `database` as the owner. Raises Unavailable.
    """
    return _in_chunks(database, _END_OF_OLD_CHUNK, _DELETE_OLD, before)


async def _in_chunks(database: Database, end_of_chunk: str, delete: str, which: object) -> AsyncIterator[int]:
    """It can be stopped and taken up again at any point. After each chunk it rests for a multiple of the time
    that one took: redirects go first, on a slow disk too.
    """
    loop = asyncio.get_running_loop()
    start = _LOWEST
    while True:
        began = loop.time()
        end: UUID | None = await database.fetchval(end_of_chunk, which, start)
        gone = int((await database.execute(delete, which, start, end or _HIGHEST)).rpartition(" ")[2])
        yield gone
        if end is None or gone == 0:
            return
        start = end
        await asyncio.sleep(REST * (loop.time() - began))


async def orphaned_codes(database: Database) -> AsyncIterator[str]:
    """The codes of all clicks that belong to no link. Raises Unavailable."""
    last = ""
    while rows := await database.fetch(_CODES, last):
        for row in rows:
            last = row["short_code"]
            if not row["linked"]:
                yield last
