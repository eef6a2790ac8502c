"""Bodies of requests."""

from typing import Any

from litestar import Request
from litestar.exceptions import ClientException


class JsonRequest(Request[Any, Any, Any]):
    """A request whose JSON may be nested as deep as its sender likes."""

    async def json(self) -> Any:
        """Raises ClientException (400), SerializationException."""
        try:
            return await super().json()
        except RecursionError:  # msgspec's limit, which Litestar does not expect
            raise ClientException("JSON is nested too deeply.") from None
