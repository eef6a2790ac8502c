"""Who may call the API."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from service.store.keys import Keys

_CHALLENGE = 'Bearer realm="hopcount"'
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def key_guard(keys: Keys) -> Guard:
    """A Litestar guard that lets a request pass whose bearer key is good enough for its method.

    It raises NotAuthorizedException (401), PermissionDeniedException (403), Unavailable.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        key = await keys.holder(token.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            challenge = _CHALLENGE + (', error="invalid_token"' if scheme else "")
            raise NotAuthorizedException(
                "This needs a valid API key: `Authorization: Bearer <key>`.",
                headers={"WWW-Authenticate": challenge},
            )
        if key.scope == "read" and connection.scope.get("method") not in _READING:
            raise PermissionDeniedException(
                "This API key may only read.",
                headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="write"'},
            )

    return guard
