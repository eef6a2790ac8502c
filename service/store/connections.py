"""How connections are made, and what their failures mean."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import asyncpg
import msgspec

from service.settings import Settings
from service.store.errors import InDoubt, RolledBack, RowLocked, StoreError, TooMuch, Unavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

OWNER = "hopcount_owner"
APPLICATION = "hopcount"

_LOST = (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
_ROLLED_BACK = (asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError, asyncpg.SerializationError)

_OF_WORKER = MappingProxyType(
    {
        # The queries are written so that one plan serves all values; the tests read those plans.
        "plan_cache_mode": "force_generic_plan",
        # A call takes one processor at most, and none from the redirects to start helpers.
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
    }
)

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What asyncpg raises when PostgreSQL says no or cannot be reached; a TimeoutError is an OSError."""


def translated(error: Exception) -> StoreError:
    """What `error`, raised by asyncpg for a statement that was sent, means for its outcome."""
    reason = _reason(error)
    if not isinstance(error, asyncpg.PostgresError) or isinstance(error, _LOST):
        return InDoubt(reason)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return RowLocked(reason)
    if isinstance(error, _ROLLED_BACK):
        return RolledBack(reason)
    return Unavailable(reason)


def _reason(error: Exception) -> str:
    """What `error` says, without the values that it may quote: they could be destinations, and this is logged."""
    if isinstance(error, asyncpg.DataError):
        return type(error).__name__
    if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error):
        return f"{error} (through PgBouncer, the database URL ends in ?pool_mode=transaction)"
    if isinstance(error, asyncpg.PostgresError):
        return str(error.args[0])  # without its DETAIL
    if isinstance(error, ValueError) and not isinstance(error, asyncpg.ClientConfigurationError):
        # An argument that asyncpg could not send.
        return type(error).__name__
    if isinstance(error, TimeoutError):
        return "no answer from PostgreSQL in time"
    return str(error) or type(error).__name__


@contextmanager
def too_much_if_cancelled() -> Iterator[None]:
    """For a query whose work grows with what is asked for: raises TooMuch where its time ran out."""
    try:
        yield
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.QueryCanceledError):
            raise TooMuch from error
        raise


class Route(msgspec.Struct, frozen=True):
    """How a database is reached, and the settings that hold in its sessions."""

    dsn: str
    settings: Mapping[str, str]
    pooled: bool
    """Through a pooler in transaction mode: between two transactions nothing of a session is kept."""

    @classmethod
    def to(cls, url: str, settings: Mapping[str, str] = MappingProxyType({})) -> Self:
        """The way that `url` names; with `pool_mode=transaction` in its query, through a pooler.

        Raises Unavailable.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise Unavailable(f"the database URL is not usable: {error}") from error
        query = parse_qsl(parts.query, keep_blank_values=True)
        modes = {value for name, value in query if name == "pool_mode"}
        if modes - {"transaction"}:
            raise Unavailable("the database URL is not usable: its pool_mode is transaction, or is left out")
        rest = urlencode([pair for pair in query if pair[0] != "pool_mode"], quote_via=quote)
        return cls(parts._replace(query=rest).geturl() if modes else url, settings, bool(modes))

    @property
    def options(self) -> dict[str, Any]:
        """What asyncpg has to know, to connect."""
        ours = {"application_name": APPLICATION}
        if self.pooled:
            # A prepared statement would be on one server's connection, and the next transaction on another.
            return {"dsn": self.dsn, "statement_cache_size": 0, "server_settings": ours}
        # Prepared once and for all: by default asyncpg forgets a statement after five minutes.
        return {"dsn": self.dsn, "max_cached_statement_lifetime": 0, "server_settings": {**ours, **self.settings}}

    @asynccontextmanager
    async def settled(self, connection: Connection) -> AsyncIterator[None]:
        """Inside, the settings hold for `connection`. Through a pooler it is a transaction, committed at the end."""
        if not self.pooled:
            yield
            return
        async with connection.transaction():
            for_this_one = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in self.settings.items())
            await connection.execute(for_this_one or "SELECT")
            yield

    async def connect(self, timeout: float, **options: Any) -> Connection:
        """One connection, which the caller closes. Raises Unavailable."""
        return await _connect(timeout=timeout, **self.options, **options)


async def _connect(*arguments: Any, **options: Any) -> Connection:
    """As `asyncpg.connect`. Raises Unavailable for whatever is in the way: a handshake that is not PostgreSQL's,
    of a proxy in a failover for example, makes asyncpg raise almost anything."""
    try:
        return await asyncpg.connect(*arguments, **options)
    except Exception as error:
        raise Unavailable(f"cannot connect to PostgreSQL: {_reason(error)}") from error


def milliseconds(seconds: float) -> str:
    """A duration as PostgreSQL's settings take it."""
    return f"{max(1, round(seconds * 1000))}ms"


