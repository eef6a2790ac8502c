"""The months of `clicks`: made ahead, and dropped when they are old."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

import asyncpg
import msgspec

from service.store.connections import Database
from service.store.errors import Unavailable
from service.store.ids import first_id

MOVED_AT_ONCE = 100_000
"""Clicks that are moved out of the default partition while redirects wait: about a second's work."""

_LOCK_TIMEOUT = "100ms"
"""While a lock that redirects need is waited for, they wait too: well below the `lock_timeout` of the settings."""
_TRIES = 50
_PAUSE = 0.2
_NOT_YET_OVER = timedelta(hours=1)
_IN_THE_WAY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

_STATE = """
SELECT c.oid IS NOT NULL AS made, i.inhrelid IS NOT NULL AS attached
FROM (SELECT to_regclass($1) AS oid) AS c
LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid AND i.inhparent = 'hopcount.clicks'::regclass
"""


# Names sort as their months do.
_MONTHS = r"""
SELECT c.relname AS name, i.inhrelid IS NOT NULL AS attached, pg_total_relation_size(c.oid) AS size
FROM pg_class AS c LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid AND i.inhparent = 'hopcount.clicks'::regclass
WHERE c.relnamespace = 'hopcount'::regnamespace AND c.relkind = 'r'
  AND c.relname ~ '^clicks_\d{4}_\d{2}$' AND c.relname < $1
ORDER BY c.relname
"""

# These locks keep only vacuum and other runs waiting. Autovacuum gives way, but only to one that waits longer than
# deadlock_timeout, a second. What follows then waits for redirects alone.
_PAST_VACUUM = f"""
SET LOCAL lock_timeout = '3s';
LOCK TABLE ONLY hopcount.clicks, hopcount.clicks_default{{and_table}} IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}';
"""
# One message and so one transaction: while redirects wait, nothing waits for this process. As the counting
# statement: first the parent, then its partitions. CONCURRENTLY is refused where there is a default partition.
_DETACH = f"{_PAST_VACUUM.format(and_table=', {table}')}ALTER TABLE hopcount.clicks DETACH PARTITION {{table}};"

T = TypeVar("T")


class Month(msgspec.Struct, frozen=True):
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, instant: datetime) -> "Month":
        utc = instant.astimezone(UTC)
        return cls(utc.year, utc.month)

    def plus(self, months: int) -> "Month":
        years, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(years, month + 1)

    @property
    def table(self) -> str:
        return f"hopcount.clicks_{self.year:04}_{self.month:02}"

    @property
    def first_id(self) -> UUID:
        """The lowest UUIDv7 of the month."""
        return first_id(datetime(self.year, self.month, 1, tzinfo=UTC))


class Made(msgspec.Struct, frozen=True):
    """A month that was missing and is there now."""

    month: Month
    moved: int
    """Clicks that were in the default partition."""


class Dropped(msgspec.Struct, frozen=True):
    """A month that is gone."""

    name: str
    size: int
    """Bytes that it took, with its indexes."""


async def make_ahead(database: Database, now: datetime, months: int) -> list[Made]:
    """Make the partitions of this month and the `months` that follow, where they are missing.

    `database` as the owner. Redirects go on: a month is built apart and attached under a short lock
    timeout. Raises Unavailable for the first that could not be made; all others are there then.
    """
    this = Month.of(now)
    made = []
    failure: Unavailable | None = None
    for ahead in range(months + 1):
        try:
            if month := await _make(database, this.plus(ahead)):
                made.append(month)
        except Unavailable as error:
            # A month that has come too late must not make the next one late as well.
            failure = failure or error
    if failure is not None:
        raise failure
    return made


async def _make(database: Database, month: Month) -> Made | None:
    state = await database.fetchrow(_STATE, month.table)
    if state is not None and state["attached"]:
        return None
    lower, upper = month.first_id, month.plus(1).first_id
    if state is None or not state["made"]:
        # With the CHECK, attaching needs no scan of the new table.
        await database.execute(
            f"CREATE TABLE {month.table} (LIKE hopcount.clicks INCLUDING ALL, "
            f"CONSTRAINT in_month CHECK (id >= '{lower}' AND id < '{upper}'))"
        )
    attach = partial(_attach, database, month.table, lower, upper)
    return Made(month, await _patiently(attach, f"{month.table} was not attached"))


async def _attach(database: Database, table: str, lower: UUID, upper: UUID) -> int:
    async with database.transaction() as connection:
        await connection.execute(_PAST_VACUUM.format(and_table=""))
        await connection.execute("LOCK TABLE hopcount.clicks_default IN ACCESS EXCLUSIVE MODE")
        waiting: int = await connection.fetchval(
            "SELECT count(*) FROM (SELECT FROM hopcount.clicks_default WHERE id >= $1 AND id < $2 LIMIT $3) AS found",
            lower,
            upper,
            MOVED_AT_ONCE + 1,
        )
        if waiting > MOVED_AT_ONCE:
            raise Unavailable(
                f"{table} was not attached: the default partition holds more than {MOVED_AT_ONCE:,} clicks "
                "of that month, and moving them would keep redirects waiting. They are safe where they are."
            )
        if waiting:
            await connection.execute(
                "WITH moved AS (DELETE FROM hopcount.clicks_default WHERE id >= $1 AND id < $2 RETURNING *) "
                f"INSERT INTO {table} SELECT * FROM moved",
                lower,
                upper,
            )
        await connection.execute(
            f"ALTER TABLE hopcount.clicks ATTACH PARTITION {table} FOR VALUES FROM ('{lower}') TO ('{upper}')"
        )
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT in_month")
        return waiting


def newest_boundary(now: datetime) -> Month:
    """The latest month before which clicks can be dropped at `now`.

    A month is kept for an hour after its end: a batch in doubt that is sent again would not find the clicks
    that were in, and count them twice; and workers' clocks differ.
    """
    return Month.of(now - _NOT_YET_OVER)


async def drop_before(database: Database, month: Month) -> AsyncIterator[Dropped]:
    """Drop every month before `month`, oldest first: each, once it is gone. `database` as the owner.

    Redirects go on. It can be stopped and taken up again at any point: a month that was detached and not
    dropped is dropped by the next run. `month` is at most `newest_boundary`, or a month that `make_ahead` builds
    could be taken for one of those. Raises Unavailable.
    """
    for row in await database.fetch(_MONTHS, month.table.removeprefix("hopcount.")):
        table = f"hopcount.{row['name']}"
        if row["attached"]:
            detach = partial(database.execute, _DETACH.format(table=table))
            await _patiently(detach, f"{table} was not dropped")
        await database.execute(f"DROP TABLE IF EXISTS {table}")
        yield Dropped(row["name"], row["size"])


async def _patiently(attempt: Callable[[], Awaitable[T]], failure: str) -> T:
    """What `attempt` returns, tried again where a lock is in the way. Raises Unavailable, which begins with
    `failure` where one still was at the last try."""
    for _ in range(_TRIES):
        try:
            return await attempt()
        except Unavailable as error:
            if not isinstance(error.__cause__, _IN_THE_WAY):
                raise
            cause = error
        await asyncio.sleep(_PAUSE)
    raise Unavailable(
        f"{failure}: in {_TRIES} tries, another transaction held a lock on the clicks. "
        "No click was touched; run it again once that has ended."
    ) from cause
