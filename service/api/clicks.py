"""`/api/v1/urls/{code}/clicks`: the clicks of one link."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.exceptions import NotFoundException, ValidationException
from litestar.params import Parameter

from service import codes
from service.api import cursors
from service.api.models import MOST_POINTS, ClickPage, Interval, Point, Series
from service.store.click_log import ClickLog
from service.store.errors import TooMuch
from service.store.ids import first_id
from service.store.urls import NEWEST

_LENGTHS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_SPANS = {"minute": timedelta(hours=1), "hour": timedelta(days=1), "day": timedelta(days=30)}
"""How far back a series goes that does not say."""

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

From = Annotated[str | None, Parameter(query="from")]
To = Annotated[str | None, Parameter(query="to")]


class ClicksController(Controller):
    path = "/api/v1/urls/{code:str}/clicks"
    tags = ("clicks",)

    @get(operation_id="listClicks", summary="The click log, newest first")
    async def log(
        self,
        code: str,
        click_log: ClickLog,
        limit: Annotated[int, Parameter(ge=1, le=200)] = 50,
        cursor: str | None = None,
        since: From = None,
        until: To = None,
    ) -> ClickPage:
        """All clicks that are kept, or those of a range of time."""
        start, end = _instant("from", since), _instant("to", until)
        _check_order(start or _EARLIEST, end)
        first = first_id(start or _EARLIEST)
        before = NEWEST if end is None else first_id(end)
        if cursor is not None:
            before = min(before, cursors.read(cursor))
        found = await click_log.page(code, limit + 1, first, before) if codes.possible(code) else None
        if found is None:
            raise NotFoundException("There is no such link.")
        items = found[:limit]
        return ClickPage(items, cursors.written(items[-1].id) if len(found) > limit else None)

    @get("/series", operation_id="countClicks", summary="Clicks per minute, hour or day")
    async def series(
        self, code: str, click_log: ClickLog, interval: Interval = "day", since: From = None, until: To = None
    ) -> Series:
        """In UTC. Without `from`: the hour, the day or the 30 days before `to`, which is by default now."""
        end = _instant("to", until) or datetime.now(UTC)
        # Nothing is earlier than the first click that an id can hold; the year 1 has no 30 days before it.
        start = _instant("from", since) or max(_EARLIEST, max(_EARLIEST, end) - _SPANS[interval])
        _check_order(start, end)
        starts = _starts(start, end, _LENGTHS[interval])
        bounds = [start, *starts[1:], end]
        try:
            counts = await click_log.series(code, bounds) if codes.possible(code) else None
        except TooMuch:
            raise ValidationException(await _advice(click_log, code, start, end)) from None
        if counts is None:
            raise NotFoundException("There is no such link.")
        return Series(interval=interval, from_=start, to=end, points=list(map(Point, starts, counts)))


def _instant(name: str, given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        instant: datetime = msgspec.convert(given, Annotated[datetime, msgspec.Meta(tz=True)])
        return instant.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValidationException(f"{name}: this is no RFC 3339 time like 2026-01-31T23:00:00Z.") from None


def _check_order(start: datetime, end: datetime | None) -> None:
    if end is not None and start >= end:
        raise ValidationException("`from` must be before `to`.")


def _starts(start: datetime, end: datetime, length: timedelta) -> list[datetime]:
    """Where the intervals begin that lie in `start` to `end`, wholly or in part."""
    first = _rounded_down(start, length)
    points = -((first - end) // length)
    if points > MOST_POINTS:
        least = _rounded_down(end - datetime.resolution, length) - (MOST_POINTS - 1) * length
        raise ValidationException(
            f"These are {points:,} points, and {MOST_POINTS:,} at most are answered: from={_written(least)} would do."
        )
    return [first + number * length for number in range(points)]


def _rounded_down(instant: datetime, length: timedelta) -> datetime:
    return instant - (instant - _EARLIEST) % length


async def _advice(click_log: ClickLog, code: str, start: datetime, end: datetime) -> str:
    """Which range can be counted, when this one cannot."""
    problem = "These are more clicks than can be counted in time"
    try:
        least = await click_log.countable_from(code, start, end)
    except TooMuch:
        least = None
    if least is None:
        return f"{problem}: ask for a shorter range."
    return f"{problem}: from={_written(least)}&to={_written(end)}, the last {click_log.sure:,}, would do."


def _written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
