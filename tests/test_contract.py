"""The service against its own OpenAPI document, and the page that shows it."""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from service.api import models
from tests.support.postgres import CloneDsns
from tests.support.server import Server
from tests.test_api import BASE, client, dsns, make_key, server, token

__all__ = ["client", "dsns", "server", "token"]  # fixtures

SCHEMATHESIS = Path(sys.executable).with_name("st")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
PROBLEM = "application/problem+json"


@pytest.fixture
def document(server: Server) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{server.url}/api/openapi.json").raise_for_status().json()
    return document


@pytest.mark.parametrize("scope", ["read", "write"])
def test_the_service_keeps_its_contract(server: Server, dsns: CloneDsns, scope: Any, tmp_path: Path) -> None:
    """What is left out stands in schemathesis.toml, with the reasons."""
    done = subprocess.run(
        [
            SCHEMATHESIS, "--config-file", CONFIGURATION, "run", f"{server.url}/api/openapi.json",
            "--url", server.url, "--header", f"Authorization: Bearer {make_key(dsns, f'contract {scope}', scope)}",
            "--max-examples", "50", "--generation-deterministic", "--no-color",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 14" in done.stdout


def within(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a document."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from within(part)


def test_it_says_what_it_is_of(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == version("hopcount")
    assert document["info"]["license"]["identifier"] == "MIT"
    assert document["servers"] == [{"url": BASE}]
    used = {tag for part in within(document["paths"]) for tag in part.get("tags", [])}
    assert used == {tag["name"] for tag in document["tags"] if tag["description"]}


def test_everything_is_described(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (path, method)
            assert operation["description"], (path, method)
            for parameter in operation.get("parameters", []):
                assert parameter["description"], (path, method, parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name


def test_what_is_declared_is_used_and_what_is_used_is_declared(document: dict[str, Any]) -> None:
    declared = {
        f"#/components/{kind}/{name}"
        for kind, parts in document["components"].items()
        if kind != "securitySchemes"
        for name in parts
    }
    assert {part["$ref"] for part in within(document) if "$ref" in part} == declared


def test_it_tells_the_headers_and_the_errors_that_any_call_may_meet(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            answers = operation["responses"]
            if "201" in answers:
                assert "Location" in answers["201"]["headers"]
            if path.startswith("/api/"):
                assert answers.keys() >= {"401", "429", "500", "503"}, (path, method)
                assert ("403" in answers) == (method != "get"), (path, method)
                assert ({"400", "413"} <= answers.keys()) == ("requestBody" in operation), (path, method)
    errors = document["components"]["responses"]
    with_header = {"401": "WWW-Authenticate", "403": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
    for status, answer in errors.items():
        assert status == "414" or answer["headers"].keys() == {"X-Request-ID", with_header.get(status, "X-Request-ID")}


def test_an_address_that_is_too_long_is_answered_as_it_says(server: Server, document: dict[str, Any]) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", f"/api/v1/urls?search={'a' * 64 * 1024}")  # httpx sends none that is so long
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (414, b"")
    connection.close()
    assert "414" in document["paths"]["/api/v1/urls"]["get"]["responses"]


def test_examples_are_what_they_show(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            assert msgspec.convert(example, getattr(models, name))
            assert schema["properties"].keys() >= example.keys()


def test_it_says_which_calls_need_a_key(document: dict[str, Any]) -> None:
    open_calls = {
        path for path, item in document["paths"].items() for operation in item.values() if not operation.get("security")
    }
    assert open_calls == {"/{code}", "/health/live", "/health/ready", "/metrics"}


def test_every_error_is_a_problem_with_an_example(document: dict[str, Any]) -> None:
    named = document["components"]["responses"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["operationId"], (path, method)
            errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            assert errors, (path, method)
            for status, answer in errors.items():
                assert answer == {"$ref": f"#/components/responses/{status}"}, (path, method)
                if status == "414":  # Granian's own
                    assert "content" not in named[status]
                    continue
                assert named[status]["content"][PROBLEM]["example"]["status"] == int(status)


def test_bodies_have_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
            contents += [answer["content"] for answer in operation["responses"].values() if "content" in answer]
            for content in contents:
                for body in content.values():
                    if path == "/metrics":
                        continue
                    name = body["schema"]["$ref"].rpartition("/")[2]
                    assert schemas[name]["examples"], (path, method)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("src", "href") and value]


def test_the_docs_page_loads_from_this_service_only(server: Server) -> None:
    with httpx.Client(base_url=server.url) as visitor:
        page = visitor.get("/api/docs")
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "http" not in policy
        links = Links()
        links.feed(page.text)
        assert len(links.found) == 4
        assert page.text.count("<script") == page.text.count("<script src=")
        for address in links.found:
            if address != "data:,":
                assert visitor.get(f"/api/{address}").status_code == 200, address
        assert visitor.get("/api/docs/redoc.js").status_code == 404
        assert visitor.get("/api/docs/../../etc/passwd").status_code == 404
