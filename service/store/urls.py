"""The links."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils import uuid7

from service.store.connections import Connection, Database, too_much_if_cancelled

SEARCHED = 1000
"""Characters of a destination that are in the index; the schema has the same number."""

_COLUMNS = "id, short_code, original_url, click_count, created_at, updated_at"

_INSERT = f"""
INSERT INTO hopcount.urls AS u (id, short_code, original_url)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
ON CONFLICT (short_code) DO NOTHING
RETURNING {_COLUMNS}
"""
_UPSERT = f"""
INSERT INTO hopcount.urls AS u (id, short_code, original_url) VALUES ($1, $2, $3)
ON CONFLICT (short_code) DO UPDATE SET original_url = excluded.original_url, updated_at = now()
RETURNING {_COLUMNS}
"""
# Asked after the insert, in the same transaction: from then on nobody can delete the link, and a delete
# that came before has left its clicks in sight. The newest click goes last, so looking for that one does
# not wade through those that are gone already.
_LEFT_OVER = """
SELECT code
FROM unnest($1::text[]) AS code
WHERE (SELECT c.id FROM hopcount.clicks AS c WHERE c.short_code = code ORDER BY c.id DESC LIMIT 1) IS NOT NULL
"""
_GET = f"SELECT {_COLUMNS} FROM hopcount.urls WHERE short_code = $1"
_DESTINATION = "SELECT original_url FROM hopcount.urls WHERE short_code = $1"
_DESTINATIONS = "SELECT short_code, original_url FROM hopcount.urls WHERE short_code = ANY ($1::text[])"
_PAGE = f"SELECT {_COLUMNS} FROM hopcount.urls WHERE id < $1 ORDER BY id DESC LIMIT $2"
# First the newest links one by one, which is quick where many match. If they do not fill the page and are not all
# there are: all that match, through the index on the beginning, which is quick where few do. OFFSET 0 keeps the
# planner from walking all links in the order of ids in place of that.
_SEARCH = f"""
WITH newest AS MATERIALIZED (
    SELECT id, starts_with(lower(original_url), lower($3 COLLATE "C")) AS matches
    FROM hopcount.urls
    WHERE id < $1
    ORDER BY id DESC
    LIMIT $4
), near AS MATERIALIZED (
    SELECT id FROM newest WHERE matches LIMIT $2
), further AS MATERIALIZED (
    SELECT CASE WHEN (SELECT count(*) FROM near) < $2 THEN (SELECT count(*) FROM newest) = $4 ELSE false END AS look
), far AS (
    SELECT id
    FROM (
        SELECT id
        FROM hopcount.urls
        WHERE (SELECT look FROM further)
          AND lower(left(original_url, {SEARCHED})) >= lower(left($3 COLLATE "C", {SEARCHED}))
          AND lower(left(original_url, {SEARCHED})) < lower(left($3 COLLATE "C", {SEARCHED})) || chr(127)
          AND starts_with(lower(original_url), lower($3 COLLATE "C"))
          AND id < $1
        OFFSET 0
    ) AS matching
    ORDER BY id DESC
    LIMIT $2
), page AS (
    SELECT id FROM near WHERE NOT (SELECT look FROM further)
    UNION ALL
    SELECT id FROM far
)
SELECT {_COLUMNS} FROM page JOIN hopcount.urls USING (id) ORDER BY id DESC
"""
_CHANGE = f"""
UPDATE hopcount.urls SET original_url = $2, updated_at = now() WHERE short_code = $1 RETURNING {_COLUMNS}
"""
_DELETE = "DELETE FROM hopcount.urls WHERE short_code = $1 RETURNING true"
_DELETE_ALL = "DELETE FROM hopcount.urls WHERE short_code = ANY ($1::text[])"
_EXPORT = f"SELECT {_COLUMNS} FROM hopcount.urls ORDER BY id"
_TOTALS = "SELECT count(*) AS links, coalesce(sum(click_count), 0)::bigint AS clicks FROM hopcount.urls"
_MOST_CLICKED = f"SELECT {_COLUMNS} FROM hopcount.urls ORDER BY click_count DESC, short_code LIMIT $1"


_NEAR = 25
"""Links that a search looks at one by one, for each that the page takes."""

NEWEST = UUID(int=2**128 - 1)
"""Where the first page begins."""


class CodeTaken(Exception):
    """A link has this code already, or had it and its clicks are not all gone yet."""


class Link(msgspec.Struct, frozen=True):
    """A row of `urls`."""

    id: UUID
    short_code: str
    original_url: str
    click_count: int
    created_at: datetime
    updated_at: datetime


class New(msgspec.Struct, frozen=True):
    """A link to be made; both fields checked by the caller."""

    short_code: str
    original_url: str


Outcome = Literal["created", "unchanged", "taken"]
"""What came of a New: made; there with the same destination; there with another, or not free yet."""


class Totals(msgspec.Struct, frozen=True):
    """Over all links."""

    links: int
    clicks: int


class Urls:
    """All that is done with links, save counting their clicks. Every method raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, link: New) -> Link:
        """Raises CodeTaken."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_INSERT, [uuid7()], [link.short_code], [link.original_url])
            if row is None or await _left_over(connection, [link.short_code]):
                raise CodeTaken(link.short_code)
        return Link(**row)

    async def create_all(self, links: Sequence[New]) -> list[Outcome]:
        """Make every link of `links` whose code is free, in one transaction: an outcome for each."""
        # In the order of codes, or two of these could wait for each other.
        ordered = sorted({link.short_code: link for link in reversed(links)}.items())
        ids = [uuid7() for _ in ordered]
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _INSERT, ids, [code for code, _ in ordered], [link.original_url for _, link in ordered]
            )
            created = {row["short_code"] for row in rows}
            if left_over := await _left_over(connection, list(created)):
                await connection.execute(_DELETE_ALL, left_over)
                created.difference_update(left_over)
            others = [code for code, _ in ordered if code not in created]
            rows = await connection.fetch(_DESTINATIONS, others) if others else []
            there = {row["short_code"]: row["original_url"] for row in rows}
        outcomes: list[Outcome] = []
        for link in links:
            if link.short_code in created:
                outcomes.append("created")
                # A second one of the same code is compared with the first.
                created.remove(link.short_code)
                there[link.short_code] = link.original_url
            else:
                same = there.get(link.short_code) == link.original_url
                outcomes.append("unchanged" if same else "taken")
        return outcomes

    async def put(self, link: New) -> tuple[Link, bool]:
        """Make the link or give it the new destination: the link, and whether it was made.

        Raises CodeTaken where the clicks of a deleted link are not all gone yet.
        """
        new = uuid7()
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_UPSERT, new, link.short_code, link.original_url)
            assert row is not None  # noqa: S101  # an upsert returns its row
            created: bool = row["id"].int == new.int
            if created and await _left_over(connection, [link.short_code]):
                raise CodeTaken(link.short_code)
        return Link(**row), created

    async def get(self, short_code: str) -> Link | None:
        return _link(await self._database.fetchrow(_GET, short_code))

    async def destination(self, short_code: str) -> str | None:
        destination: str | None = await self._database.fetchval(_DESTINATION, short_code)
        return destination

    async def page(self, limit: int, before: UUID = NEWEST, search: str = "") -> list[Link]:
        """At most `limit` links, newest first, of those that are older than the id `before`.

        With `search` only those whose destination begins with it; ASCII letters match in either case. Raises
        TooMuch where more match than can be sorted in time.
        """
        if not search:
            rows = await self._database.fetch(_PAGE, before, limit)
        else:
            with too_much_if_cancelled():
                rows = await self._database.fetch(_SEARCH, before, limit, search, _NEAR * limit)
        return [Link(**row) for row in rows]

    async def change(self, link: New) -> Link | None:
        """Give the link of this code the new destination. None where there is no such link."""
        return _link(await self._database.fetchrow(_CHANGE, link.short_code, link.original_url))

    async def delete(self, short_code: str) -> bool:
        """Whether there was such a link. Its clicks are still there: see `service.store.tidy`."""
        return await self._database.fetchval(_DELETE, short_code) is not None

    async def every(self) -> AsyncIterator[Link]:
        """All links in the order of their ids, as of one moment, without holding them in memory."""
        async with self._database.transaction() as connection:
            # asyncpg's own cursors leave a named statement behind, which a pooler would hand to others.
            await connection.execute(f"DECLARE links NO SCROLL CURSOR FOR {_EXPORT}")
            while rows := await connection.fetch("FETCH 1000 FROM links"):
                for row in rows:
                    yield Link(**row)

    async def totals(self) -> Totals:
        row = await self._database.fetchrow(_TOTALS)
        assert row is not None  # noqa: S101  # an aggregate has one row
        return Totals(**row)

    async def most_clicked(self, limit: int) -> list[Link]:
        return [Link(**row) for row in await self._database.fetch(_MOST_CLICKED, limit)]


def _link(row: asyncpg.Record | None) -> Link | None:
    return None if row is None else Link(**row)


async def _left_over(connection: Connection, short_codes: list[str]) -> list[str]:
    """Those of `short_codes`, just inserted, that still have clicks of a link that was deleted."""
    return [row["code"] for row in await connection.fetch(_LEFT_OVER, short_codes)]
