"""Errors as problem details (RFC 9457)."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, TooManyRequestsException

from service.api.cursors import InvalidCursor
from service.codes import InvalidCode
from service.destinations import InvalidDestination
from service.store.errors import SchemaMismatch, TooMuch, Unavailable
from service.store.urls import CodeTaken

Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]


class Problem(msgspec.Struct, frozen=True):
    """Why a request failed."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


def response(status: int, detail: str, headers: dict[str, str] | None = None) -> Response[Problem]:
    return Response(
        Problem(HTTPStatus(status).phrase, status, detail),
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def handlers() -> dict[int | type[Exception], Handler]:
    """Which exception becomes which problem."""
    return {
        InvalidCode: _stating(400),
        InvalidCursor: _stating(400),
        InvalidDestination: _stating(400),
        CodeTaken: _code_taken,
        TooMuch: _too_much,
        Unavailable: _unavailable,
        SchemaMismatch: _unavailable,
        TooManyRequestsException: _too_many_requests,
        HTTPException: _http_exception,
        Exception: _unexpected,
    }


def _stating(status: int) -> Handler:
    return lambda _request, error: response(status, str(error))


def _code_taken(_request: Request[Any, Any, Any], error: CodeTaken) -> Response[Any]:
    return response(409, taken(str(error)))


def taken(short_code: str) -> str:
    """Why a link cannot have this code."""
    return f"The short code {short_code!r} is taken, or not free again yet."


def _too_much(_request: Request[Any, Any, Any], _error: TooMuch) -> Response[Any]:
    return response(400, "More matches than can be read in time: narrow it down.")


def _unavailable(_request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    logging.getLogger(__name__).warning("%s", error)
    return response(503, "The database cannot be asked now.", {"Retry-After": "1"})


def _http_exception(_request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    detail = error.detail
    if isinstance(error.extra, list):
        # Litestar's list of what is wrong with the fields of a request.
        reasons = [f"{what.get('key', '')}: {what.get('message', '')}".removeprefix(": ") for what in error.extra]
        detail = "; ".join(reasons) or detail
    return response(error.status_code, detail, error.headers)


def _too_many_requests(_request: Request[Any, Any, Any], error: TooManyRequestsException) -> Response[Any]:
    headers = dict(error.headers or {})
    wait = str(max(1, int(headers.get("RateLimit-Reset", "1"))))
    return response(429, f"Too many requests with this key: come again in {wait} s.", headers | {"Retry-After": wait})


def _unexpected(_request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    logging.getLogger(__name__).error("a call failed", exc_info=error)
    return response(500, "Something went wrong, which has been logged.")
