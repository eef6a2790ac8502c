"""The service over HTTP, in two workers."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.api import cursors
from service.store.connections import OWNER, Database
from service.store.keys import Keys, Scope
from tests.support.postgres import CloneDsns, TestCluster, execute, fetch
from tests.support.server import Server, serving
from tests.test_destinations import REFUSED

LINKS = "/api/v1/urls"
BASE = "https://hop.example"


@pytest.fixture(scope="module")
def dsns(postgres: TestCluster) -> Iterator[CloneDsns]:
    with postgres.clone() as clone:
        yield clone


@pytest.fixture(scope="module")
def server(dsns: CloneDsns) -> Iterator[Server]:
    with serving(database_url=dsns.service, workers=2, base_url=BASE) as running:
        yield running


@pytest.fixture(scope="module")
def token(dsns: CloneDsns) -> str:
    return make_key(dsns, "tests", "write")


def make_key(dsns: CloneDsns, name: str, scope: Scope) -> str:
    async def make() -> str:
        async with Database(dsns.administrator, 1, 10.0, role=OWNER) as database:
            return await Keys(database).create(name, scope)

    return asyncio.run(make())


@pytest.fixture
def client(server: Server, token: str, dsns: CloneDsns) -> Iterator[httpx.Client]:
    """An API client, on an empty database."""
    execute(dsns.superuser, "TRUNCATE hopcount.urls, hopcount.clicks")
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as made:
        yield made


def stored(dsns: CloneDsns) -> list[tuple[str, str]]:
    rows = fetch(dsns.superuser, "SELECT short_code, original_url FROM hopcount.urls ORDER BY 1")
    return [(row[0], row[1]) for row in rows]


def assert_problem(response: httpx.Response, status: int, detail: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert detail in problem.get("detail", "")


def test_a_link_is_made_followed_counted_changed_and_deleted(client: httpx.Client) -> None:
    made = client.post(LINKS, json={"original_url": "HTTPS://Example.org/a b"})
    assert made.status_code == 201
    link = made.json()
    code = link["short_code"]
    assert made.headers["location"] == f"{LINKS}/{code}"
    assert link["original_url"] == "https://example.org/a%20b"
    assert link["short_url"] == f"{BASE}/{code}"
    assert link["click_count"] == 0

    for _ in range(3):
        answer = client.get(f"/{code}?ignored=1")
        assert (answer.status_code, answer.headers["location"]) == (302, "https://example.org/a%20b")
        assert answer.headers["cache-control"] == "no-store"
    found = client.get(f"{LINKS}/{code}").json()
    assert found == link | {"click_count": 3}

    changed = client.patch(f"{LINKS}/{code}", json={"original_url": "https://example.org/new"}).json()
    assert changed["updated_at"] > link["updated_at"]
    assert client.get(f"/{code}").headers["location"] == "https://example.org/new"

    assert client.delete(f"{LINKS}/{code}").status_code == 204
    assert_problem(client.get(f"/{code}"), 404)
    assert_problem(client.get(f"{LINKS}/{code}"), 404)
    assert_problem(client.delete(f"{LINKS}/{code}"), 404)
    assert_problem(client.patch(f"{LINKS}/{code}", json={"original_url": "https://example.org/"}), 404)


def test_put_makes_then_replaces(client: httpx.Client) -> None:
    first = client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/1"})
    assert (first.status_code, first.headers["location"]) == (201, f"{LINKS}/mine")
    again = client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/2"})
    assert again.status_code == 200
    assert again.json()["id"] == first.json()["id"]
    assert client.get("/mine").headers["location"] == "https://example.org/2"


def test_head_looks_and_does_not_count(client: httpx.Client) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    answer = client.head("/mine")
    assert (answer.status_code, answer.headers["location"]) == (302, "https://example.org/")
    missing = client.head("/missing")
    assert (missing.status_code, missing.content) == (404, b"")
    assert client.get(f"{LINKS}/mine").json()["click_count"] == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_on_a_code_are_not_allowed(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/mine")
    assert_problem(answer, 405)
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/a.b", "/a/b", "/%C3%A4", "/" + "a" * 33, "/health"])
def test_paths_that_are_nothing(client: httpx.Client, path: str) -> None:
    assert_problem(client.get(path), 404)


def test_the_list_is_walked_newest_first(client: httpx.Client) -> None:
    made = [client.post(LINKS, json={"original_url": f"https://example.org/{n}"}).json() for n in range(7)]
    seen: list[Any] = []
    cursor: str | None = None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = client.get(LINKS, params=params).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=", "cursor=x", "cursor=%00", "cursor=" + "A" * 23]
)
def test_a_bad_page_is_a_400(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"{LINKS}?{query}"), 400)


def test_cursors_have_one_spelling() -> None:
    last = uuid.uuid4()
    assert cursors.read(cursors.written(last)) == last
    for wrong in (cursors.written(last) + "=", cursors.written(last) + "!", "é" * 22):
        with pytest.raises(cursors.InvalidCursor):
            cursors.read(wrong)


@pytest.mark.parametrize(("url", "reason"), REFUSED.items())
def test_a_bad_destination_is_refused_everywhere_and_nothing_is_stored(
    client: httpx.Client, dsns: CloneDsns, url: str, reason: str
) -> None:
    url = url.replace("short.example", "hop.example").replace("SHORT.EXAMPLE", "HOP.EXAMPLE")
    url = url.replace("short%2eexample", "hop%2eexample")
    body = json.dumps({"original_url": url}).encode()
    detail = reason if "\ud800" not in url else ""
    assert_problem(client.post(LINKS, content=body), 400, detail)
    assert_problem(client.put(f"{LINKS}/mine", content=body), 400, detail)
    assert stored(dsns) == []
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    assert_problem(client.patch(f"{LINKS}/mine", content=body), 400, detail)
    assert stored(dsns) == [("mine", "https://example.org/")]


@pytest.mark.parametrize("code", ["api", "API", "health", "metrics", "", "a b", "a/b", "ä", "a" * 33, "a\n"])
def test_a_bad_code_is_refused(client: httpx.Client, dsns: CloneDsns, code: str) -> None:
    body = {"original_url": "https://example.org/", "short_code": code}
    assert_problem(client.post(LINKS, json=body), 400, "short code")
    assert stored(dsns) == []


@pytest.mark.parametrize("code", ["api", "health", "a%20b", "%C3%A4", "a" * 33])
def test_a_bad_code_is_refused_by_put(client: httpx.Client, dsns: CloneDsns, code: str) -> None:
    assert_problem(client.put(f"{LINKS}/{code}", json={"original_url": "https://example.org/"}), 400)
    assert stored(dsns) == []


def test_a_taken_code_is_a_409(client: httpx.Client, dsns: CloneDsns) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/1"})
    body = {"original_url": "https://example.org/2", "short_code": "mine"}
    assert_problem(client.post(LINKS, json=body), 409, "'mine' is taken")
    assert stored(dsns) == [("mine", "https://example.org/1")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"https://example.org/"',
        b"\xff\xfe",
        b"{}",
        b'{"original_url": null}',
        b'{"original_url": 7}',
        b'{"original_url": ["https://example.org/"]}',
        b'{"original_url": "https://example.org/", "short_code": 7}',
        b'{"original_url": "https://example.org/", "click_count": 7}',
        b'{"original_url": "https://example.org/"} x',
    ],
)
def test_a_body_that_is_not_a_link_is_a_400(client: httpx.Client, dsns: CloneDsns, body: bytes) -> None:
    for method, path in (("POST", LINKS), ("PUT", f"{LINKS}/mine"), ("PATCH", f"{LINKS}/mine")):
        answer = client.request(method, path, content=body)
        assert_problem(answer, 400)
        assert "Traceback" not in answer.text
    assert stored(dsns) == []


def test_a_body_of_2_mib_is_a_413(client: httpx.Client, dsns: CloneDsns) -> None:
    body = json.dumps({"original_url": "https://example.org/" + "a" * 2 * 1024 * 1024}).encode()
    assert_problem(client.post(LINKS, content=body), 413)

    def in_pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    assert_problem(client.post(LINKS, content=in_pieces()), 413)
    assert stored(dsns) == []


def test_without_a_good_key_nothing_is_told(client: httpx.Client, dsns: CloneDsns, token: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    for header in ("", "Bearer", "Bearer x", f"Bearer {token[:-1]}", f"Basic {token}", token):
        for path in (LINKS, f"{LINKS}/mine", f"{LINKS}/missing"):
            answer = client.get(path, headers={"Authorization": header})
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith('Bearer realm="hopcount"')
            assert "mine" not in answer.text
        assert client.delete(f"{LINKS}/mine", headers={"Authorization": header}).status_code == 401
    assert len(stored(dsns)) == 1


def test_a_reading_key_may_only_read(client: httpx.Client, dsns: CloneDsns) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    headers = {"Authorization": f"bearer {make_key(dsns, 'reader', 'read')}"}
    assert client.get(f"{LINKS}/mine", headers=headers).status_code == 200
    for method, path in (("POST", LINKS), ("PUT", f"{LINKS}/mine"), ("DELETE", f"{LINKS}/mine")):
        answer = client.request(method, path, headers=headers, json={"original_url": "https://example.org/2"})
        assert_problem(answer, 403)
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert stored(dsns) == [("mine", "https://example.org/")]


def test_a_deleted_key_is_refused_at_once(client: httpx.Client, dsns: CloneDsns) -> None:
    headers = {"Authorization": f"Bearer {make_key(dsns, 'short-lived', 'write')}"}
    assert client.get(LINKS, headers=headers).status_code == 200
    execute(
        dsns.administrator,
        "SET ROLE hopcount_owner; DELETE FROM hopcount.api_keys WHERE name = 'short-lived'",
    )
    for _ in range(8):
        assert client.get(LINKS, headers=headers | {"Connection": "close"}).status_code == 401


def test_health(client: httpx.Client) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = client.get(path, headers={"Authorization": ""})
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_contract_is_served(client: httpx.Client) -> None:
    answer = client.get("/api/openapi.json")
    assert answer.status_code == 200
    assert LINKS in answer.json()["paths"]


def test_the_redirect_status_is_a_setting(dsns: CloneDsns) -> None:
    execute(
        dsns.superuser,
        "INSERT INTO hopcount.urls (id, short_code, original_url) "
        "VALUES (gen_random_uuid(), 'moved', 'https://example.org/')",
    )
    with serving(database_url=dsns.service, redirect_status=308) as running:
        assert httpx.get(f"{running.url}/moved").status_code == 308
