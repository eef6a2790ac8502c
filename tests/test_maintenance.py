"""The schema check, the months of clicks, and what deleted links leave behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from uuid_utils import uuid7

from service.links import Purger
from service.store import partitions, schema, tidy
from service.store.connections import Database
from service.store.errors import SchemaMismatch, Unavailable
from service.store.ids import first_id, instant_of
from service.store.partitions import Month
from service.store.urls import New, Urls

Connection = Any  # asyncpg.Connection

JANUARY = "hopcount.clicks_2026_01"
LATER = datetime(2031, 11, 30, 23, 59, tzinfo=UTC)


async def test_the_deployed_schema_is_the_one_that_is_needed(database: Database) -> None:
    await schema.check(database)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DROP TABLE hopcount.api_keys", "hopcount.api_keys is missing"),
        ("ALTER TABLE hopcount.urls DROP COLUMN updated_at", "hopcount.urls.updated_at is missing"),
        ("DROP INDEX hopcount.urls_search_idx", "the index hopcount.urls_search_idx is missing"),
        ("REVOKE INSERT ON hopcount.clicks FROM hopcount_service", "may not INSERT hopcount.clicks"),
        ("REVOKE USAGE ON SCHEMA hopcount FROM hopcount_service", "permission denied for schema hopcount"),
        ("DROP SCHEMA hopcount CASCADE", "hopcount.urls is missing"),
    ],
)
async def test_a_schema_that_lacks_something_is_named_with_what_to_do(
    database: Database, connection: Connection, change: str, problem: str
) -> None:
    await connection.execute(change)
    with pytest.raises(SchemaMismatch, match=problem) as caught:
        await schema.check(database)
    assert "sqitch deploy" in str(caught.value)


def test_a_month_knows_its_ids() -> None:
    month = Month.of(LATER)
    assert month.table == "hopcount.clicks_2031_11"
    assert month.plus(2).table == "hopcount.clicks_2032_01"
    assert month.first_id.int >> 80 == datetime(2031, 11, 1, tzinfo=UTC).timestamp() * 1000
    assert month.first_id.int % 2**80 == 0


async def test_months_are_made_ahead_once(as_owner: Database, connection: Connection) -> None:
    made = await partitions.make_ahead(as_owner, LATER, 2)
    assert [month.month.table for month in made] == [
        "hopcount.clicks_2031_11",
        "hopcount.clicks_2031_12",
        "hopcount.clicks_2032_01",
    ]
    assert await partitions.make_ahead(as_owner, LATER, 2) == []
    indexes = await connection.fetchval(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'hopcount.clicks_2031_12'::regclass"
    )
    assert indexes == 2


async def test_clicks_of_a_late_month_are_moved_into_it(as_owner: Database, connection: Connection) -> None:
    first, last = Month.of(LATER).first_id.int, Month.of(LATER).plus(1).first_id.int
    for number in (first - 1, first, last - 1, last):
        await connection.execute("INSERT INTO hopcount.clicks VALUES ($1, 'a')", UUID(int=number))
    (made,) = await partitions.make_ahead(as_owner, LATER, 0)
    assert made.moved == 2
    assert await connection.fetchval("SELECT count(*) FROM hopcount.clicks_2031_11") == 2
    assert await connection.fetchval("SELECT count(*) FROM hopcount.clicks") == 4


async def test_too_many_clicks_of_a_late_month_stay_where_they_are(
    as_owner: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "MOVED_AT_ONCE", 1)
    first = Month.of(LATER).first_id.int
    for number in (first, first + 1):
        await connection.execute("INSERT INTO hopcount.clicks VALUES ($1, 'a')", UUID(int=number))
    with pytest.raises(Unavailable, match="They are safe where they are"):
        await partitions.make_ahead(as_owner, LATER, 1)
    assert await connection.fetchval("SELECT count(*) FROM hopcount.clicks_default") == 2
    attached = "SELECT count(*) FROM pg_inherits WHERE inhrelid = 'hopcount.clicks_2031_12'::regclass"
    assert await connection.fetchval(attached) == 1, "the next month is late as well"


async def test_attaching_waits_for_its_turn(as_owner: Database, connection: Connection) -> None:
    """A transaction that uses clicks makes it try again, and is not kept waiting by it for long."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("LOCK TABLE hopcount.clicks_default IN ROW EXCLUSIVE MODE")
    making = asyncio.create_task(partitions.make_ahead(as_owner, LATER, 0))
    built = "SELECT to_regclass('hopcount.clicks_2031_11') IS NOT NULL"
    while not await as_owner.fetchval(built):
        pass
    await transaction.commit()
    (made,) = await making
    assert made.moved == 0


