"""What /metrics shows, over all workers: exactly what the clients saw."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics, _AllWorkers
from service.settings import Settings
from service.store.connections import Database
from service.store.keys import Keys
from service.store.urls import New, Urls
from tests.support.postgres import CloneDsns, TestCluster, execute
from tests.support.server import HOPCOUNT, Server, environment, free_port, serving
from tests.support.waiting import until

LINKS = "/api/v1/urls"

Samples = dict[tuple[str, ...], float]


@pytest.fixture
async def server(dsns: CloneDsns, database: Database) -> AsyncIterator[Server]:
    await Urls(database).create(New("a", "https://a.example/"))
    with serving(database_url=dsns.service, workers=2) as running:
        yield running


@pytest.fixture
async def token(as_owner: Database) -> str:
    return await Keys(as_owner).create("tests", "write")


def scrape(server: Server) -> Samples:
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def samples(text: str) -> Samples:
    """By name and the values of the labels, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counters(found: Samples) -> Samples:
    """Those that must never fall."""
    return {name: value for name, value in found.items() if name[0].endswith(("_total", "_count", "_sum", "_bucket"))}


def traffic(server: Server, token: str, number: int) -> None:
    """`number` of each kind of call, each on a connection of its own, and so in either worker."""
    calls = [
        ("GET", "/a", 302),
        ("GET", "/missing", 404),
        ("HEAD", "/a", 302),
        ("HEAD", "/missing", 404),
        ("POST", "/a", 405),
        ("GET", f"{LINKS}/a", 200),
        ("GET", f"{LINKS}/missing", 404),
        ("DELETE", LINKS, 405),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/health/live", 200),
    ]

    def call(kind: tuple[str, str, int]) -> None:
        method, path, status = kind
        answer = httpx.request(method, server.url + path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, (kind, answer.text)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, calls * number))


def assert_counts(found: Samples, number: int) -> None:
    redirects = {name[1:]: value for name, value in found.items() if name[0] == "hopcount_redirects_total"}
    assert redirects == {
        ("GET", "302"): number,
        ("GET", "404"): number,
        ("GET", "503"): 0,
        ("HEAD", "302"): number,
        ("HEAD", "404"): number,
        ("HEAD", "503"): 0,
        ("other", "405"): number,
    }
    calls = {name[1:]: value for name, value in found.items() if name[0] == "hopcount_api_requests_total"}
    assert calls == {
        ("GET", f"{LINKS}/{{code}}", "200"): number,
        ("GET", f"{LINKS}/{{code}}", "404"): number,
        ("DELETE", "none", "405"): number,
        ("GET", "none", "404"): number,
    }
    assert found["hopcount_api_request_seconds_count", f"{LINKS}/{{code}}"] == 2 * number
    assert found["hopcount_batch_size_sum",] == 2 * number
    assert found["hopcount_batch_size_count",] == found["hopcount_statement_seconds_count",]
    assert found["hopcount_shed_requests_total",] == 0


async def test_a_scrape_of_any_worker_shows_what_the_clients_received_also_after_a_kill(
    server: Server, token: str
) -> None:
    await asyncio.to_thread(traffic, server, token, 20)
    before = scrape(server)
    assert_counts(before, 20)

    victim = server.workers[0]
    victim.kill()
    await until(lambda: len(server.workers) == 2 and victim not in server.workers)
    after = scrape(server)
    assert after.keys() >= before.keys()
    for name, value in counters(before).items():
        assert after[name] >= value, f"{name} fell"
    await until(lambda: answering(server) == 2)
    assert_counts(scrape(server), 20)

    await asyncio.to_thread(traffic, server, token, 20)
    assert_counts(scrape(server), 40)


def answering(server: Server) -> int:
    """Workers that listen."""
    return sum(bool(worker.net_connections("tcp")) for worker in server.workers)


async def test_what_waits_and_the_connections_are_added_up(server: Server, dsns: CloneDsns, token: str) -> None:
    await asyncio.to_thread(traffic, server, token, 20)
    # The gauges of the worker that is not asked may be a second old.
    await until(lambda: scrape(server)["hopcount_waiting_requests",] == 0)
    await until(lambda: scrape(server)["hopcount_pool_connections_in_use",] == 0)
    await until(lambda: 2 <= scrape(server)["hopcount_pool_connections",] <= 2 * Settings().pool_size)


async def test_redirects_that_come_to_nothing(dsns: CloneDsns, postgres: TestCluster) -> None:
    with serving(database_url=dsns.service, workers=2, deadline=1, queue_limit=3) as server:
        found = scrape(server)
        for reason in ("InDoubt", "RolledBack", "RowLocked", "Unavailable"):
            assert found["hopcount_statement_retries_total", reason] == 0
        for away in (
            f"ALTER DATABASE {dsns.name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{dsns.name}'",
        ):
            await asyncio.to_thread(execute, postgres.maintenance, away)
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            answers = await asyncio.gather(*(client.get("/a") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        found = scrape(server)
        shed = found["hopcount_shed_requests_total",]
        assert found["hopcount_redirects_total", "GET", "503"] == 20
        assert 20 - 2 * 3 <= shed < 20
        assert any(name == "hopcount_statement_retries_total" and value for (name, *_), value in found.items())
        await until(lambda: scrape(server)["hopcount_waiting_requests",] == 0)


def test_of_the_dead_the_counters_stay(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from service.metrics import Metrics\n"
        "metrics = Metrics(302, Path(sys.argv[1])); metrics.redirects.answered(3, 0)\n"
        "metrics.follow('hopcount_waiting_requests', 'x', lambda: 7.0); metrics._look()"
    )
    subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    assert list(tmp_path.glob("gauge_*"))
    (tmp_path / "counter_1.db").touch()  # a worker that was killed as it began
    shown = samples(generate_latest(_AllWorkers(tmp_path)).decode())
    assert shown["hopcount_redirects_total", "GET", "302"] == 3
    assert ("hopcount_waiting_requests",) not in shown


async def test_one_process_needs_no_directory() -> None:
    metrics = Metrics(301)
    metrics.redirects.answered(2, 1)
    metrics.follow("hopcount_waiting_requests", "Waiting.", lambda: 7)
    async with metrics:
        found = samples((await metrics.exposition()).decode())
    assert found["hopcount_redirects_total", "GET", "301"] == 2
    assert found["hopcount_redirects_total", "GET", "404"] == 1
    assert found["hopcount_waiting_requests",] == 7


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
async def test_the_directory_goes_with_the_service(
    dsns: CloneDsns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Server], object]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(database_url=dsns.service, workers=2) as server:
        assert await asyncio.to_thread(lambda: list(tmp_path.glob("hopcount-metrics-*/*.db")))
        workers = server.workers
        end(server)
        await until(lambda: not any(worker.is_running() for worker in workers))
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


async def test_a_worker_that_is_starting_ends_with_its_service(dsns: CloneDsns, tmp_path: Path) -> None:
    """It has no handler of its own for SIGTERM yet."""
    process = await asyncio.create_subprocess_exec(
        HOPCOUNT, "serve", stdout=asyncio.subprocess.DEVNULL,
        env=environment(database_url=dsns.service, port=free_port()) | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    service = psutil.Process(process.pid)
    await until(lambda: bool(service.children()))
    (worker,) = service.children()
    worker.suspend()
    process.kill()
    await process.wait()
    worker.resume()
    await until(lambda: not worker.is_running())
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
