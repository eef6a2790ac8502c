"""The composition root: settings in, ASGI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from granian.utils.proxies import wrap_asgi_with_proxy_headers
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import License, Server
from litestar.types import ASGIApp, Middleware

from service.api import contract, problems
from service.api.bodies import JsonRequest
from service.api.calls import Calls
from service.api.clicks import ClicksController
from service.api.contract import Contract
from service.api.docs import DocsController
from service.api.health import HealthController
from service.api.keys import authentication, rate_limit, scope_guard
from service.api.metrics import show_metrics
from service.api.urls import Site, UrlsController
from service.ledger import Ledger
from service.links import Purger
from service.metrics import Metrics
from service.redirect import Redirects
from service.settings import Settings
from service.store.click_log import ClickLog
from service.store.clicks import ClickWriter
from service.store.connections import Database
from service.store.keys import Keys
from service.store.urls import Urls

LONGEST_BODY = 1024 * 1024


def create_app(settings: Settings, dsn: str, shared_metrics: Path | None = None) -> ASGIApp:
    """One worker's application on the database `dsn`. It connects when its lifespan begins.

    `shared_metrics` is where all workers write what they count; see `service.metrics`.
    """
    metrics = Metrics(settings.redirect_status, shared_metrics)
    database = Database.of_worker(settings, dsn)
    urls = Urls(database)
    purger = Purger(database)
    # One for each flusher, and one for the links whose row somebody else holds.
    writers = [ClickWriter(dsn, settings) for _ in range(settings.flushers + 1)]
    ledger = Ledger(settings, writers, urls.destination, metrics.redirects)
    metrics.follow("hopcount_waiting_requests", "Redirects accepted and not answered.", lambda: ledger.waiting)
    metrics.follow("hopcount_pool_connections", "Open connections of the pools.", lambda: database.size)
    metrics.follow("hopcount_pool_connections_in_use", "Those of them that are in use.", lambda: database.in_use)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with database, purger, ledger, metrics:
            yield

    api = Router(
        "/",
        middleware=[authentication(Keys(database)), *_limits(settings)],
        guards=[scope_guard],
        route_handlers=[UrlsController, ClicksController],
    )
    litestar = Litestar(
        [api, HealthController, DocsController, show_metrics],
        lifespan=[lifespan],
        dependencies={
            "click_log": _given(ClickLog(database, settings.deadline)),
            "database": _given(database),
            "metrics": _given(metrics),
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
            use_handler_docstrings=True,
            render_plugins=[Contract(settings.redirect_status)],
        ),
        request_class=JsonRequest,
        request_max_body_size=LONGEST_BODY,
    )
    otherwise = wrap_asgi_with_proxy_headers(Calls(litestar, metrics.api), list(settings.trusted_proxies))
    return Redirects(ledger, settings.redirect_status, otherwise, metrics.redirects.refused)


def _limits(settings: Settings) -> list[Middleware]:
    return [] if settings.requests_per is None else [rate_limit(*settings.requests_per)]


def _given(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)
