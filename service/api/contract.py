"""The OpenAPI document: what Litestar finds in the handlers, and what it cannot know.

Litestar describes parameters, bodies and answers. This adds the errors, the keys, examples, and the calls
that it does not serve.
"""

from collections.abc import Iterator
from http import HTTPStatus
from inspect import getdoc
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import JsonRenderPlugin

from service.api import models
from service.api.models import MOST_POINTS
from service.api.problems import Problem
from service.destinations import LONGEST

Json = dict[str, Any]

TITLE = "Hopcount"
DESCRIPTION = f"""\
Short links whose counts are exact: a redirect that was received is a click that is committed.

- Errors are `application/problem+json` (RFC 9457). A method that a path does not have is a 405 with `Allow`.
  A request that is no proper HTTP is a 400 without a body.
- A body is read as JSON, whatever its `Content-Type`. It has at most 1 MiB, that of a batch 10 MiB.
- Every call below `/api/v1` needs a key: `Authorization: Bearer <key>`. One of scope `read` may only read.
- Every answer but those of `/{{code}}` carries an `X-Request-ID`: the one of the request, or a new one.
- A destination is an absolute http or https URL of at most {LONGEST:,} bytes. It is stored and sent as browsers
  parse it. It has no white space around it, no control characters, no credentials, and does not lead back to this
  service.
- Times are RFC 3339, in UTC. What a list goes on with is `next_cursor`, handed back as `cursor`.
"""
_TAGS = {
    "redirects": "What followers of a link see.",
    "links": "Making, finding, changing and deleting links.",
    "clicks": "When a link was followed.",
    "operations": "For those who run the service. Needs no key.",
}
_WRITING = frozenset({"post", "put", "patch", "delete"})
_GOOD: Final = {"200": "Done.", "201": "The link was made.", "204": "The link is gone."}
_PROBLEMS: Final[dict[int, tuple[str, str, tuple[str, ...]]]] = {
    400: ("The request is not acceptable; `detail` says why.", "This is not an absolute URL.", ()),
    401: ("No key, or not a valid one.", "This needs a valid API key: `Authorization: Bearer <key>`.",
          ("WWW-Authenticate",)),
    403: ("The key may only read.", "This API key may only read.", ("WWW-Authenticate",)),
    404: ("There is no such link.", "There is no such link.", ()),
    409: ("The code is taken, or the clicks of the deleted link that had it are not all gone yet.",
          "The short code 'hello' is taken, or not free again yet.", ()),
    413: ("The body is longer than 1 MiB, or than 10 MiB for a batch.", "Request Entity Too Large", ()),
    429: ("More requests with this key than this service allows.",
          "Too many requests with this key: come again in 7 s.", ("Retry-After",)),
    500: ("A fault of the service.", "Something went wrong, which has been logged.", ()),
    503: ("The database did not do it, or did not say in time whether it has.",
          "The database cannot be asked now.", ("Retry-After",)),
}  # fmt: skip
"""By status: what it means, a `detail`, and the headers that come with it."""
_TOO_LONG: Final[Json] = {"description": "The address is longer than 64 KiB. No body: nothing looked at the request."}
_HEADERS: Final[dict[str, Json]] = {
    "Cache-Control": {
        "description": "`no-store`: every follower asks again, and is counted.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where the link is in this API.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {
        "description": "How to send a key, and which scope it needs (RFC 6750).",
        "schema": {"type": "string"},
    },
    "X-Request-ID": {
        "description": "Names this call in the logs of the service. `/{code}` has none.",
        "schema": {"type": "string"},
    },
}

