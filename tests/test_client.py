"""The Python client against a service in two workers, and against the contract that the service gives out."""

import asyncio
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import httpx
import msgspec
import pytest

from service import client
from service.client import AsyncClient, Call, Client, Link, NewLink, PageCall, Problem
from tests.support.postgres import CloneDsns, TestCluster, execute
from tests.support.server import Server, serving
from tests.test_api import make_key

T = TypeVar("T")

URL = "https://example.org/"
README = Path(__file__).parent.parent / "README.md"


class Sender(Protocol):
    def send(self, call: Call[T]) -> T: ...

    def every(self, call: PageCall[T]) -> Iterator[T]: ...


class Awaited:
    """An AsyncClient whose calls are awaited one by one."""

    def __init__(self, sender: AsyncClient, loop: asyncio.Runner) -> None:
        self._sender = sender
        self._loop = loop

    def send(self, call: Call[T]) -> T:
        return self._loop.run(self._sender.send(call))

    def every(self, call: PageCall[T]) -> Iterator[T]:
        async def walk() -> list[T]:
            return [item async for item in self._sender.every(call)]

        return iter(self._loop.run(walk()))


@pytest.fixture(scope="module")
def dsns(postgres: TestCluster) -> Iterator[CloneDsns]:
    with postgres.clone() as clone:
        yield clone


