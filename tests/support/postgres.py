"""The PostgreSQL of the tests: one cluster, a database of its own for each test."""

import asyncio
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

import asyncpg

from service import embedded
from service.embedded import Embedded
from service.postgres import SUPERUSER
from service.store import logins, partitions
from service.store.connections import OWNER, Database
from tests.support.server import environment

ROOT = Path(__file__).parent.parent.parent
CONNECTIONS = 150

Signal = Literal["STOP", "CONT"]


class Home(Protocol):
    """Where a cluster runs."""

    def dsn(self, login: str, database: str) -> str:
        """Into a database, directly."""

    def signal(self, pid: int, name: Signal) -> None:
        """To one of its processes, by the number that PostgreSQL knows it by."""


class HereHome:
    """The embedded PostgreSQL."""

    def __init__(self, running: Embedded) -> None:
        self.dsn = running.dsn

    def signal(self, pid: int, name: Signal) -> None:
        os.kill(pid, signal.Signals[f"SIG{name}"])


class CloneDsns:
    """How to come into one database: as the service, as its administrator, as superuser."""

    def __init__(self, home: Home, name: str, service: str | None) -> None:
        self.name = name
        self.direct = home.dsn(logins.SERVICE, name)
        """As the service's login, for those who want a session."""
        self.service = self.direct if service is None else service
        """As the service is told to come: through PgBouncer, if the tests are."""
        self.transactional = f"{self.direct}{'&' if '?' in self.direct else '?'}pool_mode=transaction"
        """As if there were a pooler: what the service sends through one, without it."""
        self.administrator = home.dsn(logins.ADMINISTRATOR, name)
        self.superuser = home.dsn(SUPERUSER, name)


class TestCluster:
    """A cluster whose database `hopcount` was deployed by Sqitch and is cloned for each test."""

    __test__ = False

    def __init__(self, home: Home, pooler: str | None = None) -> None:
        """`pooler` is what the service's URL begins with, up to the name of the database."""
        self.signal = home.signal
        self.maintenance = home.dsn(SUPERUSER, "postgres")
        self._home = home
        self._pooler = pooler
        self._numbers = count(1)

    @contextmanager
    def clone(self, template: str = logins.DATABASE) -> Iterator[CloneDsns]:
        name = f"test_{next(self._numbers)}"
        owner = logins.ADMINISTRATOR
        execute(self.maintenance, f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
        try:
            pooled = None if self._pooler is None else f"{self._pooler}/{name}?pool_mode=transaction"
            yield CloneDsns(self._home, name, pooled)
        finally:
            execute(self.maintenance, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def cluster() -> Iterator[TestCluster]:
    """The embedded PostgreSQL."""
    with reachable_dir() as place, embedded.running(place / "data", connections=CONNECTIONS) as running:
        running.deploy()
        yield TestCluster(HereHome(running))


def passwords() -> dict[str, str]:
    """One for each login."""
    return {login: secrets.token_hex(16) for login in (SUPERUSER, logins.ADMINISTRATOR, logins.SERVICE)}


def deploy(home: Home, chosen: dict[str, str], **server: str) -> None:
    """Make the logins and the schema on a cluster that has neither; `server` is where it is, as PG*."""
    asyncio.run(logins.create(home.dsn(SUPERUSER, "postgres"), chosen))
    administrator = home.dsn(logins.ADMINISTRATOR, logins.DATABASE)
    subprocess.run(
        ["sqitch", "deploy", "--verify", "--target", "production"],
        cwd=ROOT / "sqitch",
        env=environment()
        | {"SQITCH_FULLNAME": "Tests", "SQITCH_EMAIL": "tests@example.org"}
        | {"PGUSER": logins.ADMINISTRATOR, "PGPASSWORD": chosen[logins.ADMINISTRATOR]}
        | server,
        stdout=subprocess.DEVNULL,
        check=True,
    )

    async def finish() -> None:
        await logins.grant_service(administrator)
        async with Database(administrator, 1, 10.0, role=OWNER) as database:
            await partitions.make_ahead(database, datetime.now(UTC), embedded.MONTHS_AHEAD)

    asyncio.run(finish())


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
