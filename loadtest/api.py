"""The API of a running Hopcount, as the load tests see it."""

from collections.abc import Iterator
from typing import Any

import requests

LINKS = "/api/v1/urls"
PAGE = 200
_TIMEOUT = 30.0


class ApiError(Exception):
    """The service did not answer as it should; the message says how."""


class Api:
    """A client with a key that may read."""

    def __init__(self, host: str, key: str) -> None:
        self._host = host.rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def links(self) -> Iterator[dict[str, Any]]:
        """All links, newest first. Raises ApiError."""
        cursor: str | None = None
        while True:
            params = {"limit": str(PAGE)} | ({} if cursor is None else {"cursor": cursor})
            try:
                answer = self._session.get(self._host + LINKS, params=params, timeout=_TIMEOUT)
                answer.raise_for_status()
            except requests.RequestException as error:
                raise ApiError(f"the list of links could not be read: {error}") from error
            page = answer.json()
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def counts(self) -> dict[str, int]:
        """The count of every link."""
        return {link["short_code"]: link["click_count"] for link in self.links()}
