"""What the service logs, and what never stands in a log."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.logs import Formatter
from service.store.connections import translated
from tests.support.postgres import CloneDsns, execute
from tests.support.server import HOPCOUNT, Server, environment, free_port
from tests.test_api import LINKS, make_key

MARK = "secret-destination"


class Logged:
    """A server whose standard error goes to a file."""

    def __init__(self, file: Path, dsns: CloneDsns) -> None:
        self._file = file
        self._dsns = dsns

    def run(self, calls: Any, **settings: object) -> list[dict[str, Any]]:
        """What was logged while `calls(client)` ran and the server ended."""
        port = free_port()
        with self._file.open("w") as stderr:
            process = subprocess.Popen(
                [HOPCOUNT, "serve"],
                env=environment(port=port, database_url=self._dsns.service, **settings),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
            server = Server(process, port)
            try:
                server.await_listening()
                with httpx.Client(base_url=server.url) as client:
                    calls(client)
            finally:
                assert server.stop() == 0
                assert process.stdout is not None
                process.stdout.close()
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def text(self) -> str:
        return self._file.read_text()


@pytest.fixture
def logged(dsns: CloneDsns, tmp_path: Path) -> Logged:
    return Logged(tmp_path / "stderr", dsns)


def test_each_call_of_the_api_is_one_line_and_no_redirect_is(logged: Logged, dsns: CloneDsns) -> None:
    key = {"Authorization": f"Bearer {make_key(dsns, 'reporting', 'write')}"}

    def calls(client: httpx.Client) -> None:
        client.put(f"{LINKS}/a", json={"original_url": "https://example.org/"}, headers=key | {"X-Request-ID": "r-1"})
        client.get("/a")
        client.head("/a")
        client.get("/missing")
        client.post("/a")
        client.get("/health/ready")
        client.get("/metrics")
        client.get(LINKS)

    lines = logged.run(calls, trusted_proxies="10.0.0.0/8")
    assert [line["message"] for line in lines] == ["call", "call"]
    first, second = lines
    assert first["time"]
    assert first["milliseconds"] > 0
    expected = {
        "level": "INFO", "logger": "hopcount.api", "message": "call", "request_id": "r-1", "method": "PUT",
        "route": f"{LINKS}/{{code}}", "code": "a", "status": 201, "key": "reporting", "client": "127.0.0.1",
    }  # fmt: skip
    assert first == expected | {"time": first["time"], "milliseconds": first["milliseconds"]}
    assert (second["status"], second["key"]) == (401, None)


def test_forwarded_addresses_count_only_from_trusted_proxies(logged: Logged) -> None:
    def call(client: httpx.Client) -> None:
        client.get(LINKS, headers={"X-Forwarded-For": "192.0.2.1, 198.51.100.7", "X-Forwarded-Proto": "https"})

    assert logged.run(call)[0]["client"] == "127.0.0.1"
    assert logged.run(call, trusted_proxies="10.0.0.0/8, ::1")[0]["client"] == "127.0.0.1"
    assert logged.run(call, trusted_proxies="127.0.0.0/8")[0]["client"] == "198.51.100.7"


def test_no_key_and_no_destination_stands_in_a_log(logged: Logged, dsns: CloneDsns) -> None:
    token = make_key(dsns, "tests", "write")
    key = {"Authorization": f"Bearer {token}"}
    destination = f"https://example.org/{MARK}"

    def calls(client: httpx.Client) -> None:
        for body in ({"original_url": destination}, {"original_url": f"ftp://{MARK}"}, {MARK: 1}, [MARK]):
            for method, path in (("POST", LINKS), ("PUT", f"{LINKS}/a"), ("PATCH", f"{LINKS}/a")):
                client.request(method, path, json=body, headers=key)
            client.post(f"{LINKS}/batch", json={"items": [body]}, headers=key)
        client.get("/a")
        for search in (destination, f"\x00{MARK}", "\ud800", MARK * 1000):
            client.get(LINKS, params={"search": search.encode("utf-8", "surrogatepass")}, headers=key)
        client.get(LINKS, params={"cursor": MARK}, headers=key)
        client.get(LINKS, headers={"Authorization": f"Bearer {token[:-1]}"})
        client.get(LINKS, params={"key": token})
        for path in (f"{LINKS}/{token}", f"{LINKS}/https:%2F%2F{MARK}.example", f"/api/{MARK}", f"/api/v1/{MARK}/x"):
            client.get(path, headers=key)
        # Now the database fails: first in a way that quotes the row, then altogether.
        execute(dsns.superuser, "ALTER TABLE hopcount.urls ADD CONSTRAINT never CHECK (click_count < 0) NOT VALID")
        assert client.post(LINKS, json={"original_url": destination}, headers=key).status_code == 503
        execute(dsns.superuser, "DROP TABLE hopcount.urls")
        assert client.post(LINKS, json={"original_url": destination}, headers=key).status_code == 503

    lines = logged.run(calls, log_level="debug")
    assert "never" in logged.text
    assert {line["request_id"] for line in lines if line["level"] == "WARNING"} <= {
        line["request_id"] for line in lines if line["message"] == "call"
    }
    assert MARK not in logged.text
    assert token[:-1] not in logged.text
    assert token[-20:] not in logged.text


def test_a_higher_level_leaves_calls_out(logged: Logged) -> None:
    assert logged.run(lambda client: client.get(LINKS), log_level="warning") == []


def test_of_an_exception_only_its_type_and_place_are_logged() -> None:
    try:
        raise ValueError(MARK)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", None, sys.exc_info())
    text = Formatter().format(record)
    assert MARK not in text
    assert "ValueError" in text
    assert "test_logs.py" in text


def test_postgresql_quotes_no_value() -> None:
    quoting = asyncpg.InvalidTextRepresentationError(f'invalid input syntax for type uuid: "{MARK}"')
    assert MARK not in str(translated(quoting))
