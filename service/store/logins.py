"""The logins of the embedded cluster."""

from collections.abc import Mapping

import asyncpg

from service.store.connections import Route
from service.store.errors import Unavailable

ADMINISTRATOR = "hopcount_admin"
"""Owns the database and deploys the schema; may act as `hopcount_owner`, and is no superuser."""
SERVICE = "hopcount_app"
"""What the service logs in as: a member of `hopcount_service`, once that is deployed."""
DATABASE = "hopcount"

_TIMEOUT = 10.0


async def create(dsn: str, passwords: Mapping[str, str]) -> None:
    """Make what is missing of the logins and the database. `dsn` as superuser. Raises Unavailable."""
    connection = await Route.to(dsn).connect(_TIMEOUT)
    try:
        for login, attribute in ((ADMINISTRATOR, "CREATEROLE"), (SERVICE, "")):
            if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", login):
                await connection.execute(f"CREATE ROLE {login} LOGIN {attribute} PASSWORD '{passwords[login]}'")
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ADMINISTRATOR}")
    except asyncpg.PostgresError as error:
        raise Unavailable(str(error)) from error
    finally:
        await connection.close()


async def grant_service(dsn: str) -> None:
    """Let the service's login act as the service's role. `dsn` as administrator. Raises Unavailable."""
    connection = await Route.to(dsn).connect(_TIMEOUT)
    try:
        await connection.execute(f"GRANT hopcount_service TO {SERVICE}")
        await connection.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC")
        await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {SERVICE}")
    except asyncpg.PostgresError as error:
        raise Unavailable(str(error)) from error
    finally:
        await connection.close()