@pytest.fixture(scope="module")
def server(dsns: CloneDsns) -> Iterator[Server]:
    with serving(database_url=dsns.service, workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def key(dsns: CloneDsns) -> str:
    return make_key(dsns, "client", "write")


@pytest.fixture(params=[Client, AsyncClient])
def sender(request: pytest.FixtureRequest, server: Server, key: str, dsns: CloneDsns) -> Iterator[Sender]:
    """Each of the two, on an empty database."""
    execute(dsns.superuser, "TRUNCATE hopcount.urls, hopcount.clicks")
    if request.param is Client:
        with Client(server.url, key) as made:
            yield made
    else:
        with asyncio.Runner() as loop:
            opened = loop.run(AsyncClient(server.url, key).__aenter__())
            yield Awaited(opened, loop)
            loop.run(opened.close())


def follow(server: Server, code: str, times: int) -> None:
    for _ in range(times):
        assert httpx.get(f"{server.url}/{code}").status_code == 302


def test_a_link_is_made_changed_and_deleted(sender: Sender, server: Server) -> None:
    made = sender.send(client.create(URL))
    assert made.created
    link = made.link
    assert (link.original_url, link.click_count) == (URL, 0)
    assert link.short_url == f"{server.url}/{link.short_code}"
    assert sender.send(client.get(link.short_code)) == link
    changed = sender.send(client.change(link.short_code, f"{URL}new"))
    assert (changed.id, changed.original_url) == (link.id, f"{URL}new")
    sender.send(client.delete(link.short_code))
    with pytest.raises(Problem) as caught:
        sender.send(client.get(link.short_code))
    assert caught.value.status == 404
    assert sender.send(client.create(URL, "mine")).link.short_code == "mine"


def test_put_tells_whether_it_made_the_link(sender: Sender) -> None:
    first, second = (sender.send(client.put("mine", URL + path)) for path in "ab")
    assert (first.created, second.created) == (True, False)
    assert second.link.id == first.link.id
    assert second.link.original_url == f"{URL}b"


def test_a_batch_tells_what_came_of_each(sender: Sender) -> None:
    sender.send(client.put("mine", URL))
    wanted = [NewLink(URL), NewLink(URL, "mine"), NewLink(f"{URL}a", "mine"), NewLink("ftp://example.org/")]
    made = sender.send(client.create_batch(wanted)).items
    assert [item.outcome for item in made] == ["created", "unchanged", "taken", "invalid"]
    assert made[0].short_code is not None
    assert sender.send(client.get(made[0].short_code)).short_url == made[0].short_url
    assert made[3].detail == "Only http and https URLs can be destinations."


def test_every_link_is_walked_over_all_pages(sender: Sender) -> None:
    made = [sender.send(client.create(f"{URL}{number}")).link for number in range(7)]
    for limit in (1, 3, 7, None):
        assert list(sender.every(client.page(limit=limit))) == made[::-1]
    assert list(sender.every(client.page(limit=1, search=f"{URL.upper()}3"))) == [made[3]]
    assert list(sender.every(client.page(search="https://none"))) == []
    first = sender.send(client.page(limit=3))
    assert sender.send(client.page(limit=3, cursor=first.next_cursor)).items == made[3:0:-1]


def test_the_clicks_of_a_link(sender: Sender, server: Server) -> None:
    sender.send(client.put("mine", URL))
    follow(server, "mine", 5)
    logged = list(sender.every(client.clicks("mine", limit=2)))
    assert len(logged) == 5
    assert sorted(logged, key=lambda click: click.id, reverse=True) == logged
    middle = logged[2].clicked_at
    assert list(sender.every(client.clicks("mine", from_=middle))) == [c for c in logged if c.clicked_at >= middle]
    # In another time zone: an offset has a `+`.
    zone = datetime.fromisoformat("2026-01-31T12:00:00+05:30").tzinfo
    until = list(sender.every(client.clicks("mine", to=middle.astimezone(zone))))
    assert until == [c for c in logged if c.clicked_at < middle]


def test_the_series_of_a_link(sender: Sender, server: Server) -> None:
    sender.send(client.put("mine", URL))
    follow(server, "mine", 2)
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    end = start + timedelta(hours=3)
    found = sender.send(client.series("mine", "hour", from_=start, to=end))
    assert (found.interval, found.from_, found.to) == ("hour", start, end)
    assert [point.start for point in found.points] == [start + timedelta(hours=number) for number in range(3)]
    assert sum(point.clicks for point in found.points) == 2
    assert sender.send(client.series("mine")).interval == "day"


def test_health(sender: Sender) -> None:
    assert sender.send(client.live()).status == "ok"
    assert sender.send(client.ready()).status == "ok"


def test_a_refusal_is_a_problem_with_its_reason(sender: Sender) -> None:
    sender.send(client.put("mine", URL))
    with pytest.raises(Problem) as caught:
        sender.send(client.create(f"{URL}a", "mine"))
    problem = caught.value
    assert (problem.status, problem.retry_after, problem.request) == (409, None, "POST /api/v1/urls")
    assert "'mine' is taken" in problem.detail
    assert str(problem) == f"POST /api/v1/urls: 409: {problem.detail}"
    with pytest.raises(Problem, match="GET /api/v1/urls: 400: "):
        list(sender.every(client.page(limit=201)))


def test_a_database_that_is_away_says_when_to_try_again(sender: Sender, dsns: CloneDsns) -> None:
    with serving(database_url=dsns.service) as other, Client(other.url, "none") as reader:
        assert reader.send(client.ready())
        execute(dsns.superuser, "ALTER TABLE hopcount.urls RENAME TO elsewhere")
        try:
            with pytest.raises(Problem) as caught:
                reader.send(client.ready())
        finally:
            execute(dsns.superuser, "ALTER TABLE hopcount.elsewhere RENAME TO urls")
        assert (caught.value.status, caught.value.retry_after) == (503, 1)


@pytest.mark.parametrize("code", ["a b", "a?limit=1", "a#b", "%2e", "ä", "a" * 33, "a\\b", "a&b", "…"])
def test_an_odd_code_is_one_segment_of_the_path(sender: Sender, code: str) -> None:
    with pytest.raises(Problem) as caught:
        sender.send(client.put(code, URL))
    assert caught.value.status == 400
    assert "short code" in caught.value.detail.lower()


@pytest.mark.parametrize("code", ["", ".", "..", "a/clicks", "/"])
def test_a_code_that_would_be_another_call_is_refused(code: str) -> None:
    for call in (client.get, client.delete, client.clicks, client.series):
        with pytest.raises(ValueError, match="can be no short code"):
            call(code)


def test_what_is_no_answer_of_hopcount_is_a_problem(server: Server) -> None:
    with Client(f"{server.url}/elsewhere", "none") as lost, pytest.raises(Problem) as caught:
        lost.send(client.live())
    assert (caught.value.status, caught.value.detail) == (404, "Not Found")
    call = Call("GET", "/health/live", Link)
    with Client(server.url, "none") as reader, pytest.raises(Problem, match="200: this is no answer of Hopcount"):
        reader.send(call)


def test_the_key_is_in_no_text(server: Server, key: str) -> None:
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    with Client(server.url, wrong) as sender:
        texts = [repr(sender), str(sender)]
        with pytest.raises(Problem) as refused:
            sender.send(client.page())
        assert refused.value.status == 401
    with Client("http://127.0.0.1:1", wrong) as sender, pytest.raises(httpx.ConnectError) as unreached:
        sender.send(client.page())
    texts += [repr(unreached.value.request), repr(unreached.value.request.headers)]
    errors: list[BaseException] = [refused.value, unreached.value]
    for unusable in (f"{wrong}\n", f"{wrong}é", f"{wrong} x"):
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match="An API key has") as caught:
                kind(server.url, unusable)
            errors.append(caught.value)
    for error in errors:
        texts += [str(error), repr(error), *traceback.format_exception(error)]
    assert not [text for text in texts if wrong in text]


