"""A client of the API, with types; it needs httpx (`hopcount[client]`) and nothing else of the service.

A call is data, `get("hello")` for one. `Client` sends calls and `AsyncClient` does so with `await`; `every` of either
takes a call of pages and goes through the items of all of them.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

import httpx
import msgspec

T = TypeVar("T")
Item = TypeVar("Item")

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its time zone."""

Interval = Literal["minute", "hour", "day"]

_LINKS = "/api/v1/urls"


class NewLink(msgspec.Struct, frozen=True, omit_defaults=True):
    """A link to be made; without a short code, one is generated."""

    original_url: str
    short_code: str | None = None


class Link(msgspec.Struct, frozen=True):
    """A link, and how often it was followed."""

    id: UUID
    short_code: str
    short_url: str
    original_url: str
    click_count: int
    created_at: Instant
    updated_at: Instant


class Stored(msgspec.Struct, frozen=True):
    """A link, and whether the call made it; otherwise it was there, and was given a new destination."""

    link: Link
    created: bool


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


class Batch(msgspec.Struct, frozen=True):
    """What came of each link of a batch, in the order of the call."""

    items: list[Made]


class Click(msgspec.Struct, frozen=True):
    """A counted click."""

    id: UUID
    clicked_at: Instant


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """Some items, newest first; `next_cursor` is None on the last page."""

    items: list[Item]
    next_cursor: str | None


class Point(msgspec.Struct, frozen=True):
    """The clicks of one interval, of which `start` is the beginning."""

    start: Instant
    clicks: int


class Series(msgspec.Struct, frozen=True):
    """Clicks per interval in UTC, oldest first, empty ones included; from `from_` up to and without `to`."""

    interval: Interval
    from_: Instant = msgspec.field(name="from")
    to: Instant
    points: list[Point]


class Health(msgspec.Struct, frozen=True):
    """The service is well; if not, the call raises Problem."""

    status: str = "ok"


