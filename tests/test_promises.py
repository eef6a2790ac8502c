"""The promises about counting, from outside: what clients received against what the database holds."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle, repeat, takewhile
from typing import Any

import asyncpg
import httpx
import pytest

from service.store import partitions
from service.store.connections import Database
from service.store.keys import Keys
from service.store.partitions import Month
from service.store.urls import New, Urls
from tests.support.postgres import CloneDsns, TestCluster
from tests.support.server import Server, serving
from tests.support.traffic import Tally, drive
from tests.support.waiting import until

LINKS = "/api/v1/urls"
Connection = Any  # asyncpg.Connection


@pytest.fixture
def server(dsns: CloneDsns) -> Iterator[Server]:
    with serving(database_url=dsns.service, workers=2) as running:
        yield running


@pytest.fixture
async def links(database: Database) -> list[str]:
    codes = [f"link-{number}" for number in range(100)]
    await Urls(database).create_all([New(code, f"https://example.org/{code}") for code in codes])
    return codes


async def verify(connection: Connection, tally: Tally, codes: list[str], *, exact: bool) -> None:
    """302s received <= count <= requests sent, all equal if `exact`, and count = rows, for each link."""
    rows = await connection.fetch(
        "SELECT u.short_code, u.click_count, count(c.id) FROM hopcount.urls u "
        "LEFT JOIN hopcount.clicks c USING (short_code) GROUP BY u.id"
    )
    counted = {row[0]: row[1] for row in rows}
    logged = {row[0]: row[2] for row in rows}
    assert set(counted) == set(codes)
    assert counted == logged
    for code in codes:
        assert tally.redirected[code] <= counted[code] <= tally.sent[code], code
        assert tally.destinations[code] <= {f"https://example.org/{code}"}
    if exact:
        assert tally.statuses == {302: tally.sent.total()}
        assert counted == {code: tally.redirected[code] for code in codes}


async def test_every_redirect_is_counted_once(server: Server, links: list[str], connection: Connection) -> None:
    tally = await drive(server.port, links * 30)
    await verify(connection, tally, links, exact=True)


async def test_every_redirect_of_a_hot_link_is_counted_once(
    server: Server, links: list[str], connection: Connection
) -> None:
    tally = await drive(server.port, repeat("link-7", 3000))
    await verify(connection, tally, links, exact=True)


async def test_lost_connections_to_the_database_lose_and_double_nothing(
    server: Server, links: list[str], dsns: CloneDsns, connection: Connection
) -> None:
    """The statements they break are in doubt; each click is in once all the same, if its 302 came."""

    async def break_connections() -> None:
        broken = 0
        while broken < 40:
            broken += await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND usename = 'hopcount_app' AND state = 'active'"
            )

    tally = Tally()
    codes = Endless(links)
    driving = asyncio.create_task(drive(server.port, codes, tally=tally))
    await break_connections()
    codes.stop()
    await driving
    await verify(connection, tally, links, exact=False)
    assert tally.redirected.total() > 0
    assert set(tally.statuses) <= {302, 503}


class Endless:
    """The same codes over and over, until told to stop."""

    def __init__(self, codes: list[str]) -> None:
        self._codes = codes
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def __iter__(self) -> Iterator[str]:
        while not self._stopped:
            yield from self._codes


async def test_a_worker_that_is_killed_loses_nothing_that_was_answered(
    server: Server, links: list[str], connection: Connection
) -> None:
    tally = Tally()
    codes = Endless(links)
    driving = asyncio.create_task(drive(server.port, codes, tally=tally))
    victim = server.workers[0]
    await until(lambda: tally.redirected.total() >= 500)
    victim.kill()
    killed_at = tally.redirected.total()
    await until(lambda: tally.redirected.total() >= killed_at + 500)
    codes.stop()
    await driving
    await verify(connection, tally, links, exact=False)
    await until(lambda: len([other for other in server.workers if other != victim]) == 2)


async def test_clients_that_go_away_are_counted_at_most_once(
    server: Server, links: list[str], connection: Connection
) -> None:
    sent = 200
    for _ in range(sent):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /link-3 HTTP/1.1\r\nHost: test\r\n\r\n")
        await writer.drain()
        writer.transport.abort()
    tally = await drive(server.port, links)
    tally.sent["link-3"] += sent
    await verify(connection, tally, links, exact=False)


@asynccontextmanager
async def commits_that_wait(postgres: TestCluster) -> AsyncIterator[None]:
    """While a commit waits for a standby that does not exist."""
    session = await asyncpg.connect(postgres.maintenance)
    try:
        await session.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await session.execute("SELECT pg_reload_conf()")
        yield
    finally:
        await session.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await session.execute("SELECT pg_reload_conf()")
        await session.close()


async def test_old_months_go_without_a_failed_request(
    server: Server, links: list[str], connection: Connection, as_owner: Database
) -> None:
    this = Month.of(datetime.now(UTC))
    await partitions.make_ahead(as_owner, datetime(this.year - 1, this.month, 1, tzinfo=UTC), 11)
    tally, dropped = Tally(), False
    traffic = asyncio.create_task(drive(server.port, takewhile(lambda _: not dropped, cycle(links)), tally=tally))
    await until(lambda: tally.redirected.total() > len(links))
    assert len([month async for month in partitions.drop_before(as_owner, this)]) == 12
    dropped = True
    await verify(connection, await traffic, links, exact=True)


async def test_no_302_before_its_click_is_committed(
    postgres: TestCluster, dsns: CloneDsns, links: list[str], connection: Connection
) -> None:
    with serving(database_url=dsns.service, deadline=20) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with commits_that_wait(postgres):
            writer.write(b"GET /link-1 HTTP/1.1\r\nHost: test\r\n\r\n")
            answer = asyncio.create_task(reader.read(1))
            waiting = (
                "SELECT EXISTS (SELECT FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event = 'SyncRep')"
            )
            while not await connection.fetchval(waiting):
                assert not answer.done(), "the first byte came before a commit"
            done, _ = await asyncio.wait([answer], timeout=0.5)
            assert not done, "the first byte came while the commit was still waiting"
        assert await answer == b"H"
        writer.close()


@asynccontextmanager
async def clients(url: str, token: str, number: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """As many clients, each on a connection of its own: the kernel spreads them over the workers."""
    made = [
        httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )
        for _ in range(number)
    ]
    try:
        yield made
    finally:
        for client in made:
            await client.aclose()


async def test_no_answer_is_stale(server: Server, database: Database, as_owner: Database) -> None:
    """After a change or delete has answered, no request on any connection sees the state before it."""
    token = await Keys(as_owner).create("tests", "write")
    async with clients(server.url, token, 12) as (writer, *readers):
        for turn in range(60):
            destination = f"https://example.org/{turn}"
            while (await writer.put(f"{LINKS}/mine", json={"original_url": destination})).status_code == 409:
                pass  # the clicks of the link before are still going
            seen = await asyncio.gather(*(reader.get("/mine") for reader in readers))
            assert {answer.headers["location"] for answer in seen} == {destination}
            found = await asyncio.gather(*(reader.get(f"{LINKS}/mine") for reader in readers))
            assert {answer.json()["click_count"] for answer in found} == {len(readers)}
            await writer.patch(f"{LINKS}/mine", json={"original_url": destination + "/changed"})
            seen = await asyncio.gather(*(reader.get("/mine") for reader in readers))
            assert {answer.headers["location"] for answer in seen} == {destination + "/changed"}
            await writer.delete(f"{LINKS}/mine")
            seen = await asyncio.gather(*(reader.get("/mine") for reader in readers))
            assert {answer.status_code for answer in seen} == {404}


async def test_a_database_that_stalls_gives_503_in_time_and_recovers_by_itself(
    dsns: CloneDsns, links: list[str], connection: Connection
) -> None:
    with serving(database_url=dsns.service, workers=2, deadline=1, queue_limit=50) as server:
        blocker = await asyncpg.connect(dsns.superuser)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE hopcount.urls IN ACCESS EXCLUSIVE MODE")
            stalled = await drive(server.port, links * 3)
            assert set(stalled.statuses) == {503}
            async with httpx.AsyncClient(base_url=server.url) as client:
                answer = await client.get("/link-1")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.elapsed.total_seconds() < 2
        await blocker.close()
        recovered = await drive(server.port, links * 3)
        assert recovered.statuses[302] > 0
        tally = Tally()
        tally.sent = stalled.sent + recovered.sent
        tally.sent["link-1"] += 1
        tally.redirected = recovered.redirected
        await verify(connection, tally, links, exact=False)


async def test_a_locked_link_delays_no_other(server: Server, links: list[str], connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("SELECT FROM hopcount.urls WHERE short_code = 'link-5' FOR UPDATE")
        held = asyncio.create_task(drive(server.port, repeat("link-5", 3), connections=3))
        others = await drive(server.port, [code for code in links if code != "link-5"] * 5)
        assert others.statuses == {302: 99 * 5}
        assert not held.done()
    assert (await held).statuses.total() == 3
