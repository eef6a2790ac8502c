"""Around Litestar: what every answer carries, and what is noted of a call to the API."""

import logging
import re
from time import perf_counter
from typing import Final
from uuid import uuid4

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service import codes
from service.logs import REQUEST_ID
from service.metrics import ApiMetrics

_HTTP: Final = ScopeType.HTTP
_UNMATCHED = "none"
_REQUEST_ID = re.compile(rb"[0-9A-Za-z_.-]{1,64}")
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""For an answer that does not bring its own."""


class Calls:
    """An ASGI application around `app`: its answers get a request id and headers that fit an API.

    Each call below `/api/` is counted, timed and logged when its answer begins.
    """

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = logging.getLogger("hopcount.api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != _HTTP:
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        request_id = _given_id(scope) or uuid4().hex.encode()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                present = {name.lower() for name, _ in headers}
                headers += [header for header in _HEADERS if header[0] not in present]
                message["headers"] = [*headers, (b"x-request-id", request_id)]
                # Before the client has the answer, so that whoever has it finds it counted.
                if scope["path"].startswith("/api/"):
                    self._note(scope, message["status"], perf_counter() - began)
            await send(message)

        context = REQUEST_ID.set(request_id.decode())
        try:
            await self._app(scope, receive, answer)
        finally:
            REQUEST_ID.reset(context)

    def _note(self, scope: HTTPScope, status: int, seconds: float) -> None:
        route = scope.get("path_template", _UNMATCHED)
        self._metrics.answered(scope["method"], route, status, seconds)
        key, client = scope.get("user"), scope["client"]
        # No path and no query as they came: a search tells a destination, and anything can stand in a path.
        code = scope.get("path_params", {}).get("code", "")
        self._log.info(
            "call",
            extra={
                "method": scope["method"],
                "route": route,
                "code": code if codes.possible(code) else None,
                "status": status,
                "milliseconds": round(1000 * seconds, 3),
                "key": key and key.name,
                "client": client and client[0],
            },
        )


def _given_id(scope: HTTPScope) -> bytes | None:
    """The id that the request brings, if it is fit to be logged."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value if _REQUEST_ID.fullmatch(value) else None
    return None
