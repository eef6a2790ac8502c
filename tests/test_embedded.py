"""`hopcount serve` on its embedded PostgreSQL, with real processes and real signals."""

import asyncio
import errno
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import psutil
import pytest

from service import embedded
from service.locks import LockFile
from service.postgres import Account, Cluster
from service.store import partitions
from service.store.partitions import Month
from tests.support.postgres import execute, fetch, reachable_dir
from tests.support.server import HOPCOUNT, Server, environment, free_port, hopcount, serving
from tests.support.traffic import Tally, drive
from tests.support.waiting import until
from tests.test_promises import Endless, verify

LINKS = "/api/v1/urls"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with reachable_dir() as place:
        yield place / "data"
        assert postmaster(place / "data") is None, "a PostgreSQL was left running"


def postmaster(data_dir: Path) -> psutil.Process | None:
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
    try:
        return psutil.Process(int(pid_file.read_text().split()[0]))
    except (OSError, psutil.NoSuchProcess):
        return None


def client(server: Server, data_dir: Path) -> httpx.Client:
    token = (data_dir / "api-key").read_text().strip()
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"})


def make_links(server: Server, data_dir: Path, number: int) -> list[str]:
    codes = [f"link-{n}" for n in range(number)]
    with client(server, data_dir) as api:
        for code in codes:
            answer = api.put(f"{LINKS}/{code}", json={"original_url": f"https://example.org/{code}"})
            assert answer.status_code == 201
    return codes


