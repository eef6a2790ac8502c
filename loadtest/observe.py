"""What PostgreSQL says before and after a run."""

from collections.abc import Mapping
from uuid import UUID

import asyncpg
import msgspec

SETTINGS = (
    "server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers",
    "max_wal_size", "min_wal_size", "checkpoint_timeout", "wal_buffers", "commit_delay", "max_connections",
    "random_page_cost", "jit", "autovacuum", "autovacuum_naptime", "data_checksums", "huge_pages",
)  # fmt: skip


class Activity(msgspec.Struct, frozen=True):
    """Counters of PostgreSQL; of a run, by how much they rose."""

    commits: int
    """Of transactions that wrote: their ids, which are there at once; sessions report the rest now and then."""
    wal_bytes: int
    updates: int
    """Of rows in `urls`."""
    hot_updates: int

    def since(self, before: "Activity") -> "Activity":
        return Activity(*(getattr(self, f) - getattr(before, f) for f in self.__struct_fields__))


class Observed(msgspec.Struct, frozen=True):
    counts: dict[str, int]
    """Of the links that were ever counted."""
    rows: dict[str, int]
    """In clicks, by code, from the given id on."""
    activity: Activity

    def since(self, before: "Observed") -> "Observed":
        """By how much everything rose, where it did."""
        return Observed(
            _rise(before.counts, self.counts), _rise(before.rows, self.rows), self.activity.since(before.activity)
        )


async def observe(dsn: str, since: UUID) -> Observed:
    """`dsn` as superuser; `since` is an id older than all clicks of the run."""
    connection = await asyncpg.connect(dsn)
    try:
        activity = await connection.fetchrow(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS commits, "
            "(pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS wal_bytes, "
            "n_tup_upd AS updates, n_tup_hot_upd AS hot_updates "
            "FROM pg_stat_user_tables WHERE relid = 'hopcount.urls'::regclass"
        )
        async with connection.transaction(isolation="repeatable_read"):
            counts = await connection.fetch("SELECT short_code, click_count FROM hopcount.urls WHERE click_count > 0")
            rows = await connection.fetch(
                "SELECT short_code, count(*) FROM hopcount.clicks WHERE id >= $1 GROUP BY short_code", since
            )
    finally:
        await connection.close()
    assert activity is not None  # the table is there
    return Observed(dict(map(tuple, counts)), dict(map(tuple, rows)), Activity(**activity))


def _rise(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much each count rose, where it did."""
    return {code: count - before.get(code, 0) for code, count in after.items() if count != before.get(code, 0)}


async def settings(dsn: str) -> dict[str, str]:
    connection = await asyncpg.connect(dsn)
    try:
        return {name: await connection.fetchval("SELECT current_setting($1)", name) for name in SETTINGS}
    finally:
        await connection.close()


async def checkpoint(dsn: str) -> None:
    """So that no run pays for the one before."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
