"""The composition root: settings in, ASGI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import License, Server
from litestar.types import ASGIApp

from service.api import contract, problems
from service.api.clicks import ClicksController
from service.api.contract import Contract
from service.api.docs import DocsController
from service.api.health import HealthController
from service.api.keys import key_guard
from service.api.urls import Site, UrlsController
from service.ledger import Ledger
from service.links import Purger
from service.redirect import Redirects
from service.settings import Settings
from service.store.click_log import ClickLog
from service.store.clicks import ClickWriter
from service.store.connections import Database
from service.store.keys import Keys
from service.store.urls import Urls

LONGEST_BODY = 1024 * 1024


def create_app(settings: Settings, dsn: str) -> ASGIApp:
    """One worker's application on the database `dsn`. It connects when its lifespan begins."""
    database = Database.of_worker(settings, dsn)
    urls = Urls(database)
    purger = Purger(database)
    # One for each flusher, and one for the links whose row somebody else holds.
    writers = [ClickWriter(dsn, settings) for _ in range(settings.flushers + 1)]
    ledger = Ledger(settings, writers, urls.destination)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with database, purger, ledger:
            yield

    api = Router(
        "/",
        guards=[key_guard(Keys(database))],
        route_handlers=[UrlsController, ClicksController],
    )
    litestar = Litestar(
        [api, HealthController, DocsController],
        lifespan=[lifespan],
        dependencies={
            "click_log": _given(ClickLog(database)),
            "database": _given(database),
            "purger": _given(purger),
            "site": _given(Site(settings.public_url)),
            "urls": _given(urls),
        },
        exception_handlers=problems.handlers(),
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title=contract.TITLE,
            version=version("hopcount"),
            description=contract.DESCRIPTION,
            license=License(name="MIT", identifier="MIT"),
            servers=[Server(url=settings.public_url)],
            path="/api",
            render_plugins=[Contract(settings.redirect_status)],
        ),
        request_max_body_size=LONGEST_BODY,
    )
    return Redirects(ledger, settings.redirect_status, litestar)


def _given(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)
