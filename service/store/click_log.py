"""The clicks of one link: its log, and how many fell into each interval."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from uuid import UUID

import msgspec

from service.store.connections import Database, too_much_if_cancelled
from service.store.ids import MILLISECOND, first_id, instant_of

SURE_PER_SECOND = 200_000
"""Clicks that are counted in a second on any machine that is fit to serve; usually it is ten times as many."""

# One row without an id: the link is there, and has no such click.
_PAGE = """
SELECT c.id
FROM hopcount.urls AS u
LEFT JOIN LATERAL (
    SELECT id FROM hopcount.clicks WHERE short_code = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4
) AS c ON true
WHERE u.short_code = $1
"""
_SERIES = """
SELECT (SELECT count(*) FROM hopcount.clicks AS c WHERE c.short_code = $1 AND c.id >= i.lower AND c.id < i.upper)
FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS i (lower, upper, number)
WHERE EXISTS (SELECT FROM hopcount.urls WHERE short_code = $1)
ORDER BY i.number
"""
_BACK = """
SELECT id FROM hopcount.clicks
WHERE short_code = $1 AND id >= $2 AND id < $3
ORDER BY id DESC OFFSET $4 LIMIT 1
"""


class Click(msgspec.Struct, frozen=True):
    """A counted click."""

    id: UUID
    clicked_at: datetime


class ClickLog:
    """What is asked about the clicks of a link. Every method raises Unavailable."""

    def __init__(self, database: Database, timeout: float) -> None:
        """`timeout` (seconds) is that of a statement."""
        self._database = database
        self.sure = round(SURE_PER_SECOND * timeout)
        """Clicks that can be counted within it."""

    async def page(self, short_code: str, limit: int, first: UUID, before: UUID) -> list[Click] | None:
        """At most `limit` clicks, newest first, with ids from `first` up to and without `before`.

        None where there is no such link.
        """
        rows = await self._database.fetch(_PAGE, short_code, first, before, limit)
        if not rows:
            return None
        return [Click(row["id"], instant_of(row["id"])) for row in rows if row["id"] is not None]

    async def series(self, short_code: str, bounds: Sequence[datetime]) -> list[int] | None:
        """How many clicks fell between each two of `bounds`, ascending. None where there is no such link.

        Raises TooMuch.
        """
        ids = [(first_id(lower), first_id(upper)) for lower, upper in pairwise(bounds)]
        with too_much_if_cancelled():
            rows = await self._database.fetch(_SERIES, short_code, *map(list, zip(*ids, strict=True)))
        return [row["count"] for row in rows] or None

    async def countable_from(self, short_code: str, start: datetime, end: datetime) -> datetime | None:
        """Where a range up to `end` has to begin to hold no more than `sure` clicks.

        None where all of it from `start` holds no more. Raises TooMuch.
        """
        with too_much_if_cancelled():
            rows = await self._database.fetch(_BACK, short_code, first_id(start), first_id(end), self.sure)
        return instant_of(rows[0]["id"]) + MILLISECOND if rows else None
