"""Making links: codes for those that come without one, and the clean-up after those that go."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from service import codes
from service.store.connections import Database
from service.store.errors import Unavailable
from service.store.tidy import purge
from service.store.urls import CodeTaken, Link, New, Outcome, Urls

TRIES = 5
"""Generated codes that may be taken, one after the other, before a link is refused."""

_PAUSE = 1.0


async def create(urls: Urls, original_url: str, short_code: str | None) -> Link:
    """Make a link, under a generated code where none is given. Both fields checked by the caller.

    Raises CodeTaken, Unavailable.
    """
    if short_code is not None:
        return await urls.create(New(short_code, original_url))
    for _ in range(TRIES - 1):
        with suppress(CodeTaken):
            return await urls.create(New(codes.generated(), original_url))
    return await urls.create(New(codes.generated(), original_url))


async def create_all(urls: Urls, wanted: Sequence[tuple[str, str | None]]) -> list[tuple[New, Outcome]]:
    """Make a link for each (destination, code or None): what was made or asked for, and its outcome.

    Raises Unavailable.
    """
    links = [New(code or codes.generated(), original_url) for original_url, code in wanted]
    outcomes = await urls.create_all(links)
    for _ in range(TRIES - 1):
        again = [place for place, (_, code) in enumerate(wanted) if code is None and outcomes[place] != "created"]
        if not again:
            break
        for place in again:
            links[place] = New(codes.generated(), wanted[place][0])
        for place, outcome in zip(again, await urls.create_all([links[p] for p in again]), strict=True):
            outcomes[place] = outcome
    return list(zip(links, outcomes, strict=True))


class Purger:
    """Deletes the clicks of deleted links, one link after the other, while its context lasts.

    What is left when it ends, `hopcount db tidy` finishes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._deleted: asyncio.Queue[str] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def add(self, short_code: str) -> None:
        """The link of this code was deleted: its clicks can go."""
        self._deleted.put_nowait(short_code)

    async def _work(self) -> None:
        while True:
            short_code = await self._deleted.get()
            try:
                async for _ in purge(self._database, short_code):
                    pass
            except Unavailable:
                self.add(short_code)
                await asyncio.sleep(_PAUSE)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
