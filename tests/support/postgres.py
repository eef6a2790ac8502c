"""The PostgreSQL of the tests: one embedded cluster, a database of its own for each test."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg

from service import embedded
from service.embedded import Embedded
from service.postgres import SUPERUSER
from service.store import logins


class CloneDsns:
    """How to come into one database: as the service, as its administrator, as superuser."""

    def __init__(self, running: Embedded, name: str) -> None:
        self.name = name
        self.service = running.dsn(logins.SERVICE, name)
        self.administrator = running.dsn(logins.ADMINISTRATOR, name)
        self.superuser = running.dsn(SUPERUSER, name)


class TestCluster:
    """A cluster whose database `hopcount` was deployed by Sqitch and is cloned for each test."""

    __test__ = False

    def __init__(self, running: Embedded) -> None:
        self.running = running
        self._numbers = count(1)
        self.maintenance = running.dsn(SUPERUSER, "postgres")

    @contextmanager
    def clone(self, template: str = logins.DATABASE) -> Iterator[CloneDsns]:
        name = f"test_{next(self._numbers)}"
        owner = logins.ADMINISTRATOR
        execute(self.maintenance, f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
        try:
            yield CloneDsns(self.running, name)
        finally:
            execute(self.maintenance, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def cluster() -> Iterator[TestCluster]:
    with reachable_dir() as place, embedded.running(place / "data", connections=150) as running:
        running.deploy()
        yield TestCluster(running)


@contextmanager
def reachable_dir() -> Iterator[Path]:
    """A fresh directory that PostgreSQL's account can pass through (pytest's own are closed to it)."""
    with tempfile.TemporaryDirectory(prefix="hopcount-test-") as place:
        Path(place).chmod(0o711)  # to pass through, not to look in
        yield Path(place)


def execute(dsn: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())


def fetch(dsn: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    return asyncio.run(run())