@contextmanager
def superuser_dsn(data_dir: Path) -> Iterator[str]:
    """Into the running database; nothing is started or stopped for it."""
    passwords = dict(line.split(":")[3:5] for line in (data_dir / "pgpass").read_text().splitlines())
    sockets = (data_dir / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[4]
    yield f"postgresql://postgres:{passwords['postgres']}@/hopcount?host={sockets}"


async def check_counts(data_dir: Path, tally: Tally, codes: list[str]) -> None:
    with superuser_dsn(data_dir) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await verify(connection, tally, codes, exact=False)
        finally:
            await connection.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_and_a_second_start(data_dir: Path) -> None:
    with serving(data_dir=data_dir, workers=2) as server:
        (code,) = make_links(server, data_dir, 1)
        assert httpx.get(f"{server.url}/{code}").status_code == 302
        token = (data_dir / "api-key").read_text()
        running = postmaster(data_dir)
        assert running is not None
        # Other commands use the database that runs, and leave it running.
        stats = hopcount("urls", "stats", settings={"data_dir": data_dir})
        assert stats.stdout.startswith("1 links, 1 clicks\n")
        assert postmaster(data_dir) == running
        assert server.stop() == 0
    assert postmaster(data_dir) is None

    with serving(data_dir=data_dir, workers=2) as server, client(server, data_dir) as api:
        assert (data_dir / "api-key").read_text() == token
        assert api.get(f"{LINKS}/{code}").json()["click_count"] == 1


def test_it_is_for_its_owner_alone_and_durable(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o755)
    with serving(data_dir=data_dir), superuser_dsn(data_dir) as dsn:
        assert mode(data_dir) == 0o755, "the mode of a directory that was there has been changed"
        for private in ("api-key", "pgpass", "lock"):
            assert mode(data_dir / private) == 0o600, private
            assert (data_dir / private).stat().st_uid == os.getuid()
        for private in ("postgres", "postgres/data", "postgres/run", "postgres/log"):
            assert mode(data_dir / private) == 0o700, private
        rules = (data_dir / "postgres/data/pg_hba.conf").read_text().splitlines()
        methods = {line.split()[-1] for line in rules if line and not line.startswith("#")}
        assert methods == {"scram-sha-256"}
        process = postmaster(data_dir)
        assert process is not None
        assert process.uids().effective != 0
        assert [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN] == []

        async def ask() -> dict[str, str]:
            connection = await asyncpg.connect(dsn)
            try:
                rows = await connection.fetch("SELECT name, setting FROM pg_settings")
                return {row[0]: row[1] for row in rows}
            finally:
                await connection.close()

        settings = asyncio.run(ask())
        for durable in ("fsync", "synchronous_commit", "full_page_writes"):
            assert settings[durable] == "on"
        assert settings["data_checksums"] == "on"
        assert settings["min_wal_size"] == settings["max_wal_size"], "segments are removed, and made anew under load"


def test_a_second_service_on_the_same_directory_is_refused(data_dir: Path) -> None:
    with serving(data_dir=data_dir) as server:
        second = hopcount("serve", settings={"data_dir": data_dir, "port": free_port()})
        assert second.returncode == 1
        assert second.stderr == f"hopcount: another `hopcount serve` runs on {data_dir}\n"
        assert httpx.get(f"{server.url}/health/ready").status_code == 200


def test_a_port_that_is_taken_is_refused(data_dir: Path) -> None:
    with serving(data_dir=data_dir) as server:
        second = hopcount("serve", settings={"data_dir": data_dir / "other", "port": server.port})
        assert second.returncode == 1
        assert second.stderr == f"hopcount: cannot listen on 127.0.0.1:{server.port}: Address already in use\n"
        assert not (data_dir / "other").exists()


@asynccontextmanager
async def traffic(server: Server, codes: list[str]) -> AsyncIterator[Tally]:
    """Clients that have had 500 redirects, and go on until the block ends."""
    tally, endless = Tally(), Endless(codes)
    driving = asyncio.create_task(drive(server.port, endless, tally=tally))
    await until(lambda: tally.redirected.total() >= 500)
    try:
        yield tally
    finally:
        endless.stop()
        driving.cancel()
        with suppress(asyncio.CancelledError):
            await driving


async def test_kill_9_of_the_service(data_dir: Path) -> None:
    """What was answered is counted; the next start adopts the database that was left running."""
    with serving(data_dir=data_dir, workers=2) as server:
        codes = make_links(server, data_dir, 20)
        left = postmaster(data_dir)
        workers = server.workers
        async with traffic(server, codes) as tally:
            server.kill()
            await until(lambda: not any(worker.is_running() for worker in workers))
        assert left is not None
        assert postmaster(data_dir) == left
    with serving(data_dir=data_dir, workers=2) as server:
        assert postmaster(data_dir) == left
        await check_counts(data_dir, tally, codes)
        assert set((await drive(server.port, codes)).statuses) == {302}


async def test_kill_9_of_postgresql(data_dir: Path) -> None:
    """It is started again, the service goes on by itself, and what was answered is counted."""
    with serving(data_dir=data_dir, workers=2) as server:
        codes = make_links(server, data_dir, 20)
        killed = postmaster(data_dir)
        assert killed is not None
        async with traffic(server, codes) as tally:
            killed.kill()
            await until(lambda: postmaster(data_dir) not in (None, killed))
            restarted_at = tally.redirected.total()
            await until(lambda: tally.redirected.total() >= restarted_at + 500)
        await check_counts(data_dir, tally, codes)
        assert set(tally.statuses) <= {302, 503}


def test_a_recovery_that_takes_long_is_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Account.run

    def impatient(self: Account, command: list[str], directory: Path | None = None) -> CompletedProcess[str]:
        done = run(self, command, directory)
        if command[1] == "start":
            done.returncode = 1  # as pg_ctl says it when its time is over and the server still works on it
        return done

    monkeypatch.setattr(Account, "run", impatient)
    with embedded.running(data_dir) as running:
        assert running.pid is not None


def test_a_long_path_keeps_its_socket_when_postgresql_comes_back(data_dir: Path) -> None:
    place = data_dir / ("x" * 80)
    with embedded.running(place) as running:
        first = running.dsn("postgres")
    with embedded.running(place) as running:
        assert running.dsn("postgres") == first
        sockets = Path((place / "postgres" / "run" / "elsewhere").readlink())
        assert mode(sockets) == 0o700


async def test_postgresql_is_tried_again_where_starting_it_failed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Cluster.start
    tries: list[int] = []

    def on_a_full_disk(self: Cluster, connections: int) -> None:
        tries.append(connections)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        start(self, connections)

    def watch() -> None:
        with embedded.running(data_dir) as running:
            monkeypatch.setattr(Cluster, "start", on_a_full_disk)
            killed = postmaster(data_dir)
            assert killed is not None
            with running.watched(0):
                killed.kill()
                asyncio.run(until(lambda: postmaster(data_dir) not in (None, killed)))

    await asyncio.to_thread(watch)
    assert len(tries) == 2


def test_a_month_that_came_too_late_keeps_nothing_from_starting(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = Month.of(datetime.now(UTC))
    with embedded.running(data_dir) as running:
        running.deploy()
        dsn = running.dsn("postgres")
        execute(dsn, f"DROP TABLE {month.table}")
        for number in range(2):
            execute(dsn, f"INSERT INTO hopcount.clicks VALUES ('{UUID(int=month.first_id.int + number)}', 'a')")
        monkeypatch.setattr(partitions, "MOVED_AT_ONCE", 1)
        running.deploy()
        assert fetch(dsn, "SELECT count(*) FROM hopcount.clicks_default")[0][0] == 2


async def test_kill_9_of_both(data_dir: Path) -> None:
    with serving(data_dir=data_dir, workers=2) as server:
        codes = make_links(server, data_dir, 20)
        killed = postmaster(data_dir)
        assert killed is not None
        workers = server.workers
        async with traffic(server, codes) as tally:
            server.process.kill()
            killed.kill()
            server.process.wait()
            await until(lambda: not any(worker.is_running() for worker in workers))
    with serving(data_dir=data_dir, workers=2):
        await check_counts(data_dir, tally, codes)


async def test_sigterm_finishes_what_is_in_flight(data_dir: Path) -> None:
    with serving(data_dir=data_dir, workers=2) as server:
        codes = make_links(server, data_dir, 20)
        async with traffic(server, codes) as tally:
            server.process.terminate()
            await until(lambda: server.process.poll() is not None)
        assert server.process.returncode == 0
        assert set(tally.statuses) == {302}
    with serving(data_dir=data_dir):
        await check_counts(data_dir, tally, codes)


def test_it_works_where_the_account_of_postgresql_cannot_look(tmp_path: Path) -> None:
    """As from a checkout under /root: no mode is loosened, the cluster lies elsewhere if it must."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "data"
    before = mode(closed)
    with serving(data_dir=data_dir) as server:
        make_links(server, data_dir, 1)
        place = (data_dir / "postgres").resolve()
    assert mode(closed) == before
    try:
        assert postmaster(data_dir) is None
        assert mode(place) == 0o700
    finally:
        subprocess.run(["rm", "-rf", place], check=True)


def test_without_sqitch_it_says_what_to_install(data_dir: Path) -> None:
    done = subprocess.run(
        [HOPCOUNT, "serve"],
        env=environment(data_dir=data_dir, port=free_port()) | {"PATH": str(HOPCOUNT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("hopcount: sqitch is not installed.")
    assert "Traceback" not in done.stderr


def test_a_data_directory_that_cannot_be_made(data_dir: Path) -> None:
    data_dir.write_text("a file")
    done = hopcount("urls", "stats", settings={"data_dir": data_dir})
    assert done.returncode == 1
    assert done.stderr.startswith(f"hopcount: the data directory {data_dir} cannot be used")


def test_a_schema_that_is_not_there_is_named(data_dir: Path) -> None:
    with embedded.running(data_dir) as running:
        refused: Any = hopcount("serve", settings={"database_url": running.administrator_dsn, "port": free_port()})
        assert refused.returncode == 1
        assert "hopcount.urls is missing" in refused.stderr
        assert "sqitch deploy" in refused.stderr


def test_the_last_user_stops_the_database(data_dir: Path) -> None:
    with embedded.running(data_dir):
        assert hopcount("urls", "stats", settings={"data_dir": data_dir}).returncode == 1  # no schema yet
        assert postmaster(data_dir) is not None
    assert postmaster(data_dir) is None


def test_locks_of_a_process_end_with_it(data_dir: Path) -> None:
    data_dir.mkdir()
    with LockFile(data_dir / "lock") as lock:
        assert lock.start_serving()
    with LockFile(data_dir / "lock") as lock:
        assert lock.start_serving()
