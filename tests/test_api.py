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
BATCH = f"{LINKS}/batch"
LOG = f"{LINKS}/mine/clicks"
SERIES = f"{LOG}/series"
BASE = "https://hop.example"
GOOD = "https://example.org/"


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


@pytest.mark.parametrize("path", [LINKS, LOG])
@pytest.mark.parametrize(
    "query",
    [
        "limit=",
        "limit=0",
        "limit=-1",
        "limit=201",
        "limit=x",
        "limit=1.5",
        "limit=%00",
        "limit=99999999999999999999",
        "cursor=",
        "cursor=x",
        "cursor=%00",
        "cursor=%FF",
        "cursor=%ED%A0%80",
        "cursor=" + "A" * 23,
    ],
)
def test_a_bad_page_is_a_400(client: httpx.Client, path: str, query: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": GOOD})
    assert_problem(client.get(f"{path}?{query}"), 400)


@pytest.mark.parametrize("search", ["%00", "a%00b", "%0A", "%7F", "%C2%85", "a" * 8193])
def test_a_bad_search_is_a_400(client: httpx.Client, search: str) -> None:
    assert_problem(client.get(f"{LINKS}?search={search}"), 400, "search")


@pytest.mark.parametrize("search", ["%FF", "%", "%ED%A0%80", "%F0%9F%98%80", "a" * 8192, "%C3%A4" * 8192])
def test_an_odd_search_finds_nothing(client: httpx.Client, search: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": GOOD})
    answer = client.get(f"{LINKS}?search={search}")
    assert (answer.status_code, answer.json()["items"]) == (200, [])


@pytest.mark.parametrize("path", [LOG, SERIES])
@pytest.mark.parametrize("name", ["from", "to"])
@pytest.mark.parametrize(
    "instant",
    [
        "",
        "x",
        "%00",
        "2026-01-31",
        "2026-01-31T23:00:00",  # of no time zone
        "2026-02-30T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "1769900400",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00%2B14:00",  # before the year 1 in UTC
        "9999-12-31T23:59:59-14:00",  # after the year 9999 in UTC
    ],
)
def test_a_bad_instant_is_a_400(client: httpx.Client, path: str, name: str, instant: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": GOOD})
    assert_problem(client.get(f"{path}?{name}={instant}"), 400, f"{name}: this is no RFC 3339 time")


@pytest.mark.parametrize("path", [LOG, SERIES])
@pytest.mark.parametrize(
    "query",
    [
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=2026-01-01T01:00:00%2B01:00&to=2026-01-01T00:00:00Z",
        "to=1969-12-31T23:59:59Z",
        "to=0001-01-01T00:00:00Z",
    ],
)
def test_a_range_that_does_not_begin_before_its_end_is_a_400(client: httpx.Client, path: str, query: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": GOOD})
    assert_problem(client.get(f"{path}?{query}"), 400, "must be before")


@pytest.mark.parametrize(
    ("query", "logged", "counted"),
    [
        ("from=0001-01-01T00:00:00Z&to=0001-01-02T00:00:00Z", 0, 0),
        ("to=1970-01-01T00:00:00.001Z", 0, 0),
        ("to=9999-12-31T23:59:59.999999Z", 1, 0),  # a series goes back 30 days only
        ("from=9999-12-31T00:00:00Z&to=9999-12-31T23:59:59.999999Z", 0, 0),
    ],
)
def test_time_reaches_from_the_year_1_to_9999(client: httpx.Client, query: str, logged: int, counted: int) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": GOOD})
    client.get("/mine")
    assert len(client.get(f"{LOG}?{query}").raise_for_status().json()["items"]) == logged
    points = client.get(f"{SERIES}?{query}").raise_for_status().json()["points"]
    assert sum(point["clicks"] for point in points) == counted


@pytest.mark.parametrize("interval", ["", "week", "Day", "%00"])
def test_a_bad_interval_is_a_400(client: httpx.Client, interval: str) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": GOOD})
    assert_problem(client.get(f"{SERIES}?interval={interval}"), 400, "interval")


def test_a_series_of_too_many_points_is_a_400_that_says_which_range_would_do(client: httpx.Client) -> None:
    client.put(f"{LINKS}/mine", json={"original_url": GOOD})
    query = {"interval": "minute", "from": "2026-01-01T00:00:00Z", "to": "2026-01-07T22:41:00Z"}
    answer = client.get(SERIES, params=query)
    assert_problem(answer, 400, "10,001 points")
    assert "from=2026-01-01T00:01:00Z would do" in answer.json()["detail"]
    enough = client.get(SERIES, params=query | {"from": "2026-01-01T00:01:00Z"})
    assert len(enough.json()["points"]) == 10_000


@pytest.mark.parametrize("path", ["", "/clicks", "/clicks/series"])
@pytest.mark.parametrize(
    "code", ["missing", "%00", "a%00", "%FF", "%", "%zz", "%ED%A0%80", "%F0%9F%98%80", "a%0A", "a%20b", "a" * 33]
)
def test_a_code_that_no_link_has_is_a_404(client: httpx.Client, code: str, path: str) -> None:
    assert_problem(client.get(f"{LINKS}/{code}{path}"), 404)
    if not path:
        assert_problem(client.delete(f"{LINKS}/{code}"), 404)
        assert_problem(client.patch(f"{LINKS}/{code}", json={"original_url": GOOD}), 404)


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


def refused() -> list[tuple[str, str]]:
    """Destinations and why they are refused, where the service's own host is that of BASE."""
    return [
        (url.replace("short", "hop").replace("SHORT", "HOP") if reason == "back to this service" else url, reason)
        for url, reason in REFUSED.items()
    ]


@pytest.mark.parametrize(("url", "reason"), refused())
def test_a_bad_destination_is_refused_everywhere_and_nothing_is_stored(
    client: httpx.Client, dsns: CloneDsns, url: str, reason: str
) -> None:
    body = json.dumps({"original_url": url}).encode()
    detail = reason if "\ud800" not in url else ""
    assert_problem(client.post(LINKS, content=body), 400, detail)
    assert_problem(client.put(f"{LINKS}/mine", content=body), 400, detail)
    assert stored(dsns) == []
    client.put(f"{LINKS}/mine", json={"original_url": "https://example.org/"})
    assert_problem(client.patch(f"{LINKS}/mine", content=body), 400, detail)
    assert stored(dsns) == [("mine", "https://example.org/")]


def test_a_batch_stores_what_is_good_among_what_is_refused(client: httpx.Client, dsns: CloneDsns) -> None:
    # A lone surrogate is no JSON text, so that the whole body is refused.
    bad = [(url, reason) for url, reason in refused() if "\ud800" not in url]
    asked = [item for n, (url, _) in enumerate(bad) for item in (url, f"{GOOD}{n}")]
    answer = client.post(BATCH, json={"items": [{"original_url": url} for url in asked]})
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [item["original_url"] for item in items] == asked
    for item, (_, reason) in zip(items[::2], bad, strict=True):
        assert (item["outcome"], item["short_code"], item["short_url"]) == ("invalid", None, None)
        assert reason in item["detail"]
    for item in items[1::2]:
        assert (item["outcome"], item["short_url"], item["detail"]) == (
            "created",
            f"{BASE}/{item['short_code']}",
            None,
        )
    assert stored(dsns) == sorted((item["short_code"], item["original_url"]) for item in items[1::2])


def test_a_batch_says_of_each_code_what_came_of_it(client: httpx.Client, dsns: CloneDsns) -> None:
    client.put(f"{LINKS}/there", json={"original_url": GOOD})
    asked = [
        ("there", f"{GOOD}other", "taken", "'there' is taken"),
        ("there", GOOD, "unchanged", ""),
        ("twice", GOOD, "created", ""),
        ("twice", GOOD, "unchanged", ""),
        ("twice", f"{GOOD}other", "taken", "'twice' is taken"),
        ("Twice", GOOD, "created", ""),
        *((code, GOOD, "invalid", "is reserved") for code in ("api", "API", "batch", "docs", "health", "metrics")),
        *((code, GOOD, "invalid", "1 to 32") for code in ("", "a b", "a/b", "ä", "a" * 33, "a\n", "\x00", "..")),
        ("last", GOOD, "created", ""),
    ]
    answer = client.post(
        BATCH, json={"items": [{"original_url": url, "short_code": code} for code, url, _, _ in asked]}
    )
    items = answer.json()["items"]
    assert [(item["short_code"], item["outcome"]) for item in items] == [
        (code, outcome) for code, _, outcome, _ in asked
    ]
    for item, (_, _, _, detail) in zip(items, asked, strict=True):
        assert (detail in item["detail"]) if detail else item["detail"] is None
    assert stored(dsns) == sorted([("there", GOOD), ("twice", GOOD), ("Twice", GOOD), ("last", GOOD)])


def test_a_batch_has_1_to_1000_links(client: httpx.Client, dsns: CloneDsns) -> None:
    links = [{"original_url": f"{GOOD}{n}/{'a' * 3000}"} for n in range(1001)]  # 3 MiB
    assert_problem(client.post(BATCH, json={"items": []}), 400, "items")
    assert_problem(client.post(BATCH, json={"items": links}), 400, "items")
    assert stored(dsns) == []
    answer = client.post(BATCH, json={"items": links[:1000]})
    assert [item["outcome"] for item in answer.json()["items"]] == ["created"] * 1000
    assert sorted(url for _, url in stored(dsns)) == sorted(link["original_url"] for link in links[:1000])


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
        b'{"original_url": "https://example.org/\\ud800"}',
        b'\xef\xbb\xbf{"original_url": "https://example.org/"}',
        b"[" * 100_000,
        b'{"items":' * 100_000,
        b'{"items": null}',
        b'{"items": {}}',
        b'{"items": ["https://example.org/"]}',
        b'{"items": [{}]}',
        b'{"items": [{"original_url": "https://example.org/"}, null]}',
        b'{"items": [{"original_url": "https://example.org/"}, {"original_url": 7}]}',
        b'{"items": [{"original_url": "https://example.org/"}, {"original_url": "https://example.org/", "id": 7}]}',
        b'{"items": [{"original_url": "https://example.org/"}], "more": 7}',
    ],
)
def test_a_body_that_is_not_a_link_is_a_400(client: httpx.Client, dsns: CloneDsns, body: bytes) -> None:
    for method, path in (("POST", LINKS), ("POST", BATCH), ("PUT", f"{LINKS}/mine"), ("PATCH", f"{LINKS}/mine")):
        answer = client.request(method, path, content=body)
        assert_problem(answer, 400)
        assert "Traceback" not in answer.text
    assert stored(dsns) == []


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "image/png; ;;"])
def test_a_body_is_json_whatever_it_is_called(client: httpx.Client, content_type: str) -> None:
    body = json.dumps({"original_url": GOOD})
    answer = client.put(f"{LINKS}/mine", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "mib"),
    [("POST", LINKS, 1), ("PUT", f"{LINKS}/mine", 1), ("PATCH", f"{LINKS}/mine", 1), ("POST", BATCH, 10)],
)
def test_a_body_that_is_too_long_is_a_413(
    client: httpx.Client, dsns: CloneDsns, method: str, path: str, mib: int
) -> None:
    longest = b'{"original_url": "https://example.org/"}'.ljust(mib * 1024 * 1024)
    body = longest + b" "

    def in_pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    assert_problem(client.request(method, path, content=body), 413)
    assert_problem(client.request(method, path, content=in_pieces()), 413)
    assert stored(dsns) == []
    assert client.request(method, path, content=longest).status_code != 413


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
    for method, path in (
        ("POST", LINKS),
        ("POST", BATCH),
        ("PUT", f"{LINKS}/mine"),
        ("PATCH", f"{LINKS}/mine"),
        ("DELETE", f"{LINKS}/mine"),
    ):
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


@pytest.mark.parametrize("path", ["/api/nothing", "/api/openapi.yaml", "/api/v1", "/api/v1/urls/a/b", "/api/docs/x"])
def test_what_is_not_there_is_a_problem_for_anyone(server: Server, path: str) -> None:
    assert_problem(httpx.get(f"{server.url}{path}"), 404)


def test_the_contract_can_be_read_without_a_key(server: Server) -> None:
    answer = httpx.get(f"{server.url}/api/openapi.json")
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