_CODE: Final[Json] = {"type": "string", "pattern": "^[0-9A-Za-z_-]{1,32}$", "examples": ["hello"]}
_URL: Final[Json] = {
    "type": "string",
    "minLength": 8,
    "maxLength": LONGEST,
    "description": f"http or https, at most {LONGEST:,} bytes.",
    "examples": ["https://example.org/landing?campaign=1"],
}
_PARAMETERS: Final[dict[str, tuple[str, Json]]] = {
    "code": ("The short code of the link.", _CODE),
    "limit": ("How many at most.", {}),
    "cursor": ("The `next_cursor` of the page before.", {"pattern": "^[0-9A-Za-z_-]{22}$"}),
    "search": (
        "Only links whose destination begins with this; letters match in either case, and no character is special.",
        {"examples": ["https://example.org/"]},
    ),
    "from": ("The first instant.", {"format": "date-time", "examples": ["2026-01-31T23:00:00Z"]}),
    "to": ("The instant that it ends before.", {"format": "date-time", "examples": ["2026-02-01T00:00:00Z"]}),
    "interval": (f"How long each point is. A series has at most {MOST_POINTS:,}.", {}),
}  # fmt: skip

_LINK: Final = {
    "id": "019a1b2c-3d4e-7f50-8a6b-7c8d9eaf0b1c",
    "short_code": "hello",
    "short_url": "https://hop.example/hello",
    "original_url": "https://example.org/landing?campaign=1",
    "click_count": 42,
    "created_at": "2026-01-31T23:00:00.123456Z",
    "updated_at": "2026-01-31T23:00:00.123456Z",
}
_CURSOR: Final = "AZobLD1Of1CKa3yNnq8LHA"
_EXAMPLES: Final[dict[str, Any]] = {
    "NewLink": {"original_url": _LINK["original_url"], "short_code": "hello"},
    "NewDestination": {"original_url": _LINK["original_url"]},
    "NewLinks": {"items": [{"original_url": "https://example.org/1"}, {"original_url": "ftp://example.org/2"}]},
    "LinkAnswer": _LINK,
    "Page": {"items": [_LINK], "next_cursor": _CURSOR},
    "BatchAnswer": {
        "items": [
            {
                "outcome": "created",
                "original_url": "https://example.org/1",
                "short_code": "V1StGXR8",
                "short_url": "https://hop.example/V1StGXR8",
                "detail": None,
            },
            {
                "outcome": "invalid",
                "original_url": "ftp://example.org/2",
                "short_code": None,
                "short_url": None,
                "detail": "Only http and https URLs can be destinations.",
            },
        ]
    },
    "ClickPage": {
        "items": [{"id": "019a1b2c-3d4e-7f50-8a6b-7c8d9eaf0b1d", "clicked_at": "2026-01-31T23:00:01.358Z"}],
        "next_cursor": None,
    },
    "Series": {
        "interval": "hour",
        "from": "2026-01-31T22:00:00Z",
        "to": "2026-02-01T00:00:00Z",
        "points": [{"start": "2026-01-31T22:00:00Z", "clicks": 0}, {"start": "2026-01-31T23:00:00Z", "clicks": 42}],
    },
    "Health": {"status": "ok"},
}


class Contract(JsonRenderPlugin):
    """Serves the complete document at `/openapi.json` below Litestar's path for OpenAPI."""

    def __init__(self, redirect_status: int) -> None:
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)
        self._redirect_status = redirect_status

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        return self.render_json(request, completed(openapi_schema, self._redirect_status))

    def receive_router(self, router: Router) -> None:
        router.after_request = _no_page


async def _no_page(answer: Response[Any]) -> Response[Any]:
    """For what is not there below its path, Litestar has a page of its own. Raises NotFoundException."""
    if answer.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    return answer


def completed(found: Json, redirect_status: int) -> Json:
    """The document that Litestar has `found`, with all that it lacks."""
    document: Json = msgspec.json.decode(msgspec.json.encode(found))  # a copy
    schemas = document["components"]["schemas"]
    _describe_schemas(schemas)
    for path, method, operation in _operations(document):
        _describe_operation(path, method, operation)
    document["paths"]["/{code}"] = _redirects(redirect_status)
    document["paths"] = {path: document["paths"][path] for path in sorted(document["paths"])}
    document["components"]["headers"] = _HEADERS
    document["components"]["responses"] = {"414": _TOO_LONG} | {str(status): _problem(status) for status in _PROBLEMS}
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key that `hopcount keys create` has printed."}
    }
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    return document


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict) and "responses" in operation:
                yield path, method, operation


