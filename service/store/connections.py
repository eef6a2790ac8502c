"""How connections are made, and what their failures mean."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from service.settings import Settings
from service.store.errors import InDoubt, RolledBack, RowLocked, StoreError, Unavailable

Connection = asyncpg.Connection[asyncpg.Record]

OWNER = "hopcount_owner"

_LOST = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    OSError,
    TimeoutError,
)
_ROLLED_BACK = (asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError, asyncpg.SerializationError)

CONNECTION_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What asyncpg raises, a TimeoutError (an OSError) included."""


def translated(error: BaseException) -> StoreError:
    """What `error`, raised by asyncpg for a statement that was sent, means."""
    reason = str(error) or type(error).__name__
    if isinstance(error, _LOST):
        return InDoubt(reason)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return RowLocked(reason)
    if isinstance(error, _ROLLED_BACK):
        return RolledBack(reason)
    return Unavailable(reason)


async def connect(dsn: str, timeout: float, **server_settings: str) -> Connection:
    """One connection, which the caller closes. Raises Unavailable."""
    try:
        return await asyncpg.connect(
            dsn,
            timeout=timeout,
            # Prepared once and for all: by default asyncpg forgets a statement after five minutes.
            max_cached_statement_lifetime=0,
            server_settings={"application_name": "hopcount", **server_settings},
        )
    except (*CONNECTION_FAILURES, ValueError) as error:
        raise Unavailable(f"cannot connect to PostgreSQL: {error or type(error).__name__}") from error


def milliseconds(seconds: float) -> str:
    """A duration as PostgreSQL's settings take it."""
    return f"{max(1, round(seconds * 1000))}ms"


class Database:
    """A pool of connections for everything but counting clicks.

    It connects when it is first needed, so that a process can start, and answer 503, before its database
    does. Every method raises Unavailable, or another StoreError where its docstring says so.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool, waited for no longer than the timeout."""
        try:
            async with self._pool.acquire(timeout=self._timeout) as connection:
                yield connection  # type: ignore[misc]  # the pool's proxy has all of its methods
        except CONNECTION_FAILURES as error:
            raise Unavailable(str(error) or type(error).__name__) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that is committed at the end, or rolled back by an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(sql, *arguments)


async def _keep(connection: Connection) -> None:
    """Nothing here leaves anything behind in a session, so a release needs no round trip to clean it."""


@asynccontextmanager
async def database(
    dsn: str, size: int, timeout: float, *, statement_timeout: float = 0, role: str | None = None
) -> AsyncIterator[Database]:
    """A Database of at most `size` connections for the time of the context.

    `timeout` (seconds) bounds connecting and waiting for a connection, `statement_timeout` each statement
    (0: not at all); `role` is assumed by every connection.
    """
    server_settings = {"application_name": "hopcount", "statement_timeout": milliseconds(statement_timeout)}
    if not statement_timeout:
        del server_settings["statement_timeout"]
    if role is not None:
        server_settings["role"] = role
    try:
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=size,
            # By default a connection is thrown away after 50,000 statements: a hiccup for nothing.
            max_queries=2**62,
            timeout=timeout,
            command_timeout=statement_timeout * 1.5 or None,
            max_cached_statement_lifetime=0,
            reset=_keep,
            server_settings=server_settings,
        )
    except ValueError as error:
        raise Unavailable(f"the database URL is not usable: {error}") from error
    try:
        yield Database(pool, timeout)
    finally:
        try:
            await asyncio.wait_for(pool.close(), timeout)
        except TimeoutError:
            pool.terminate()


@asynccontextmanager
async def service_database(settings: Settings, dsn: str) -> AsyncIterator[Database]:
    """The database as a worker uses it: bounded by the deadline throughout."""
    async with database(
        dsn, settings.pool_size, settings.deadline, statement_timeout=settings.deadline
    ) as opened:
        yield opened
