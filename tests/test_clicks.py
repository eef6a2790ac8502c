"""The counting statement against a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from uuid_utils import UUID, uuid7

from service.settings import Settings
from service.store.clicks import ClickWriter, Form
from service.store.connections import Database
from service.store.errors import InDoubt, RowLocked, StoreError, Unavailable
from service.store.urls import New, Urls
from tests.support.postgres import CloneDsns, TestCluster

Connection = Any  # asyncpg.Connection

CODES = ["a", "B", "b", "c-1", "_d"]


@pytest.fixture(params=["session", "transaction"])
async def writer(dsns: CloneDsns, request: pytest.FixtureRequest) -> AsyncIterator[ClickWriter]:
    url = dsns.service if request.param == "session" else dsns.transactional
    async with ClickWriter(url, Settings(lock_timeout=0.1)) as made:
        yield made


@pytest.fixture
async def links(database: Database) -> list[str]:
    await Urls(database).create_all([New(code, f"https://example.org/{code}") for code in CODES])
    return CODES


async def counts(connection: Connection) -> dict[str, tuple[int, int]]:
    """By code: the count of the link and its rows."""
    rows = await connection.fetch(
        "SELECT short_code, click_count, "
        "(SELECT count(*) FROM hopcount.clicks c WHERE c.short_code = u.short_code) FROM hopcount.urls u"
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def ids(number: int) -> list[UUID]:
    return [uuid7() for _ in range(number)]


@pytest.mark.parametrize("form", Form)
async def test_each_form_counts_and_logs_every_click_of_a_batch(
    form: Form, writer: ClickWriter, links: list[str], connection: Connection
) -> None:
    batch = {code: ids(place) for place, code in enumerate(links, start=1)}
    counted = await writer.count(batch | {"missing": ids(1)}, form)
    assert counted.destinations == {code: f"https://example.org/{code}" for code in links}
    assert counted.busy == []
    assert await counts(connection) == {code: (place, place) for place, code in enumerate(links, start=1)}
    logged = await connection.fetch("SELECT id, short_code FROM hopcount.clicks")
    assert {(row[0].int, row[1]) for row in logged} == {(i.int, code) for code in links for i in batch[code]}


@pytest.mark.parametrize("form", [Form.AGAIN, Form.AGAIN_AROUND_LOCKS])
async def test_the_careful_forms_count_only_what_is_not_in_yet(
    form: Form, writer: ClickWriter, links: list[str], connection: Connection
) -> None:
    first, second = ids(2), ids(3)
    await writer.count({"a": first}, Form.ONCE)
    for _ in range(2):
        counted = await writer.count({"a": first + second, "b": second[:0]}, form)
        assert counted.destinations["a"] == "https://example.org/a"
    assert (await counts(connection))["a"] == (5, 5)


async def test_clicks_land_in_the_partition_of_their_month(
    writer: ClickWriter, links: list[str], connection: Connection
) -> None:
    click = uuid7()
    await writer.count({"a": [click, UUID(int=0)]}, Form.ONCE)
    places = dict(await connection.fetch("SELECT id, tableoid::regclass::text FROM hopcount.clicks"))
    month = await connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
    assert {key.int: place for key, place in places.items()} == {
        click.int: f"hopcount.clicks_{month}",
        0: "hopcount.clicks_default",
    }


async def test_a_locked_row_fails_the_quick_form_and_is_gone_around_by_the_careful_one(
    writer: ClickWriter, links: list[str], connection: Connection
) -> None:
    async with connection.transaction():
        await connection.execute("SELECT FROM hopcount.urls WHERE short_code = 'b' FOR UPDATE")
        with pytest.raises(RowLocked):
            await writer.count({"a": ids(1), "b": ids(1)}, Form.ONCE)
        counted = await writer.count({"a": ids(1), "b": ids(1), "missing": ids(1)}, Form.AGAIN_AROUND_LOCKS)
        assert (set(counted.destinations), counted.busy) == ({"a"}, ["b"])
        with pytest.raises(RowLocked):
            await writer.count({"b": ids(1)}, Form.AGAIN)
    found = await counts(connection)
    assert (found["a"], found["b"]) == ((1, 1), (0, 0))


async def test_a_connection_lost_in_a_statement_leaves_it_in_doubt_and_it_is_made_again(
    dsns: CloneDsns, links: list[str], connection: Connection
) -> None:
    async with ClickWriter(dsns.service, Settings(lock_timeout=1.9)) as writer, connection.transaction():
        await connection.execute("SELECT FROM hopcount.urls WHERE short_code = 'b' FOR UPDATE")
        click = ids(1)
        statement = asyncio.create_task(writer.count({"b": click}, Form.ONCE))
        await terminate_the_waiting(dsns)
        with pytest.raises(InDoubt):
            await statement
        counted = await writer.count({"a": ids(1)}, Form.AGAIN)
        assert counted.destinations
    async with ClickWriter(dsns.service, Settings()) as writer:
        await writer.count({"b": click}, Form.AGAIN)
    assert (await counts(connection))["b"] == (1, 1)


async def terminate_the_waiting(dsns: CloneDsns) -> None:
    """Wait until a session waits for a lock, and end it."""
    other = await asyncpg.connect(dsns.superuser)
    try:
        while not await other.fetchval(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            pass
    finally:
        await other.close()


async def test_a_server_that_says_nothing_leaves_the_statement_in_doubt(
    postgres: TestCluster, dsns: CloneDsns, links: list[str], connection: Connection
) -> None:
    settings = Settings(deadline=0.3, lock_timeout=0.1)
    async with ClickWriter(dsns.service, settings) as writer, AsyncExitStack() as stack:
        await writer.count({"a": ids(1)}, Form.ONCE)
        pid = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND usename = 'hopcount_app' ORDER BY state_change DESC LIMIT 1"
        )
        stop(postgres, pid, stack)
        click = ids(1)
        with pytest.raises(InDoubt):
            await writer.count({"a": click}, Form.ONCE)
        await stack.aclose()
        # Whether the lost statement was carried out or not, the careful form makes it one click.
        await writer.count({"a": click}, Form.AGAIN)
    assert (await counts(connection))["a"] == (2, 2)


def stop(postgres: TestCluster, pid: int, stack: AsyncExitStack) -> None:
    postgres.signal(pid, "STOP")
    stack.callback(postgres.signal, pid, "CONT")


async def test_a_database_that_is_away_is_unavailable() -> None:
    async with ClickWriter("postgresql://nobody@127.0.0.1:1/nowhere", Settings()) as writer:
        with pytest.raises(Unavailable, match="cannot connect"):
            await writer.count({"a": ids(1)}, Form.ONCE)


async def test_a_handshake_that_makes_no_sense_is_an_unavailable_database() -> None:
    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"R\0\0\0\x06\0\0")  # an answer to the authentication that ends too early
        await reader.read()
        writer.close()

    server = await asyncio.start_server(welcome, "127.0.0.1")
    async with server:
        dsn = f"postgresql://x:x@127.0.0.1:{server.sockets[0].getsockname()[1]}/x?sslmode=disable"
        async with ClickWriter(dsn, Settings()) as writer:
            with pytest.raises(Unavailable, match="cannot connect"):
                await writer.count({"a": ids(1)}, Form.ONCE)
        async with Database.of_worker(Settings(), dsn) as database:
            with pytest.raises(Unavailable, match="cannot connect"):
                await database.fetchval("SELECT 1")


@pytest.mark.parametrize("links_in_all", [2, 5, 100, 20_000])
async def test_the_plan_takes_the_rows_in_the_order_of_their_codes(
    links_in_all: int, writer: ClickWriter, connection: Connection
) -> None:
    """Whatever the statistics say: from the sorted input into the index, or two workers would deadlock."""
    await connection.execute(
        "INSERT INTO hopcount.urls (id, short_code, original_url) "
        "SELECT gen_random_uuid(), 'n' || n, 'https://example.org/' FROM generate_series(1, $1) n",
        links_in_all,
    )
    await connection.execute("ANALYZE hopcount.urls")
    await writer.count({"a": ids(1)}, Form.ONCE)
    session = writer._connection
    assert session is not None
    async with writer._route.settled(session):
        await session.execute(f"PREPARE quick AS {Form.ONCE.value}")
        plan = await session.fetch(
            "EXPLAIN (COSTS OFF) EXECUTE quick (ARRAY['a'], ARRAY[1], ARRAY[1], ARRAY[gen_random_uuid()])"
        )
    # A nested loop takes the rows of its first input in their order, and those are sorted.
    nodes = [line.strip(" ->") for (line,) in plan if "Filter" not in line]
    update = nodes.index("Update on urls u")
    assert nodes[update + 1] == "Nested Loop", plan
    assert nodes[update + 2].startswith("Function Scan on"), plan
    assert nodes[update + 3].startswith("Index Scan using urls_short_code_key"), plan


async def test_two_writers_over_the_same_links_neither_deadlock_nor_lose_a_click(
    dsns: CloneDsns, links: list[str], connection: Connection
) -> None:
    rounds = 150

    async def work(writer: ClickWriter, codes: list[str], failures: list[StoreError]) -> None:
        for _ in range(rounds):
            try:
                await writer.count({code: ids(1) for code in codes}, Form.ONCE)
            except StoreError as error:
                failures.append(error)

    failures: list[StoreError] = []
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(ClickWriter(dsns.service, Settings())) for _ in range(4)]
        orders = [links, links[::-1], sorted(links), links[2:] + links[:2]]
        await asyncio.gather(*(work(w, codes, failures) for w, codes in zip(writers, orders, strict=True)))
    assert failures == []
    assert await counts(connection) == dict.fromkeys(links, (4 * rounds, 4 * rounds))