def _describe_schemas(schemas: Json) -> None:
    # A redirect's problems tell nothing more than the status.
    schemas["Problem"] = msgspec.json.schema_components([Problem])[1]["Problem"] | {"required": ["title", "status"]}
    for name, schema in schemas.items():
        if name != "Problem":
            schema["description"] = getdoc(getattr(models, name))
        if name.startswith("New"):
            schema["additionalProperties"] = False
        if name in _EXAMPLES:
            schema["examples"] = [_EXAMPLES[name]]
        for field, of_field in schema["properties"].items():
            if field == "original_url" and name != "Made":
                of_field.update(_URL)
            elif field == "short_code" and name == "LinkAnswer":
                of_field.update(_CODE)
            elif field == "short_code" and name == "NewLink":
                schema["properties"][field] = {"oneOf": [_CODE, {"type": "null"}]}
            elif field in ("click_count", "clicks"):
                of_field["minimum"] = 0


def _describe_operation(path: str, method: str, operation: Json) -> None:
    for parameter in operation.get("parameters", []):
        description, limits = _PARAMETERS[parameter["name"]]
        # A parameter of a URL is never null: it is there or it is not.
        kinds = parameter["schema"].get("oneOf", [parameter["schema"]])
        parameter["schema"] = kinds[0] | limits
        parameter["schema"].pop("description", None)
        parameter["description"] = description
    failing = set(_failing(path, method, operation))
    responses = {status: answer for status, answer in operation["responses"].items() if int(status) < 400}
    if method == "put":
        responses["201"] = dict(responses["200"])
    for status, answer in responses.items():
        answer["description"] = _GOOD[status]
        answer["headers"] = _headers("X-Request-ID", *(["Location"] if status == "201" else []))
    for status in sorted(failing):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    operation["responses"] = responses
    if path.startswith("/api/"):
        operation["security"] = [{"key": []}]


def _failing(path: str, method: str, operation: Json) -> Iterator[int]:
    """The statuses of the errors that an operation can answer with."""
    if "parameters" in operation:
        yield 414
    if not path.startswith("/api/"):
        yield from (500, 503) if path.endswith("/ready") else (500,)
        return
    yield from (401, 429, 500, 503)
    if method in _WRITING:
        yield 403
    if "requestBody" in operation:
        yield from (400, 413)
    elif any(parameter["in"] == "query" for parameter in operation.get("parameters", [])):
        yield 400
    if "{code}" in path and method != "put":
        yield 404
    if method == "put" or (method == "post" and not path.endswith("/batch")):
        yield 409


def _problem(status: int) -> Json:
    description, detail, headers = _PROBLEMS[status]
    example = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return {
        "description": description,
        "headers": _headers("X-Request-ID", *headers),
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
        },
    }


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _redirects(status: int) -> Json:
    answers: Json = {
        str(status): {
            "description": "Where the link leads.",
            "headers": {
                "Location": {"description": "The destination.", "schema": _URL},
                **_headers("Cache-Control"),
            },
        },
    }
    answers |= {str(code): {"$ref": f"#/components/responses/{code}"} for code in (404, 414, 503)}
    parameter = {"name": "code", "in": "path", "required": True, "schema": _CODE, "description": _PARAMETERS["code"][0]}
    common = {"tags": ["redirects"], "parameters": [parameter], "responses": answers, "security": []}
    return {
        "get": {
            "operationId": "follow",
            "summary": "Follow a link, which counts",
            "description": "The click is committed before the answer begins. The query is not passed on.",
            **common,
        },
        "head": {
            "operationId": "look",
            "summary": "See where a link leads, which does not count",
            "description": "The answer of a GET without its body.",
            **common,
        },
    }
