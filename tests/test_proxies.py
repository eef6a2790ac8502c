"""The service behind the proxies of `deploy/proxies/`, as they are configured there."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat, takewhile
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.postgres import CloneDsns, TestCluster, reachable_dir
from tests.support.server import Server, free_port, serving
from tests.support.traffic import Tally, drive
from tests.support.waiting import until
from tests.test_api import LINKS, make_key

Kind = tuple[Callable[[Path, Path], list[str]], str]
"""The command that starts it, and its configuration."""

PROXIES = Path(__file__).parent.parent / "deploy" / "proxies"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/opt/homebrew/bin"
"""Debian has servers in /usr/sbin, which is not everybody's PATH."""
LONGEST = "https://example.org/" + "a" * (8192 - len("https://example.org/"))


def nginx(place: Path, configuration: Path) -> list[str]:
    """The command of nginx with that file in its `http` block."""
    main = place / "main.conf"
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main.write_text(
        f"daemon off; pid {place}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {configuration}; }}\n"
    )
    return ["nginx", "-p", str(place), "-c", str(main)]


def haproxy(place: Path, configuration: Path) -> list[str]:
    return ["haproxy", "-db", "-q", "-f", str(configuration)]


def caddy(place: Path, configuration: Path) -> list[str]:
    return ["caddy", "run", "--config", str(configuration), "--adapter", "caddyfile"]


class Proxied:
    """A service, and a proxy before it."""

    def __init__(self, server: Server, log: Path, port: int, key: str) -> None:
        self.server = server
        self.log = log
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.key = {"Authorization": f"Bearer {key}"}

    def count(self, code: str) -> int:
        found: int = httpx.get(f"{self.server.url}{LINKS}/{code}", headers=self.key).json()["click_count"]
        return found

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Through the proxy."""
        return httpx.request(method, self.url + path, **more)


@pytest.fixture(scope="module")
def dsns(postgres: TestCluster) -> Iterator[CloneDsns]:
    with postgres.clone() as clone:
        yield clone


@contextmanager
def running(kind: Kind, place: Path, *upstreams: int) -> Iterator[int]:
    """A proxy as it is configured, before the `upstreams`: its port."""
    start, file = kind
    port = free_port()
    text = re.sub(r":808\d\b", f":{port}", (PROXIES / file).read_text())
    for example, upstream in zip((8000, 8001), upstreams, strict=False):
        text = text.replace(f"# server two 127.0.0.1:{example}", f"server two 127.0.0.1:{upstream}")
        text = text.replace(f"# server 127.0.0.1:{example}", f"server 127.0.0.1:{upstream}")
        text = text.replace(f"127.0.0.1:{example}", f"127.0.0.1:{upstream}")
    (place / file).write_text(text)
    process = subprocess.Popen(
        start(place, place / file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": PATH, "HOME": str(place)},
    )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (start, file),
            id=start.__name__,
            marks=pytest.mark.skipif(
                shutil.which(start.__name__, path=PATH) is None, reason=f"{start.__name__} is not installed"
            ),
        )
        for start, file in ((nginx, "nginx.conf"), (haproxy, "haproxy.cfg"), (caddy, "Caddyfile"))
    ],
)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="module")
def proxied(kind: Kind, dsns: CloneDsns) -> Iterator[Proxied]:
    with (
        reachable_dir() as place,
        (place / "log").open("w") as log,
        serving(database_url=dsns.service, workers=2, trusted_proxies="127.0.0.1", log=log) as server,
        running(kind, place, server.port) as port,
    ):
        yield Proxied(server, place / "log", port, make_key(dsns, kind[0].__name__, "write"))


async def listens(port: int) -> None:
    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
        except httpx.TransportError:
            return False

    await until(answers)


@pytest.fixture
async def link(proxied: Proxied) -> str:
    """A link of the test's own; the proxy listens."""
    await listens(proxied.port)
    code = uuid4().hex
    made = proxied.call("PUT", f"{LINKS}/{code}", json={"original_url": LONGEST}, headers=proxied.key)
    assert made.status_code == 201, made.text
    return code


class Forgetful:
    """A server that answers, and keeps connections, but closes them when it is asked for what is lost."""

    def __init__(self) -> None:
        self.lost = 0
        self.kept: set[asyncio.StreamWriter] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.kept.add(writer)
        with suppress(asyncio.IncompleteReadError, OSError):
            while b"/lost" not in await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            self.lost += 1
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self.kept.remove(writer)


async def test_a_request_that_got_no_answer_is_not_sent_again(kind: Kind) -> None:
    """It may have been counted. On a fresh connection and on one that was kept, with another server to go to."""
    forgetful = Forgetful()
    with reachable_dir() as place:
        async with (
            await asyncio.start_server(forgetful, "127.0.0.1") as one,
            await asyncio.start_server(forgetful, "127.0.0.1") as two,
        ):
            with running(kind, place, *(server.sockets[0].getsockname()[1] for server in (one, two))) as port:
                await asyncio.to_thread(asyncio.run, listens(port))
                for asked in range(1, 5):
                    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                        assert (await client.get("/there")).status_code == 200
                        with suppress(httpx.RemoteProtocolError):  # HAProxy's answer, on a connection that was kept
                            assert (await client.get("/lost")).status_code == 502
                    assert forgetful.lost == asked
            await until(lambda: not forgetful.kept)


async def test_one_request_is_one_click_also_with_the_longest_location(proxied: Proxied, link: str) -> None:
    tally = await drive(proxied.port, repeat(link, 1000), connections=32)
    assert tally.statuses == {302: 1000}
    assert tally.destinations[link] == {LONGEST}
    assert proxied.count(link) == 1000


async def test_nothing_is_counted_twice_or_lost_while_a_worker_dies(proxied: Proxied, link: str) -> None:
    tally, over = Tally(), False
    codes = takewhile(lambda _: not over, repeat(link))
    traffic = asyncio.create_task(drive(proxied.port, codes, connections=32, tally=tally))
    for _ in range(5):
        before = tally.redirected.total()
        await until(lambda before=before: tally.redirected.total() >= before + 300)  # type: ignore[misc]
        proxied.server.workers[0].kill()
    before = tally.redirected.total()
    await until(lambda: tally.redirected.total() >= before + 300)
    over = True
    await traffic
    assert tally.redirected[link] <= proxied.count(link) <= tally.sent[link]


async def test_the_address_of_the_client_is_the_one_that_the_proxy_saw(proxied: Proxied, link: str) -> None:
    claimed = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "from-the-client"}
    assert proxied.call("GET", f"{LINKS}/{link}", headers=proxied.key | claimed).status_code == 200

    def logged() -> list[str]:
        lines = [json.loads(line) for line in proxied.log.read_text().splitlines() if line.endswith("}")]
        return [line["client"] for line in lines if line.get("request_id") == "from-the-client"]

    await until(lambda: bool(logged()))
    assert set(logged()) == {"127.0.0.1"}


async def test_the_metrics_are_not_for_strangers(proxied: Proxied, link: str) -> None:
    assert proxied.call("GET", "/metrics").status_code == 404
