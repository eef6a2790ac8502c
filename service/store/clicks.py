"""The one statement that counts clicks, and the connection that sends it."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Self

import msgspec
from uuid_utils import UUID

from service.settings import Settings
from service.store.connections import Connection, Route, milliseconds, translated
from service.store.errors import InDoubt, Unavailable

Batch = Mapping[str, Sequence[UUID]]
"""Ids of new clicks by short code."""

# $1 codes, ascending; $2 and $3 where the ids of each begin and end in $4.
# The plan keeps the order of $1 (see _SESSION), so two batches lock the rows they share in one order.
_ONCE = """
WITH counted AS (
    UPDATE hopcount.urls AS u
    SET click_count = u.click_count + cardinality(batch.ids)
    FROM (
        SELECT b.short_code, ($4::uuid[])[b.first:b.last] AS ids
        FROM unnest($1::text[], $2::int[], $3::int[]) AS b (short_code, first, last)
    ) AS batch
    WHERE u.short_code = batch.short_code
    RETURNING u.short_code, u.original_url, batch.ids
), logged AS (
    INSERT INTO hopcount.clicks (id, short_code)
    SELECT unnest(ids), short_code FROM counted
)
SELECT short_code, original_url FROM counted
"""

# The same, and harmless for a click that is in already: the count rises by the rows that are new.
# A link that is there but that this statement does not hold comes back without a destination.
_AGAIN = """
WITH held AS MATERIALIZED (
    SELECT short_code, original_url
    FROM hopcount.urls
    WHERE short_code = ANY ($1::text[])
    ORDER BY short_code
    FOR NO KEY UPDATE {skip_locked}
), logged AS (
    INSERT INTO hopcount.clicks (id, short_code)
    SELECT unnest(($4::uuid[])[b.first:b.last]), b.short_code
    FROM unnest($1::text[], $2::int[], $3::int[]) AS b (short_code, first, last)
    JOIN held ON held.short_code = b.short_code
    ON CONFLICT (id) DO NOTHING
    RETURNING short_code
), counted AS (
    UPDATE hopcount.urls AS u
    SET click_count = u.click_count + new.clicks
    FROM (SELECT short_code, count(*) AS clicks FROM logged GROUP BY short_code) AS new
    WHERE u.short_code = new.short_code
)
SELECT u.short_code, held.original_url
FROM hopcount.urls AS u LEFT JOIN held ON held.short_code = u.short_code
WHERE u.short_code = ANY ($1::text[])
"""

_SESSION = {
    # One plan, made once: from the sorted input into the index on short_code, whatever the statistics say.
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    # A look into the index seems to cost nothing, or a plan made on five links would be kept for millions.
    "random_page_cost": "0",
    "cpu_index_tuple_cost": "0",
    "cpu_operator_cost": "0",
    "jit": "off",
}


class Form(Enum):
    """How a batch is counted. Only ONCE is for clicks that cannot be in yet."""

    ONCE = _ONCE
    AGAIN = _AGAIN.format(skip_locked="")
    AGAIN_AROUND_LOCKS = _AGAIN.format(skip_locked="SKIP LOCKED")


class Counted(msgspec.Struct, frozen=True):
    """What a committed batch has come to; a code that is in neither has no link."""

    destinations: dict[str, str]
    busy: list[str]
    """Links that another transaction held, or was just deleting: none of their clicks were counted."""


class ClickWriter:
    """One connection that counts clicks, made when it is first needed and again when it was lost.

    Not for two statements at once: each flusher has its own. It takes a connection instead of borrowing
    one from the pool, since every return to a pool costs a round trip.
    """

    def __init__(self, dsn: str, settings: Settings) -> None:
        timeouts = {
            "lock_timeout": milliseconds(settings.lock_timeout),
            "statement_timeout": milliseconds(settings.deadline),
        }
        self._route = Route.to(dsn, _SESSION | timeouts)
        self._timeout = settings.deadline
        self._connection: Connection | None = None

    async def count(self, batch: Batch, form: Form) -> Counted:
        """Count and commit `batch`; when this returns, the clicks are on disk.

        Raises Unavailable, RowLocked or RolledBack: nothing was counted. InDoubt: it may have been, or may
        yet be; the same clicks can be sent once more, but not with Form.ONCE.
        """
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._route.connect(self._timeout, command_timeout=self._timeout)
        codes = sorted(batch)
        first: list[int] = []
        last: list[int] = []
        ids: list[UUID] = []
        for code in codes:
            first.append(len(ids) + 1)
            ids += batch[code]
            last.append(len(ids))
        try:
            async with self._route.settled(self._connection):
                # asyncpg hands the rows over when the server is ready again, and thus has committed.
                rows = await self._connection.fetch(form.value, codes, first, last, ids)
        except Exception as error:
            meaning = translated(error)
            if isinstance(meaning, InDoubt | Unavailable):
                self._drop()
            raise meaning from error
        except BaseException:
            self._drop()
            raise
        destinations: dict[str, str] = {}
        busy = []
        for code, destination in rows:
            if destination is None:
                busy.append(code)
            else:
                destinations[code] = destination
        return Counted(destinations, busy)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._drop()
