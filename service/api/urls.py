"""`/api/v1/urls`: the links."""

from typing import Annotated

from litestar import Controller, Response, delete, get, patch, post, put
from litestar.exceptions import NotFoundException, ValidationException
from litestar.params import Parameter

from service import codes, destinations, links
from service.api import cursors, problems
from service.api.models import BatchAnswer, LinkAnswer, Made, NewDestination, NewLink, NewLinks, Page
from service.codes import InvalidCode
from service.destinations import InvalidDestination
from service.links import Purger
from service.store.urls import NEWEST, Link, New, Outcome, Urls

PATH = "/api/v1/urls"
LONGEST_BATCH = 10 * 1024 * 1024
"""Bytes of a request's body."""


class Site:
    """What this service is to the outside: where its short URLs begin, and its host."""

    def __init__(self, public_url: str) -> None:
        self.public_url = public_url
        self.host = destinations.host_of(public_url)


class UrlsController(Controller):
    path = PATH
    tags = ("links",)

    @post(operation_id="createLink", summary="Make a link")
    async def create(self, data: NewLink, urls: Urls, site: Site) -> Response[LinkAnswer]:
        """Without a short code, one of 8 letters and digits is generated."""
        if data.short_code is not None:
            codes.checked(data.short_code)
        original_url = destinations.checked(data.original_url, site.host)
        return _answer(await links.create(urls, original_url, data.short_code), site, created=True)

    @post(
        "/batch",
        operation_id="createLinks",
        summary="Make many links",
        status_code=200,
        request_max_body_size=LONGEST_BATCH,
    )
    async def create_batch(self, data: NewLinks, urls: Urls, site: Site) -> BatchAnswer:
        """The good ones go in, in one transaction; the others are answered with their reason."""
        items: list[Made | None] = []
        wanted: list[tuple[str, str | None]] = []
        for link in data.items:
            try:
                if link.short_code is not None:
                    codes.checked(link.short_code)
                wanted.append((destinations.checked(link.original_url, site.host), link.short_code))
                items.append(None)
            except (InvalidCode, InvalidDestination) as error:
                items.append(Made("invalid", link.original_url, link.short_code, detail=str(error)))
        made = iter(await links.create_all(urls, wanted))
        return BatchAnswer([_made(*next(made), site) if item is None else item for item in items])

    @get(operation_id="listLinks", summary="List the links, newest first")
    async def page(
        self,
        urls: Urls,
        site: Site,
        limit: Annotated[int, Parameter(ge=1, le=200)] = 50,
        cursor: str | None = None,
        search: Annotated[str, Parameter(max_length=destinations.LONGEST)] = "",
    ) -> Page:
        """A walk from page to page has every link that is there throughout exactly once."""
        if destinations.has_control_character(search):
            raise ValidationException("search: a control character is in no destination.")
        before = NEWEST if cursor is None else cursors.read(cursor)
        found = await urls.page(limit + 1, before, search)
        items = [LinkAnswer.of(link, site.public_url) for link in found[:limit]]
        return Page(items, cursors.written(items[-1].id) if len(found) > limit else None)

    @put(
        "/{code:str}",
        operation_id="putLink",
        summary="Make a link, or give it a new destination; safe to repeat",
        status_code=200,
    )
    async def put(self, code: str, data: NewDestination, urls: Urls, site: Site) -> Response[LinkAnswer]:
        """A link that is there keeps its id, its clicks and its count."""
        codes.checked(code)
        link, created = await urls.put(New(code, destinations.checked(data.original_url, site.host)))
        return _answer(link, site, created=created)

    @get("/{code:str}", operation_id="getLink", summary="Get a link with its count")
    async def get(self, code: str, urls: Urls, site: Site) -> LinkAnswer:
        """The count holds every redirect that was answered before."""
        return LinkAnswer.of(_found(await urls.get(_possible(code))), site.public_url)

    @patch("/{code:str}", operation_id="changeLink", summary="Give a link a new destination")
    async def change(self, code: str, data: NewDestination, urls: Urls, site: Site) -> LinkAnswer:
        """Every redirect from now on leads there. The link keeps its clicks and its count."""
        original_url = destinations.checked(data.original_url, site.host)
        return LinkAnswer.of(_found(await urls.change(New(_possible(code), original_url))), site.public_url)

    @delete("/{code:str}", operation_id="deleteLink", summary="Delete a link and its clicks")
    async def delete(self, code: str, urls: Urls, purger: Purger) -> None:
        """Redirects stop at once. The code is free again when the clicks are gone too, a little later."""
        if not await urls.delete(_possible(code)):
            raise NotFoundException("There is no such link.")
        purger.add(code)


def _possible(code: str) -> str:
    """`code`, if there can be such a link: PostgreSQL does not take all that a path can hold."""
    if not codes.possible(code):
        raise NotFoundException("There is no such link.")
    return code


def _found(link: Link | None) -> Link:
    if link is None:
        raise NotFoundException("There is no such link.")
    return link


def _answer(link: Link, site: Site, *, created: bool) -> Response[LinkAnswer]:
    return Response(
        LinkAnswer.of(link, site.public_url),
        status_code=201 if created else 200,
        headers={"Location": f"{PATH}/{link.short_code}"} if created else None,
    )


def _made(link: New, outcome: Outcome, site: Site) -> Made:
    detail = problems.taken(link.short_code) if outcome == "taken" else None
    return Made(outcome, link.original_url, link.short_code, f"{site.public_url}/{link.short_code}", detail)