class Database:
    """A pool of connections for everything but counting clicks: a context, in which it can be used.

    It connects when it is first needed, so that a process can start, and answer 503, before its database
    does. Every method raises Unavailable.
    """

    def __init__(
        self,
        dsn: str,
        size: int,
        timeout: float,
        *,
        statement_timeout: float | None = None,
        role: str | None = None,
        session: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """At most `size` connections; `timeout` (seconds) bounds connecting and waiting for one of them,
        `statement_timeout` each statement; `role` is assumed by every connection, `session` are its settings."""
        settings = dict(session)
        if statement_timeout is not None:
            settings["statement_timeout"] = milliseconds(statement_timeout)
        if role is not None:
            settings["role"] = role
        self._route = Route.to(dsn, settings)
        self._size = size
        self._timeout = timeout
        self._statement_timeout = statement_timeout
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    @classmethod
    def of_worker(cls, settings: Settings, dsn: str) -> Self:
        """As a worker of the service uses it: bounded by the deadline throughout."""
        timeout = settings.deadline
        return cls(dsn, settings.pool_size, timeout, statement_timeout=timeout, session=_OF_WORKER)

    @property
    def size(self) -> int:
        """Connections that are open."""
        return 0 if self._pool is None else self._pool.get_size()

    @property
    def in_use(self) -> int:
        """Connections that somebody has now."""
        return 0 if self._pool is None else self._pool.get_size() - self._pool.get_idle_size()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool."""
        assert self._pool is not None, "a Database is used inside its context"  # noqa: S101
        try:
            async with self._pool.acquire(timeout=self._timeout) as proxy:
                connection: Connection = proxy  # type: ignore[assignment]  # it has all of its methods
                async with self._route.settled(connection):
                    yield connection
        except FAILURES as error:
            raise Unavailable(_reason(error)) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that is committed at the end, or rolled back by an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def execute(self, sql: str, *arguments: object) -> str:
        """The command tag, which ends in the number of rows."""
        async with self.connection() as connection:
            return await connection.execute(sql, *arguments)

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(sql, *arguments)

    async def __aenter__(self) -> Self:
        try:
            self._pool = await asyncpg.create_pool(
                **self._route.options,
                min_size=0,
                max_size=self._size,
                # By default a connection is thrown away after 50,000 statements: a hiccup for nothing.
                max_queries=2**62,
                timeout=self._timeout,
                connect=_connect,
                # The server's own timeout goes first; this one is for a server that is silent.
                command_timeout=self._statement_timeout and 1.5 * self._statement_timeout,
                reset=_keep,
            )
        except ValueError as error:
            raise Unavailable(f"the database URL is not usable: {error}") from error
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._pool is not None  # noqa: S101
        try:
            await asyncio.wait_for(self._pool.close(), self._timeout)
        except TimeoutError:
            self._pool.terminate()


async def _keep(connection: Connection) -> None:
    """Nothing here leaves anything behind in a session, so a release needs no round trip to clean it."""
