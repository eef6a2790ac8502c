"""`/api/docs`: the OpenAPI document as a page. All that it loads comes from this service."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from litestar import Controller, MediaType, Response, get
from litestar.exceptions import NotFoundException
from litestar.response import File

_PAGE: Final = b"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hopcount API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<script src="docs/swagger-ui.js" defer></script>
<script src="docs/start.js" defer></script>
</head>
<body><div id="docs"></div></body>
</html>
"""
_START: Final = b"""\
SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#docs",
    deepLinking: true,
    validatorUrl: null,
});
"""
_FILES: Final = {
    "swagger-ui.css": ("swagger_style.css", "text/css"),
    "swagger-ui.js": ("swagger_bundle.js", "text/javascript"),
}
_HEADERS: Final = {
    # Swagger UI sets style attributes and draws its icons from data: URLs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
_LASTING: Final = {"Cache-Control": "public, max-age=86400"}


class DocsController(Controller):
    path = "/api/docs"
    include_in_schema = False

    @get(media_type=MediaType.HTML)
    async def page(self) -> Response[bytes]:
        return Response(_PAGE, headers=_HEADERS)

    @get("/start.js", media_type="text/javascript")
    async def start(self) -> Response[bytes]:
        return Response(_START, headers=_LASTING)

    @get("/{name:str}")
    async def file(self, name: str) -> File:
        if name not in _FILES:
            raise NotFoundException
        source, kind = _FILES[name]
        return File(
            _package() / source, filename=name, media_type=kind, content_disposition_type="inline", headers=_LASTING
        )


def _package() -> Path:
    """Where the package with Swagger UI lies. To import it would load all of its files."""
    spec = find_spec("offapi")
    assert spec is not None  # noqa: S101  # it is a dependency
    assert spec.submodule_search_locations is not None  # noqa: S101  # and a package
    return Path(spec.submodule_search_locations[0])
