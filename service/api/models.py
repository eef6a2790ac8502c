"""What requests and answers look like."""

from datetime import datetime
from typing import Self
from uuid import UUID

import msgspec

from service.store.urls import Link


class NewLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link to be made; without a short code, one is generated."""

    original_url: str
    short_code: str | None = None


class NewDestination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a link is to lead."""

    original_url: str


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


class Health(msgspec.Struct, frozen=True):
    """Sent with 200 only."""

    status: str = "ok"
