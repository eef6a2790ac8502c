"""Who may call the API, and how often."""

from typing import Any, Final

import anyio
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.middleware.rate_limit import DurationUnit, RateLimitConfig, RateLimitMiddleware
from litestar.types import ASGIApp, Middleware

from service.store.keys import Keys

_CHALLENGE = 'Bearer realm="hopcount"'
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def authentication(keys: Keys) -> Middleware:
    """Lets a request pass that has a valid key, which is its user from then on."""
    # A closure, since Litestar copies what it is given together with all that belongs to it.
    return lambda app: _Authentication(app, keys)


class _Authentication(AbstractAuthenticationMiddleware):
    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        super().__init__(app, exclude_http_methods=[])
        self._keys = keys

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Raises NotAuthorizedException (401), Unavailable."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        key = await self._keys.holder(token.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            challenge = _CHALLENGE + (', error="invalid_token"' if scheme else "")
            raise NotAuthorizedException(
                "This needs a valid API key: `Authorization: Bearer <key>`.",
                headers={"WWW-Authenticate": challenge},
            )
        return AuthenticationResult(user=key, auth=None)


def scope_guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A Litestar guard: the key must be good enough for the method. Raises PermissionDeniedException (403)."""
    if connection.user.scope == "read" and connection.scope.get("method") not in _READING:
        raise PermissionDeniedException(
            "This API key may only read.",
            headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="write"'},
        )


def rate_limit(requests: int, unit: DurationUnit) -> Middleware:
    """Litestar's own limit, for each key over all routes.

    It comes after `authentication`: a flood of wrong keys leaves nothing in its store.
    """
    config = RateLimitConfig((unit, requests), identifier_for_request=_key_id)
    lock = anyio.Lock()
    return lambda app: _RateLimit(app, config, lock)


class _RateLimit(RateLimitMiddleware):
    def __init__(self, app: ASGIApp, config: RateLimitConfig, lock: anyio.Lock) -> None:
        super().__init__(app, config)
        # There is one of these for each route, and one history for each key.
        self._lock = lock


def _key_id(request: Request[Any, Any, Any]) -> str:
    return str(request.user.id)
