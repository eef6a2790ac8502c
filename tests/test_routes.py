"""How the database is reached: directly, or through a pooler in transaction mode."""

import pytest

from service.settings import Settings
from service.store import schema
from service.store.connections import Database, Route
from service.store.errors import Unavailable
from service.store.urls import New, Urls
from tests.support.postgres import CloneDsns


def test_a_url_without_a_pool_mode_is_left_as_it_is() -> None:
    url = "postgresql://app:p%40ss@one:5432,two/hopcount?target_session_attrs=primary&passfile=/a%20b"
    assert Route.to(url, {"jit": "off"}) == Route(url, {"jit": "off"}, pooled=False)


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("postgresql://app@pool/hopcount?pool_mode=transaction", "postgresql://app@pool/hopcount"),
        (
            "postgresql://app:p%40ss@one,two/hopcount?host=/run&pool_mode=transaction&passfile=/a%20b",
            "postgresql://app:p%40ss@one,two/hopcount?host=%2Frun&passfile=%2Fa%20b",
        ),
    ],
)
def test_a_pool_mode_is_for_us_and_not_for_postgresql(url: str, without: str) -> None:
    route = Route.to(url)
    assert (route.dsn, route.pooled) == (without, True)
    assert route.options["statement_cache_size"] == 0


@pytest.mark.parametrize("mode", ["session", "statement", "", "transaction&pool_mode=session"])
def test_another_pool_mode_is_refused(mode: str) -> None:
    with pytest.raises(Unavailable, match="pool_mode is transaction, or is left out"):
        Route.to(f"postgresql://app@pool/hopcount?pool_mode={mode}")


async def test_settings_hold_inside_a_transaction_and_nothing_of_them_stays(dsns: CloneDsns) -> None:
    route = Route.to(dsns.transactional, {"statement_timeout": "1234ms", "jit": "off"})
    connection = await route.connect(10.0)
    try:
        before = await connection.fetchval("SHOW statement_timeout")
        async with route.settled(connection):
            assert await connection.fetchval("SHOW statement_timeout") == "1234ms"
            assert await connection.fetchval("SHOW jit") == "off"
        assert await connection.fetchval("SHOW statement_timeout") == before
        assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
    finally:
        await connection.close()


async def test_what_the_service_does_leaves_no_prepared_statement_to_others(dsns: CloneDsns) -> None:
    async with Database(dsns.transactional, 1, 10.0) as database:
        await schema.check(database)
        urls = Urls(database)
        await urls.create_all([New(f"n{number}", "https://example.org/") for number in range(1500)])
        assert len([link async for link in urls.every()]) == 1500
        assert len(await urls.page(10, search="https://")) == 10
        assert await database.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0


async def test_a_failure_is_rolled_back_and_the_connection_can_be_used_again(dsns: CloneDsns) -> None:
    async with Database.of_worker(Settings(), dsns.transactional) as database:
        with pytest.raises(Unavailable, match="DivisionByZero"):
            await database.fetchval("SELECT 1 / 0")
        assert await database.fetchval("SELECT 1") == 1
        assert database.size == 1