async def test_a_month_that_was_built_and_not_attached_is_attached(as_owner: Database, connection: Connection) -> None:
    await as_owner.execute(
        "CREATE TABLE hopcount.clicks_2031_11 (LIKE hopcount.clicks INCLUDING ALL, "
        "CONSTRAINT in_month CHECK (id IS NOT NULL))"
    )
    assert len(await partitions.make_ahead(as_owner, LATER, 0)) == 1
    assert await connection.fetchval(
        "SELECT relispartition FROM pg_class WHERE oid = 'hopcount.clicks_2031_11'::regclass"
    )


async def clicks_on(connection: Connection, *days: datetime) -> None:
    await connection.executemany(
        "INSERT INTO hopcount.clicks VALUES ($1, 'a')", [(UUID(int=first_id(day).int + 1),) for day in days]
    )


async def test_old_months_are_dropped_and_nothing_else(as_owner: Database, connection: Connection) -> None:
    january, march = datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    await partitions.make_ahead(as_owner, january, 3)
    kept = [march, march + timedelta(days=40)]
    await clicks_on(connection, january, january + timedelta(days=30), *kept)
    assert [month.name async for month in partitions.drop_before(as_owner, Month.of(march))] == [
        "clicks_2026_01",
        "clicks_2026_02",
    ]
    assert [instant_of(row["id"]) for row in await connection.fetch("SELECT id FROM hopcount.clicks")] == kept
    assert [month async for month in partitions.drop_before(as_owner, Month.of(march))] == []


async def test_a_month_that_was_detached_and_not_dropped_is_dropped_by_the_next_run(
    as_owner: Database, connection: Connection
) -> None:
    january = datetime(2026, 1, 15, tzinfo=UTC)
    await partitions.make_ahead(as_owner, january, 1)
    await connection.execute("ALTER TABLE hopcount.clicks DETACH PARTITION hopcount.clicks_2026_01")
    march = Month.of(january).plus(2)
    assert [month.name async for month in partitions.drop_before(as_owner, march)] == [
        "clicks_2026_01",
        "clicks_2026_02",
    ]


