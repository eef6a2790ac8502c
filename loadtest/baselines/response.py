"""What all baselines share: the shape of requests and responses, which is Hopcount's."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Answer = Callable[[str], Awaitable[str | None]]
"""From a short code to its destination; None where there is no such link."""


def application(answer: Answer, lifespan: AbstractAsyncContextManager[Any]) -> App:
    """An ASGI application that answers `GET /{code}` and `/health/live`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(lifespan, receive, send)
            return
        if scope["path"] == "/health/live":
            await _send(send, 200, [(b"content-length", b"0")])
            return
        destination = await answer(scope["path"][1:])
        if destination is None:
            await _send(send, 404, [(b"content-length", b"0")])
            return
        await _send(
            send,
            302,
            [
                (b"location", destination.encode("ascii")),
                (b"cache-control", b"no-store"),
                (b"content-length", b"0"),
            ],
        )

    return app


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _live(lifespan: AbstractAsyncContextManager[Any], receive: Receive, send: Send) -> None:
    await receive()
    async with lifespan:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
