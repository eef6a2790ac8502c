"""The hot path: `/{code}`, answered before anything else looks at the request."""

from collections.abc import Callable
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service import codes
from service.ledger import Ledger, NotCounted

_HTTP: Final = ScopeType.HTTP
_NO_STORE = (b"cache-control", b"no-store")
_EMPTY = (b"content-length", b"0")


class Redirects:
    """An ASGI application that answers `GET` and `HEAD` of `/{code}` and leaves the rest to `otherwise`."""

    def __init__(self, ledger: Ledger, status: int, otherwise: ASGIApp, on_refused: Callable[[], None]) -> None:
        """`on_refused` is called where the method is another."""
        self._ledger = ledger
        self._status = status
        self._otherwise = otherwise
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != _HTTP or (code := codes.in_path(scope["path"])) is None:
            await self._otherwise(scope, receive, send)
            return
        try:
            if scope["method"] == "GET":
                destination = await self._ledger.record(code)
            elif scope["method"] == "HEAD":
                destination = await self._ledger.look_up(code)
            else:
                self._on_refused()
                await _refuse(scope, send, 405, "Method Not Allowed", (b"allow", b"GET, HEAD"))
                return
        except NotCounted:
            await _refuse(scope, send, 503, "Service Unavailable", (b"retry-after", b"1"))
            return
        if destination is None:
            await _refuse(scope, send, 404, "Not Found")
            return
        headers = [(b"location", destination.encode("ascii")), _NO_STORE, _EMPTY]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _refuse(scope: HTTPScope, send: Send, status: int, title: str, *extra: tuple[bytes, bytes]) -> None:
    """Problem details (RFC 9457) that tell nothing more than the status."""
    body = b'{"type":"about:blank","title":"%b","status":%d}' % (title.encode("ascii"), status)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        _NO_STORE,
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": body, "more_body": False})