async def test_detaching_waits_for_its_turn_and_gives_up_with_nothing_half_done(
    as_owner: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_TRIES", 2)
    january = datetime(2026, 1, 15, tzinfo=UTC)
    await partitions.make_ahead(as_owner, january, 0)
    february = Month.of(january).plus(1)
    async with connection.transaction():
        await connection.fetch("SELECT FROM hopcount.clicks")
        with pytest.raises(Unavailable, match=r"clicks_2026_01 was not dropped: in 2 tries"):
            [month async for month in partitions.drop_before(as_owner, february)]
    assert await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhrelid = $1::text::regclass", JANUARY)
    assert len([month async for month in partitions.drop_before(as_owner, february)]) == 1


@asynccontextmanager
async def autovacuum_at_work(connection: Connection, table: str) -> AsyncIterator[None]:
    """On `table`, and so slow that it does not end by itself."""
    await connection.execute(
        f"ALTER TABLE {table} SET (autovacuum_vacuum_insert_threshold = 1, "
        "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
    )
    await connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    try:
        await connection.execute("SELECT pg_reload_conf()")
        at_work = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = $1::text::regclass"
        while not await connection.fetchval(at_work, table):
            pass
        yield
    finally:
        await connection.execute("ALTER SYSTEM RESET autovacuum_naptime")
        await connection.execute("SELECT pg_reload_conf()")


async def test_autovacuum_gives_way_to_detaching(as_owner: Database, connection: Connection) -> None:
    january = datetime(2026, 1, 15, tzinfo=UTC)
    await partitions.make_ahead(as_owner, january, 0)
    await clicks_on(connection, *(january + timedelta(milliseconds=number) for number in range(20_000)))
    async with autovacuum_at_work(connection, JANUARY):
        february = Month.of(january).plus(1)
        assert len([month async for month in partitions.drop_before(as_owner, february)]) == 1


async def test_autovacuum_gives_way_to_attaching(as_owner: Database, connection: Connection) -> None:
    long_ago = datetime(2020, 1, 15, tzinfo=UTC)
    await clicks_on(connection, *(long_ago + timedelta(milliseconds=number) for number in range(20_000)))
    async with autovacuum_at_work(connection, "hopcount.clicks_default"):
        assert len(await partitions.make_ahead(as_owner, LATER, 0)) == 1


def test_a_month_is_kept_for_an_hour_after_its_end() -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    assert partitions.newest_boundary(midnight + timedelta(minutes=59)) == Month(2026, 2)
    assert partitions.newest_boundary(midnight + timedelta(minutes=60)) == Month(2026, 3)


async def test_old_clicks_of_the_default_partition_go_in_chunks(as_owner: Database, connection: Connection) -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    await clicks_on(connection, *(start + timedelta(seconds=number) for number in range(tidy.CHUNK + 2)))
    last = first_id(start + timedelta(seconds=tidy.CHUNK + 1))
    assert [gone async for gone in tidy.purge_unpartitioned(as_owner, last)] == [tidy.CHUNK, 1]
    assert await connection.fetchval("SELECT count(*) FROM hopcount.clicks") == 1


async def click(connection: Connection, code: str, number: int) -> None:
    await connection.executemany(
        "INSERT INTO hopcount.clicks (id, short_code) VALUES ($1, $2)",
        [(uuid7(), code) for _ in range(number)],
    )


async def test_purging_goes_in_chunks_and_takes_one_link_only(database: Database, connection: Connection) -> None:
    await click(connection, "a", 2 * tidy.CHUNK + 1)
    await click(connection, "b", 3)
    assert [gone async for gone in tidy.purge(database, "a")] == [tidy.CHUNK, tidy.CHUNK, 1]
    assert await connection.fetch("SELECT short_code, count(*) FROM hopcount.clicks GROUP BY 1") == [("b", 3)]


async def test_the_clicks_of_a_link_that_is_there_are_never_purged(database: Database, connection: Connection) -> None:
    await Urls(database).create(New("a", "https://example.org/"))
    await click(connection, "a", 3)
    assert [gone async for gone in tidy.purge(database, "a")] == [0]
    assert await connection.fetchval("SELECT count(*) FROM hopcount.clicks") == 3


async def test_what_a_crash_left_behind_is_found(database: Database, connection: Connection) -> None:
    await Urls(database).create(New("c", "https://example.org/"))
    for code in ("a", "c", "z"):
        await click(connection, code, 2)
    assert [code async for code in tidy.orphaned_codes(database)] == ["a", "z"]


async def test_the_purger_works_off_what_was_deleted(database: Database, connection: Connection) -> None:
    await click(connection, "a", tidy.CHUNK + 1)
    await click(connection, "b", 1)
    async with Purger(database) as purger:
        purger.add("a")
        purger.add("b")
        while await connection.fetchval("SELECT count(*) FROM hopcount.clicks"):
            pass
