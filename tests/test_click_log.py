"""The click log and the series of one link: what they hold, and what they read."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.settings import Settings
from service.store import click_log as store
from service.store import partitions
from service.store.click_log import ClickLog
from service.store.connections import Database
from service.store.errors import TooMuch
from service.store.ids import first_id, instant_of
from service.store.urls import NEWEST, New, Urls
from tests.support.postgres import CloneDsns

Connection = Any  # asyncpg.Connection

START = datetime(2026, 3, 31, 23, 0, tzinfo=UTC)
OLDEST = UUID(int=0)


@pytest.fixture
async def log(database: Database) -> ClickLog:
    await Urls(database).create_all([New(code, "https://example.org/") for code in ("a", "b", "idle")])
    return ClickLog(database, Settings().deadline)


async def click(connection: Connection, code: str, *instants: datetime) -> list[UUID]:
    """Clicks of the past, as the service would have recorded them."""
    ids = [UUID(int=first_id(instant).int + (ord(code[0]) << 32) + number) for number, instant in enumerate(instants)]
    await connection.executemany(
        "INSERT INTO hopcount.clicks (id, short_code) VALUES ($1, $2)", [(made, code) for made in ids]
    )
    return ids


async def seconds_apart(connection: Connection, code: str, clicks: int) -> list[UUID]:
    return await click(connection, code, *(START + timedelta(seconds=number) for number in range(clicks)))


def test_an_id_is_the_first_of_its_instant() -> None:
    instant = datetime(2026, 3, 31, 23, 0, 0, 7000, tzinfo=UTC)
    assert instant_of(first_id(instant)) == instant
    assert first_id(instant).int & (2**80 - 1) == 0
    assert instant_of(first_id(instant + timedelta(microseconds=1))) == instant + timedelta(milliseconds=1)
    assert first_id(datetime(1, 1, 1, tzinfo=UTC)) == OLDEST
    assert first_id(datetime(9999, 12, 31, tzinfo=UTC)) < NEWEST


async def test_the_log_is_newest_first_and_of_this_link_only(log: ClickLog, connection: Connection) -> None:
    ids = await seconds_apart(connection, "a", 10)
    await seconds_apart(connection, "b", 5)
    page = await log.page("a", 4, OLDEST, NEWEST)
    assert page is not None
    assert [found.id for found in page] == ids[:-5:-1]
    assert page[0].clicked_at == START + timedelta(seconds=9)
    rest = await log.page("a", 100, OLDEST, page[-1].id)
    assert rest is not None
    assert [found.id for found in rest] == ids[-5::-1]


async def test_no_clicks_and_no_link_are_told_apart(log: ClickLog) -> None:
    assert await log.page("idle", 10, OLDEST, NEWEST) == []
    assert await log.page("missing", 10, OLDEST, NEWEST) is None
    bounds = [START, START + timedelta(days=1), START + timedelta(days=2)]
    assert await log.series("idle", bounds) == [0, 0]
    assert await log.series("missing", bounds) is None


async def test_the_series_counts_each_click_once_and_the_edges_exactly(log: ClickLog, connection: Connection) -> None:
    bounds = [START + timedelta(minutes=30 * number) for number in range(5)]
    edges = [instant - step for instant in bounds for step in (timedelta(milliseconds=1), timedelta(0))]
    await click(connection, "a", *edges)
    await click(connection, "b", *edges)
    assert await log.series("a", bounds) == [2, 2, 2, 2]


@pytest.fixture
async def months(as_owner: Database) -> None:
    await partitions.make_ahead(as_owner, START - timedelta(days=90), 6)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("query", ["log", "series"])
async def test_only_the_clicks_of_the_link_in_the_range_are_read(
    dsns: CloneDsns, log: ClickLog, connection: Connection, months: None, mode: str, query: str
) -> None:
    for code in ("a", "b"):
        await seconds_apart(connection, code, 7200)  # the months meet in the middle
    await connection.execute("VACUUM ANALYZE hopcount.clicks")
    first, before = first_id(START + timedelta(minutes=50)), first_id(START + timedelta(minutes=70))
    sql, types, given = {
        "log": (store._PAGE, "text, uuid, uuid, bigint", f"'a', '{first}', '{before}', 5000"),
        "series": (store._SERIES, "text, uuid[], uuid[]", f"'a', '{{{first}}}', '{{{before}}}'"),
    }[query]
    asked = await asyncpg.connect(dsns.direct, server_settings={"plan_cache_mode": mode})
    try:
        await asked.execute(f"PREPARE query ({types}) AS {sql}")
        text = await asked.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE query ({given})")
    finally:
        await asked.close()
    plan = list(nodes(json.loads(text)[0]["Plan"]))
    reads = [node for node in plan if node.get("Relation Name", "").startswith("clicks") and node["Actual Loops"]]
    assert all("short_code" in node["Index Cond"] and "id <" in node["Index Cond"] for node in reads)
    assert not [node for node in reads if node.get("Rows Removed by Filter")]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in reads) == 1200
    assert {node["Relation Name"] for node in reads} == {"clicks_2026_03", "clicks_2026_04"}


async def test_too_many_clicks_are_refused_with_what_can_be_counted(
    dsns: CloneDsns, log: ClickLog, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await seconds_apart(connection, "a", 10)
    end = START + timedelta(hours=1)
    monkeypatch.setattr(log, "sure", 4)
    assert await log.countable_from("a", START, end) == instant_of(ids[-5]) + timedelta(milliseconds=1)
    assert await log.series("a", [instant_of(ids[-5]) + timedelta(milliseconds=1), end]) == [4]
    assert await log.countable_from("a", START + timedelta(seconds=6), end) is None
    async with Database(dsns.service, 1, 10.0, statement_timeout=0.2) as hurried:
        await connection.execute("BEGIN; LOCK TABLE hopcount.clicks IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TooMuch):
            await ClickLog(hurried, 0.2).series("a", [START, end])
        await connection.execute("ROLLBACK")
