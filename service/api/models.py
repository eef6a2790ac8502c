"""What requests and answers look like."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

import msgspec

from service.store.click_log import Click
from service.store.urls import Link

LARGEST_BATCH = 1000
MOST_POINTS = 10_000

Interval = Literal["minute", "hour", "day"]


class NewLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link to be made; without a short code, one is generated."""

    original_url: str
    short_code: str | None = None


class NewDestination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a link is to lead."""

    original_url: str


class NewLinks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Links to be made at once."""

    items: Annotated[list[NewLink], msgspec.Meta(min_length=1, max_length=LARGEST_BATCH)]


class LinkAnswer(msgspec.Struct, frozen=True):
    """A link, and how often it was followed."""

    id: UUID
    short_code: str
    short_url: str
    original_url: str
    click_count: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, link: Link, public_url: str) -> Self:
        return cls(
            link.id,
            link.short_code,
            f"{public_url}/{link.short_code}",
            link.original_url,
            link.click_count,
            link.created_at,
            link.updated_at,
        )


class Page(msgspec.Struct, frozen=True):
    """Links, newest first; the next page begins after `next_cursor`, which is null on the last one."""

    items: list[LinkAnswer]
    next_cursor: str | None


class Made(msgspec.Struct, frozen=True):
    """What came of one link of a batch.

    `created`; `unchanged`: there already, with this very destination; `taken`: the code is, by another link or
    by the clicks of one that was deleted; `invalid`: refused for the reason in `detail`.
    """

    outcome: Literal["created", "unchanged", "taken", "invalid"]
    original_url: str
    short_code: str | None = None
    short_url: str | None = None
    detail: str | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """What came of each link of a batch, in the order of the request."""

    items: list[Made]


class ClickPage(msgspec.Struct, frozen=True):
    """Clicks, newest first; the next page begins after `next_cursor`, which is null on the last one."""

    items: list[Click]
    next_cursor: str | None


class Point(msgspec.Struct, frozen=True):
    """The clicks of one interval, of which `start` is the beginning."""

    start: datetime
    clicks: int


class Series(msgspec.Struct, frozen=True):
    """Clicks per interval in UTC, oldest first, empty ones included.

    Only clicks from `from` up to and without `to` are counted, in the first and last interval too.
    """

    interval: Interval
    from_: datetime = msgspec.field(name="from")
    to: datetime
    points: list[Point]


class Health(msgspec.Struct, frozen=True):
    """Sent with 200 only."""

    status: str = "ok"
