"""Fixtures: a deployed cluster for all tests, a database for each."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from service.settings import Settings
from service.store.connections import OWNER, Database
from tests.support.postgres import CloneDsns, TestCluster, cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestCluster]:
    with cluster() as running:
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
