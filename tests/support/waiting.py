"""Waiting for a condition; the test's own timeout is the limit."""

import asyncio
from collections.abc import Callable

_LOOK_AGAIN = 0.005


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until `condition` holds."""
    while not condition():  # noqa: ASYNC110  # nobody signals what other processes do
        await asyncio.sleep(_LOOK_AGAIN)
