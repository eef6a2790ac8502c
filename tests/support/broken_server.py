"""A small Hopcount in memory that can be told to break a promise: what the verdict has to notice."""

import itertools
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from loadtest.keys import code, destination

Fault = Literal["none", "loses counts", "stale", "skips", "repeats", "finds nothing", "takes nothing"]

_LINKS = "/api/v1/urls"
_NOW_AND_THEN = 0.2


class _State:
    def __init__(self, links: int, fault: Fault) -> None:
        self.fault = fault
        self.lock = threading.Lock()
        self._ids = itertools.count(1)
        self.links: dict[str, dict[str, Any]] = {}
        self.before: dict[str, str] = {}
        for number in range(links):
            self.put(code(number), destination(code(number)))

    def put(self, short_code: str, url: str) -> None:
        link = {"id": f"{next(self._ids):08}", "short_code": short_code, "original_url": url, "click_count": 0}
        self.links[short_code] = link

    def now_and_then(self, fault: Fault) -> bool:
        return self.fault == fault and random.random() < _NOW_AND_THEN  # noqa: S311

    def page(self, limit: int, before: str) -> dict[str, Any]:
        newest = sorted(self.links.values(), key=lambda link: link["id"], reverse=True)
        found = [dict(link) for link in newest if link["id"] < before][: limit + 1]
        more = len(found) > limit
        items = found[:limit]
        cursor = items[-1]["id"] if more else None
        if more and self.now_and_then("skips"):
            items.pop(0)
        if more and self.now_and_then("repeats"):
            items[-1] = items[0]
        return {"items": items, "next_cursor": cursor}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: _State

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:  # as the library names it
        url = urlsplit(self.path)
        with self.state.lock:
            if url.path == _LINKS:
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                self._answer(200, self.state.page(int(query["limit"]), query.get("cursor", "~")))
                return
            link = self.state.links.get(url.path.rpartition("/")[2])
            if link is None or self.state.now_and_then("finds nothing"):
                self._answer(404)
            elif url.path.startswith(_LINKS):
                self._answer(200, link)
            else:
                link["click_count"] += not self.state.now_and_then("loses counts")
                current = link["original_url"]
                stale = self.state.before.get(link["short_code"], current)
                self._answer(302, location=stale if self.state.now_and_then("stale") else current)

    def do_POST(self) -> None:
        body = self._body()
        if self.state.fault == "takes nothing":
            self._answer(403)
            return
        with self.state.lock:
            self.state.put(body["short_code"], body["original_url"])
        self._answer(201)

    def do_PATCH(self) -> None:
        body = self._body()
        with self.state.lock:
            link = self.state.links[self.path.rpartition("/")[2]]
            self.state.before[link["short_code"]] = link["original_url"]
            link["original_url"] = body["original_url"]
        self._answer(200, {})

    def do_DELETE(self) -> None:
        with self.state.lock:
            del self.state.links[self.path.rpartition("/")[2]]
        self._answer(204)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def _answer(self, status: int, body: Any = None, location: str | None = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.send_header("content-type", "application/json")
        if location is not None:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(content)


class BrokenServer:
    def __init__(self, url: str, state: _State) -> None:
        self.url = url
        self._state = state

    @property
    def clicks(self) -> int:
        return sum(link["click_count"] for link in self._state.links.values())


@contextmanager
def broken_server(links: int, fault: Fault) -> Iterator["BrokenServer"]:
    """`fault` happens now and then."""
    state = _State(links, fault)
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield BrokenServer(f"http://127.0.0.1:{server.server_port}", state)
        server.shutdown()
