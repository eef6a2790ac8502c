"""What the API answers to whom, and with which headers."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support.postgres import CloneDsns, execute
from tests.support.server import Server, serving
from tests.test_api import LINKS, dsns, make_key

__all__ = ["dsns"]  # fixtures

LIMIT = 5


@pytest.fixture(scope="module")
def server(dsns: CloneDsns) -> Iterator[Server]:
    with serving(database_url=dsns.service, rate_limit=f"{LIMIT}/hour") as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def keys(dsns: CloneDsns) -> list[str]:
    return [make_key(dsns, uuid4().hex, "write") for _ in range(2)]


def test_each_key_has_its_limit_over_all_routes(server: Server, keys: list[str]) -> None:
    with httpx.Client(base_url=server.url) as client:
        for number in range(LIMIT):
            path = (LINKS, f"{LINKS}/missing", f"{LINKS}/missing/clicks")[number % 3]
            assert client.get(path, headers=bearer(keys[0])).status_code in (200, 404)
        refused = client.get(LINKS, headers=bearer(keys[0]))
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert 3500 < int(refused.headers["retry-after"]) <= 3600
        assert client.post(LINKS, headers=bearer(keys[0]), json={}).status_code == 429
        assert client.get(LINKS, headers=bearer(keys[1])).status_code == 200, "another key has its own"


def test_nothing_else_is_limited(server: Server, dsns: CloneDsns, keys: list[str]) -> None:
    execute(dsns.superuser, f"INSERT INTO hopcount.urls VALUES ('{uuid4()}', 'a', 'https://example.org/')")
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3 * LIMIT):
            assert client.get("/a", headers=bearer(keys[0])).status_code == 302
            for path in ("/health/live", "/health/ready", "/metrics", "/api/openapi.json"):
                assert client.get(path, headers=bearer(keys[0])).status_code == 200
            assert client.get(LINKS, headers=bearer("wrong")).status_code == 401
        assert client.get(LINKS, headers=bearer(keys[0])).status_code == 200


def test_a_wrong_key_tells_nothing(server: Server, keys: list[str]) -> None:
    with httpx.Client(base_url=server.url) as client:
        token = keys[0]
        wrong_secret = token[:-1] + ("A" if token[-1] != "A" else "B")
        unknown = f"hc_{uuid4().hex}_{token[-43:]}"
        answers = [client.get(LINKS, headers=bearer(wrong)) for wrong in (wrong_secret, unknown, "hc_", "x" * 5000)]
        assert len({(answer.status_code, answer.text, answer.headers["www-authenticate"]) for answer in answers}) == 1
        assert answers[0].status_code == 401
        assert client.get(LINKS, headers={"Authorization": f"Basic {token}"}).status_code == 401
        assert client.options(LINKS).status_code == 401


@pytest.mark.parametrize(
    "path", [LINKS, f"{LINKS}/missing", "/api/nothing", "/api/openapi.json", "/health/live", "/metrics", "/"]
)
def test_headers_fit_an_api(server: Server, path: str) -> None:
    headers = httpx.get(server.url + path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_request_ids(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        made = {client.get(LINKS).headers["x-request-id"] for _ in range(3)}
        assert len(made) == 3
        for given, taken in (("a-B_9.", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ('a"b', False)):
            answered = client.get(LINKS, headers={"X-Request-ID": given}).headers["x-request-id"]
            assert (answered == given) is taken, given