class Problem(Exception):
    """The service did not do what was asked.

    `status` is that of the answer, `detail` says why, `retry_after` after how many seconds to try again, if
    the service said so, and `request` is the method and path of the call.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None, request: str) -> None:
        super().__init__(status, detail, retry_after, request)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.request = request

    def __str__(self) -> str:
        return f"{self.request}: {self.status}: {self.detail}"


class Call(msgspec.Struct, Generic[T], frozen=True):
    """A request that is answered with a T."""

    method: str
    path: str
    answer: type[T]
    query: Mapping[str, str] = {}
    body: msgspec.Struct | None = None


class PageCall(Call[Page[Item]], Generic[Item], frozen=True):
    """A request for a page of items."""

    def following(self, page: Page[Item]) -> Self | None:
        """The call for what comes after `page`, if anything does."""
        if page.next_cursor is None:
            return None
        return msgspec.structs.replace(self, query={**self.query, "cursor": page.next_cursor})


def create(original_url: str, short_code: str | None = None) -> Call[Stored]:
    """Make a link; without a short code, one is generated, so that a repeated call makes a second link."""
    return Call("POST", _LINKS, Stored, body=NewLink(original_url, short_code))


def create_batch(links: Iterable[NewLink]) -> Call[Batch]:
    """Make up to 1,000 links; the good ones go in, whatever comes of the others."""
    return Call("POST", f"{_LINKS}/batch", Batch, body=_NewLinks(list(links)))


def put(code: str, original_url: str) -> Call[Stored]:
    """Make a link, or give it a new destination; safe to repeat. Raises ValueError."""
    return Call("PUT", _link(code), Stored, body=_NewDestination(original_url))


def get(code: str) -> Call[Link]:
    """Raises ValueError."""
    return Call("GET", _link(code), Link)


def change(code: str, original_url: str) -> Call[Link]:
    """Give a link a new destination. Raises ValueError."""
    return Call("PATCH", _link(code), Link, body=_NewDestination(original_url))


def delete(code: str) -> Call[None]:
    """Delete a link and its clicks; the code is free again once these are gone. Raises ValueError."""
    return Call("DELETE", _link(code), type(None))


def page(*, limit: int | None = None, cursor: str | None = None, search: str | None = None) -> PageCall[Link]:
    """The links, newest first; with `search` those whose destination begins with it, in either case.

    A page has at most `limit` of them, from 1 to 200; 50 where that is not said.
    """
    return PageCall("GET", _LINKS, Page[Link], query=_given(limit=limit, cursor=cursor, search=search))


def clicks(
    code: str,
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> PageCall[Click]:
    """The clicks of a link from `from_` up to and without `to`, newest first; `limit` as for `page`.

    Times need a time zone. Raises ValueError.
    """
    query = _given(limit=limit, cursor=cursor) | _range(from_, to)
    return PageCall("GET", f"{_link(code)}/clicks", Page[Click], query=query)


def series(
    code: str, interval: Interval | None = None, *, from_: datetime | None = None, to: datetime | None = None
) -> Call[Series]:
    """The clicks of a link per interval, by default per day. Times need a time zone.

    Without `from_`: the hour, the day or the 30 days before `to`, which is by default now. Raises ValueError.
    """
    return Call("GET", f"{_link(code)}/clicks/series", Series, query=_given(interval=interval) | _range(from_, to))


def live() -> Call[Health]:
    """Whether a worker runs."""
    return Call("GET", "/health/live", Health)


def ready() -> Call[Health]:
    """Whether its database answers and has the right schema."""
    return Call("GET", "/health/ready", Health)


class Client:
    """Sends calls to the service at `base_url`, with `timeout` seconds to connect, to send and to receive.

    Nothing is sent twice. Use it as a context manager, or close it.
    """

    def __init__(self, base_url: str, api_key: str, timeout: float = 30.0) -> None:
        """Raises ValueError where the key can be none."""
        self._http = httpx.Client(base_url=base_url, headers=_headers(api_key), timeout=timeout)

    def send(self, call: Call[T]) -> T:
        """Raises Problem, and httpx.RequestError where no answer came."""
        return _answer(call, self._http.send(_request(self._http, call)))

    def every(self, call: PageCall[Item]) -> Iterator[Item]:
        """All items from the page `call` onwards, which are read as they are needed. Raises as `send` does."""
        following: PageCall[Item] | None = call
        while following is not None:
            page = self.send(following)
            yield from page.items
            following = following.following(page)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncClient:
    """As Client, for asyncio and trio."""

    def __init__(self, base_url: str, api_key: str, timeout: float = 30.0) -> None:
        """Raises ValueError where the key can be none."""
        self._http = httpx.AsyncClient(base_url=base_url, headers=_headers(api_key), timeout=timeout)

    async def send(self, call: Call[T]) -> T:
        """Raises Problem, and httpx.RequestError where no answer came."""
        return _answer(call, await self._http.send(_request(self._http, call)))

    async def every(self, call: PageCall[Item]) -> AsyncIterator[Item]:
        """All items from the page `call` onwards, which are read as they are needed. Raises as `send` does."""
        following: PageCall[Item] | None = call
        while following is not None:
            page = await self.send(following)
            for item in page.items:
                yield item
            following = following.following(page)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


class _NewDestination(msgspec.Struct, frozen=True):
    original_url: str


class _NewLinks(msgspec.Struct, frozen=True):
    items: list[NewLink]


class _Reason(msgspec.Struct, frozen=True):
    """What is read of problem details (RFC 9457)."""

    title: str = ""
    detail: str = ""


def _link(code: str) -> str:
    # These would lead to other calls than the one that is meant.
    if code in ("", ".", "..") or "/" in code:
        raise ValueError(f"{code!r} can be no short code.")
    return f"{_LINKS}/{quote(code, safe='')}"


def _given(**values: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _range(from_: datetime | None, to: datetime | None) -> dict[str, str]:
    return {name: value.isoformat() for name, value in (("from", from_), ("to", to)) if value is not None}


def _headers(api_key: str) -> dict[str, str]:
    # httpx would refuse such a key too, and show it.
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("An API key has neither white space nor any character beyond ASCII.")
    return {"Accept": "application/json", "Authorization": f"Bearer {api_key}"}


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    if call.body is None:
        return http.build_request(call.method, call.path, params=call.query or None)
    content, headers = msgspec.json.encode(call.body), {"Content-Type": "application/json"}
    return http.build_request(call.method, call.path, params=call.query or None, content=content, headers=headers)


def _answer(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success:
        raise _problem(call, response, _reason(response))
    try:
        if call.answer is Stored:  # the one answer that is more than its body
            link = msgspec.json.decode(response.content, type=Link)
            return cast(T, Stored(link, created=response.status_code == HTTPStatus.CREATED))
        return msgspec.json.decode(response.content or b"null", type=call.answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _problem(call, response, f"this is no answer of Hopcount: {error}") from None


def _problem(call: Call[Any], response: httpx.Response, detail: str) -> Problem:
    retry_after = response.headers.get("Retry-After", "")
    seconds = int(retry_after) if retry_after.isdecimal() else None
    return Problem(response.status_code, detail, seconds, f"{call.method} {call.path}")


def _reason(response: httpx.Response) -> str:
    try:
        told = msgspec.json.decode(response.content, type=_Reason)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = _Reason()
    return told.detail or told.title or response.reason_phrase
