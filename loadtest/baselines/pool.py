"""A tuned pool of connections, opened with the application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

SIZE = 16
"""Connections of a worker; more were no faster on two cores."""


class Pool:
    """`pool` is there inside the context `opened`.

    With `reset` a session is cleaned after each use, as asyncpg does unless told otherwise: a round trip.
    """

    def __init__(self, dsn: str, *, reset: bool = False) -> None:
        self._dsn = dsn
        self._reset = None if reset else _keep
        self.pool: Any = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with asyncpg.create_pool(
            self._dsn, min_size=SIZE, max_size=SIZE, max_queries=2**62, reset=self._reset
        ) as self.pool:
            yield


async def _keep(connection: Any) -> None:
    """No round trip to clean a session that nothing was changed in."""
