"""The instants in ids: a UUIDv7 begins with its milliseconds since 1970 (RFC 9562, section 5.7)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

MILLISECOND = timedelta(milliseconds=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 2**48 - 1


def first_id(instant: datetime) -> UUID:
    """The lowest UUIDv7 of `instant` or later."""
    milliseconds = -((_EPOCH - instant) // MILLISECOND)  # rounded up
    return UUID(int=min(max(0, milliseconds), _LAST) << 80)


def instant_of(click: UUID) -> datetime:
    """When a click was recorded, to the millisecond; its id holds that."""
    return _EPOCH + (click.int >> 80) * MILLISECOND
