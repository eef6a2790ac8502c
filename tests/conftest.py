"""Fixtures: a deployed cluster for all tests, a database for each."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from service.settings import Settings
from service.store.connections import OWNER, Database
from tests.support.docker import cluster_in_docker
from tests.support.postgres import CloneDsns, TestCluster, cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres", choices=["embedded", "docker"], default="embedded", help="the PostgreSQL to test against"
    )
    parser.addoption("--pgbouncer", action="store_true", help="with --postgres docker: the service goes through it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Against another PostgreSQL, only what uses it: the other tests would do the same again."""
    if config.getoption("--postgres") == "docker":
        others = [item for item in items if "postgres" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[TestCluster]:
    pgbouncer = pytestconfig.getoption("--pgbouncer")
    if pytestconfig.getoption("--postgres") == "docker":
        chosen = cluster_in_docker(pgbouncer=pgbouncer)
    elif pgbouncer:
        raise pytest.UsageError("--pgbouncer needs --postgres docker")
    else:
        chosen = cluster()
    with chosen as running:
        yield running


@pytest.fixture
def dsns(postgres: TestCluster) -> Iterator[CloneDsns]:
    """A database of the test's own."""
    with postgres.clone() as clone:
        yield clone


@pytest.fixture
async def database(dsns: CloneDsns) -> AsyncIterator[Database]:
    """The test's database as the service has it."""
    async with Database.of_worker(Settings(), dsns.service) as opened:
        yield opened


@pytest.fixture
async def as_owner(dsns: CloneDsns) -> AsyncIterator[Database]:
    """The test's database as the owner of the schema."""
    async with Database(dsns.administrator, 4, 10.0, role=OWNER) as opened:
        yield opened


@pytest.fixture
async def connection(dsns: CloneDsns) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A superuser's session, to look from outside."""
    opened = await asyncpg.connect(dsns.superuser)
    yield opened
    await opened.close()
