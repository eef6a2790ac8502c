"""The service over HTTP, in two workers."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
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
    "query",
    [
        "limit=0", "limit=-1", "limit=201", "limit=x", "limit=", "limit=1.5", "cursor=", "cursor=x", "cursor=%00",
        "cursor=" + "A" * 23, "cursor=%ff", "cursor=" + "A" * 50_000,
    ],
)  # fmt: skip
def test_a_bad_page_is_a_400(client: httpx.Client, query: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    assert_problem(client.get(f"{LINKS}?{query}"), 400)
    assert_problem(client.get(f"{LINKS}/mine/clicks?{query}"), 400)


@pytest.mark.parametrize("search", ["%00", "https://%00", "%0a", "%7f", "a" * 8193])
def test_a_search_for_what_cannot_be_is_a_400(client: httpx.Client, search: str) -> None:
    assert_problem(client.get(f"{LINKS}?search={search}"), 400, "search")


@pytest.mark.parametrize("search", ["%ff", "%ed%a0%80", "%f4%8f%bf%bf", "%25", "_", "%5c", "x" * 8192])
def test_any_other_search_is_answered(client: httpx.Client, search: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    assert client.get(f"{LINKS}?search={search}").json() == {"items": [], "next_cursor": None}
    assert len(client.get(f"{LINKS}?search=").json()["items"]) == 1


@pytest.mark.parametrize("path", ["clicks", "clicks/series"])
@pytest.mark.parametrize(
    "query",
    [
        "from=", "from=yesterday", "from=1700000000", "from=2026-01-31", "from=2026-01-31T00:00:00",
        "from=2026-13-01T00:00:00Z", "to=2026-01-31T00:00:00%00Z", "to=1970-01-01T00:00:00Z",
        "from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=0001-01-01T00:00:00%2B01:00",
    ],
)  # fmt: skip
def test_a_bad_range_is_a_400(client: httpx.Client, path: str, query: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    assert_problem(client.get(f"{LINKS}/mine/{path}?{query}"), 400)


def test_a_series_of_too_many_points_is_refused_with_a_range_that_would_do(client: httpx.Client) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    series = f"{LINKS}/mine/clicks/series?interval=minute"
    refused = client.get(f"{series}&from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z")
    assert_problem(refused, 400, "10,000 at most")
    offered = refused.json()["detail"].partition("from=")[2].partition(" ")[0]
    answer = client.get(f"{series}&from={offered}&to=9999-12-31T23:59:59Z")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["points"]) <= 10_000
    assert_problem(client.get(f"{LINKS}/mine/clicks/series?interval=second"), 400, "interval")


def test_clicks_and_series_tell_when_a_link_was_followed(client: httpx.Client) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    before = datetime.now(UTC)
    for _ in range(5):
        client.get("/mine")
    after = datetime.now(UTC) + timedelta(milliseconds=1)
    page = client.get(f"{LINKS}/mine/clicks?limit=3").json()
    rest = client.get(f"{LINKS}/mine/clicks?limit=3&cursor={page['next_cursor']}").json()
    clicks = page["items"] + rest["items"]
    assert (len(page["items"]), len(rest["items"]), rest["next_cursor"]) == (3, 2, None)
    assert [click["id"] for click in clicks] == sorted((click["id"] for click in clicks), reverse=True)
    for click in clicks:
        assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(click["clicked_at"]) <= after
    # To the instant of the third: the older ones, and it is not among them.
    until = {"to": clicks[2]["clicked_at"]}
    limit = datetime.fromisoformat(until["to"])
    older = [click for click in clicks if datetime.fromisoformat(click["clicked_at"]) < limit]
    assert client.get(f"{LINKS}/mine/clicks", params=until).json()["items"] == older
    series = client.get(f"{LINKS}/mine/clicks/series", params=until | {"interval": "minute"}).json()
    assert sum(point["clicks"] for point in series["points"]) == len(older)
    starts = [datetime.fromisoformat(point["start"]) for point in series["points"]]
    assert {later - earlier for earlier, later in pairwise(starts)} == {timedelta(minutes=1)}
    assert all(start.second == 0 for start in starts)


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
    batch = client.post(f"{LINKS}/batch", content=b'{"items": [' + body + b"]}")
    if "\ud800" in url:
        assert_problem(batch, 400)
    else:
        (item,) = batch.json()["items"]
        assert (item["outcome"], item["short_code"]) == ("invalid", None)
        assert reason in item["detail"]
    assert stored(dsns) == []
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    assert_problem(client.patch(f"{LINKS}/mine", content=body), 400, detail)
    assert stored(dsns) == [("mine", "https://example.org/")]


@pytest.mark.parametrize("code", ["api", "API", "health", "batch", "", "a b", "a/b", "ä", "a" * 33, "a\n", "a\0"])
def test_a_bad_code_is_refused(client: httpx.Client, dsns: CloneDsns, code: str) -> None:
    body = {"original_url": "https://example.org/", "short_code": code}
    assert_problem(client.post(LINKS, json=body), 400, "short code")
    (item,) = client.post(f"{LINKS}/batch", json={"items": [body]}).json()["items"]
    assert item["outcome"] == "invalid"
    assert "short code" in item["detail"]
    assert stored(dsns) == []


@pytest.mark.parametrize("code", ["api", "health", "a%20b", "%C3%A4", "a" * 33])
def test_a_bad_code_is_refused_by_put(client: httpx.Client, dsns: CloneDsns, code: str) -> None:
    assert_problem(client.put(f"{LINKS}/{code}", json={"original_url": "https://example.org/"}), 400)
    assert stored(dsns) == []


@pytest.mark.parametrize("code", ["missing", "api", "a%00", "a%20b", "%C3%A4", "%ff", "%ed%a0%80", "a" * 33])
def test_a_code_without_a_link_is_a_404_whatever_it_is(client: httpx.Client, code: str) -> None:
    body = {"original_url": "https://example.org/"}
    calls = (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/clicks"), ("GET", "/clicks/series"))
    for method, path in calls:
        assert_problem(client.request(method, f"{LINKS}/{code}{path}", json=body), 404)


def test_a_batch_makes_the_good_ones_and_answers_each(client: httpx.Client, dsns: CloneDsns) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/mine"})
    wanted = [
        {"original_url": "https://example.org/1"},
        {"original_url": "ftp://example.org/2"},
        {"original_url": "https://example.org/3", "short_code": "three"},
        {"original_url": "https://example.org/3", "short_code": "three"},
        {"original_url": "https://example.org/4", "short_code": "three"},
        {"original_url": "https://example.org/mine", "short_code": "mine"},
        {"original_url": "https://example.org/5", "short_code": "mine"},
        {"original_url": "https://example.org/6", "short_code": "api"},
    ]
    answer = client.post(f"{LINKS}/batch", json={"items": wanted})
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [item["outcome"] for item in items] == [
        "created", "invalid", "created", "unchanged", "taken", "unchanged", "taken", "invalid",
    ]  # fmt: skip
    assert [item["original_url"] for item in items] == [link["original_url"] for link in wanted]
    assert items[0]["short_url"] == f"{BASE}/{items[0]['short_code']}"
    assert all((item["detail"] is None) == (item["outcome"] in ("created", "unchanged")) for item in items)
    assert dict(stored(dsns)) == {
        items[0]["short_code"]: "https://example.org/1",
        "three": "https://example.org/3",
        "mine": "https://example.org/mine",
    }
    again = client.post(f"{LINKS}/batch", json={"items": wanted[2:3]}).json()["items"]
    assert [item["outcome"] for item in again] == ["unchanged"], "a batch with codes is safe to repeat"


def test_a_batch_has_1_to_1000_links_in_10_mib(client: httpx.Client, dsns: CloneDsns) -> None:
    link = {"original_url": "https://example.org/" + "a" * 8000}
    assert_problem(client.post(f"{LINKS}/batch", json={"items": []}), 400)
    assert_problem(client.post(f"{LINKS}/batch", json={"items": [link] * 1001}), 400)
    longer = {"original_url": "https://example.org/" + "a" * 11_000}
    assert_problem(client.post(f"{LINKS}/batch", json={"items": [longer] * 1000}), 413)
    assert stored(dsns) == []
    answer = client.post(f"{LINKS}/batch", json={"items": [link] * 1000})
    assert {item["outcome"] for item in answer.json()["items"]} == {"created"}
    assert len(stored(dsns)) == 1000


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
    calls = (("POST", LINKS), ("PUT", f"{LINKS}/mine"), ("PATCH", f"{LINKS}/mine"), ("POST", f"{LINKS}/batch"))
    for method, path in calls:
        assert_problem(client.request(method, path, content=body), 400)
    assert_problem(client.post(f"{LINKS}/batch", content=b'{"items": [' + body + b"]}"), 400)
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