# The contract. Each call with all that it can be given:

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CODE = "{code}"
CALLS: list[Call[Any]] = [
    client.create(URL, "mine"),
    client.create_batch([NewLink(URL, "mine")]),
    client.put(CODE, URL),
    client.get(CODE),
    client.change(CODE, URL),
    client.delete(CODE),
    client.page(limit=1, cursor="x", search="x"),
    client.clicks(CODE, from_=NOW, to=NOW, limit=1, cursor="x"),
    client.series(CODE, "hour", from_=NOW, to=NOW),
    client.live(),
    client.ready(),
]


@pytest.fixture(scope="module")
def contract(server: Server) -> Any:
    return httpx.get(f"{server.url}/api/openapi.json").json()


def operations(contract: Any) -> dict[tuple[str, str], Any]:
    """Those that the client is for, by method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in contract["paths"].items()
        if path.startswith(("/api/", "/health/"))
        for method, operation in methods.items()
    }


def operation_of(call: Call[Any]) -> tuple[str, str]:
    return call.method, unquote(call.path)


def shape(schema: Any, components: Any) -> Any:
    """What a schema says of the structure of a value: names, types, and what is required."""
    if "$ref" in schema:
        return shape(components[schema["$ref"].rpartition("/")[2]], components)
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return {"one of": sorted((shape(choice, components) for choice in choices), key=repr)}
    if schema.get("type") == "array":
        return [shape(schema["items"], components)]
    if schema.get("type") == "object":
        required = schema.get("required", [])
        return {
            (name, name in required): shape(of_field, components) for name, of_field in schema["properties"].items()
        }
    if "enum" in schema:
        return sorted(schema["enum"])
    form = schema.get("format")
    return schema["type"], form if form in ("date-time", "uuid") else None


def shape_of(kind: Any) -> Any:
    """The same of a type of the client."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="#/{name}")
    return shape(schema, components)


def test_the_client_has_every_operation_of_the_contract(contract: Any) -> None:
    assert sorted(map(operation_of, CALLS)) == sorted(operations(contract))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(operation_of(call)))
def test_a_call_is_as_in_the_contract(contract: Any, call: Call[Any]) -> None:
    operation = operations(contract)[operation_of(call)]
    parameters = operation.get("parameters", [])
    assert set(call.query) == {given["name"] for given in parameters if given["in"] == "query"}

    components = contract["components"]["schemas"]
    if "requestBody" in operation:
        assert call.body is not None
        expected = shape(operation["requestBody"]["content"]["application/json"]["schema"], components)
        assert shape_of(type(call.body)) == expected
    else:
        assert call.body is None

    answered = Link if call.answer is client.Stored else call.answer
    successes = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
    assert successes
    for status, answer in successes.items():
        if status == "204":
            assert answered is type(None)
        else:
            assert shape_of(answered) == shape(answer["content"]["application/json"]["schema"], components)


def test_the_code_in_the_readme_runs(server: Server, key: str, tmp_path: Path) -> None:
    section = README.read_text().partition("\n## From Python\n")[2].partition("\n## ")[0]
    code = "".join(line.removeprefix("    ") for line in re.findall(r"^(?:    .*)?\n", section, re.MULTILINE))
    assert code.strip()
    place = tmp_path / ".hopcount" / "api-key"
    place.parent.mkdir()
    place.write_text(f"{key}\n")
    code = code.replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hello" in done.stdout
