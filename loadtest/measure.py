"""Measuring cells in alternation, each on a fresh server."""

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
import psutil
from uuid_utils import uuid7

from loadtest import bundle, generator, observe, seed, starting, variants, wrk
from loadtest.bundle import Cell, Cost, Result, Run
from loadtest.generator import Generated, Load
from loadtest.keys import Keys
from loadtest.observe import Activity, Observed
from loadtest.starting import Postgres, Role
from loadtest.tally import Tally
from loadtest.verdict import Verdict, judge, judge_totals
from loadtest.wrk import Capacity

CONNECTIONS = 200
"""That PostgreSQL is set up for."""
NEARLY_ALL = 0.9
"""Of a core: a generator that uses more is the limit."""

GeneratorName = Literal["wrk", "own"]
OnProgress = Callable[[str], None]


class GeneratorError(Exception):
    """The load generator ended without a result."""


FAILURES = (
    GeneratorError, variants.InvalidVariant, starting.StartError, subprocess.CalledProcessError, OSError,
    asyncpg.PostgresError, asyncpg.InterfaceError,
)  # fmt: skip
"""What can go wrong while something is measured."""


class Plan(msgspec.Struct, frozen=True):
    """What to measure, and for how long."""

    scenario: str
    command: str
    cells: list[Cell]
    rounds: int
    seconds: float
    warm_up: float
    generator: GeneratorName


class Bench:
    """A PostgreSQL with one database for each number of links."""

    def __init__(self, running: Postgres) -> None:
        self._running = running
        self._databases: set[str] = set()

    def prepare(self, links: int, on_progress: Callable[[int], None]) -> None:
        """See that the database of `links` links is there, with no clicks in it."""
        name = _database(links)
        asyncio.run(self._create(name))
        asyncio.run(seed.seed(self._dsn("administrator", name), links, on_progress))
        self._databases.add(name)

    def new_key(self, links: int) -> str:
        """An API key that may write."""
        made = subprocess.run(
            [sys.executable, "-c", "from service.cli import main; main()", "keys", "create", f"load {uuid7()}",
             "--database-url", self._dsn("administrator", _database(links))],
            cwd=variants.ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return made.stdout.strip()

    def service_dsn(self, links: int) -> str:
        return self._dsn("service", _database(links))

    def superuser_dsn(self, links: int) -> str:
        return self._dsn("superuser", _database(links))

    @property
    def cpu_seconds(self) -> float:
        """Of all processes of PostgreSQL that are there."""
        main = psutil.Process(self._running.pid)
        return variants.cpu_seconds([main, *main.children()])

    def _dsn(self, role: Role, database: str) -> str:
        return self._running.dsn(role, database)

    async def _create(self, name: str) -> None:
        connection = await asyncpg.connect(self._dsn("superuser", "postgres"))
        try:
            there = await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name)
            if there and await self._deployed(name) != await self._deployed("hopcount"):
                await connection.execute(f"DROP DATABASE {name}")
                there = False
            if not there:
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE hopcount OWNER hopcount_admin")
        finally:
            await connection.close()
        connection = await asyncpg.connect(self._dsn("superuser", name))
        try:
            await connection.execute("TRUNCATE hopcount.clicks")
            await connection.execute("UPDATE hopcount.urls SET click_count = 0 WHERE click_count > 0")
            await connection.execute("VACUUM ANALYZE hopcount.urls")
        finally:
            await connection.close()

    async def _deployed(self, name: str) -> list[str]:
        """The changes of the schema that a database has."""
        connection = await asyncpg.connect(self._dsn("superuser", name))
        try:
            return [row[0] for row in await connection.fetch("SELECT change_id FROM sqitch.changes ORDER BY 1")]
        finally:
            await connection.close()


def _database(links: int) -> str:
    return f"links_{links}"


@contextmanager
def bench(data_dir: Path) -> Iterator[Bench]:
    with starting.postgres(data_dir, CONNECTIONS) as running:
        yield Bench(running)


def carry_out(plan: Plan, data_dir: Path, on_progress: OnProgress, on_run: Callable[[], None]) -> Result:
    """Measure every cell of `plan` in every round, in a random order within each.

    Interrupted, it returns what it has, not complete; so it does after one of FAILURES, which it raises where
    nothing was measured yet.
    """
    with bench(data_dir) as database:
        for links in sorted({cell.keys.links for cell in plan.cells}):
            on_progress(f"seeding {links:,} links")
            database.prepare(links, lambda done: on_progress(f"seeding: {done:,} links"))
        any_links = plan.cells[0].keys.links
        result = Result(
            scenario=plan.scenario,
            command=plan.command,
            started=datetime.now(UTC),
            seconds=plan.seconds,
            warm_up=plan.warm_up,
            rounds=plan.rounds,
            complete=False,
            fingerprint=bundle.fingerprint(plan.generator),
            postgresql=asyncio.run(observe.settings(database.superuser_dsn(any_links))),
            ceiling=0.0,
            cells=plan.cells,
            runs=[],
        )
        try:
            on_progress("measuring the ceiling of the generator")
            ceiling = Cell("static", Keys(links=any_links), max(cell.connections for cell in plan.cells), 1)
            result.ceiling = measure(database, ceiling, plan, 1).throughput or 0.0
            for number in range(1, plan.rounds + 1):
                order = list(range(len(plan.cells)))
                random.shuffle(order)
                for place in order:
                    cell = plan.cells[place]
                    on_progress(f"round {number}: {cell.variant}, {cell.keys.label}, {cell.connections} connections")
                    run = measure(database, cell, plan, number)
                    run.cell = place
                    result.runs.append(run)
                    on_run()
            result.complete = True
        except KeyboardInterrupt:
            pass
        except FAILURES as error:
            if not result.runs:
                raise
            result.failure = str(error)
        return result


def measure(database: Bench, cell: Cell, plan: Plan, number: int, *, kill_after: float | None = None) -> Run:
    """One measurement. `kill_after` so many seconds of load, the workers of the server are killed by kill -9."""
    links = cell.keys.links
    outside = database.superuser_dsn(links)
    asyncio.run(observe.checkpoint(outside))
    since = UUID(int=uuid7().int)

    def look() -> Observed:
        return asyncio.run(observe.observe(outside, since))

    before = look()
    variant = variants.parsed(cell.variant)
    counts_clicks = variant.name not in ("static", "lookup")
    checked: Verdict | None = None
    with variants.serving(variant, database.service_dsn(links), cell.workers) as target:
        load = Load(
            port=target.port, keys=cell.keys, connections=cell.connections, seconds=plan.seconds,
            warm_up=plan.warm_up, rate=cell.rate, arrivals=cell.arrivals, seed=number,
        )  # fmt: skip
        if plan.generator == "wrk" and cell.rate is None:
            # wrk knows only totals: what warms the server up knows every link.
            warm_up = _generate(msgspec.structs.replace(load, seconds=plan.warm_up, warm_up=0.0))
            between = look()
            checked = _judged(warm_up, between.since(before), counts_clicks)
            before = between
        cpu = (target.cpu_seconds, database.cpu_seconds)
        if kill_after is not None:
            threading.Thread(target=_kill, args=(target, cell.connections, kill_after), daemon=True).start()
        measured = _generate(load) if checked is None else wrk.run(load)
        used = (target.cpu_seconds - cpu[0], database.cpu_seconds - cpu[1])
    rose = look().since(before)
    if isinstance(measured, Capacity):
        assert checked is not None  # wrk comes after a check
        verdict = _judged_by_totals(checked, measured, cell.connections, rose, counts_clicks)
        return _of_capacity(measured, verdict, rose.activity, used, number)
    return _of_generated(measured, _judged(measured, rose, counts_clicks), rose.activity, used, number)


def _judged(generated: Generated, rose: Observed, counts_clicks: bool) -> Verdict:
    tally = Tally.from_data(generated.tally)
    return judge(tally, rose.counts, rose.rows) if counts_clicks else judge(tally, tally.redirected)


def _judged_by_totals(
    checked: Verdict, measured: Capacity, connections: int, rose: Observed, counts_clicks: bool
) -> Verdict:  # fmt: skip
    redirected = measured.requests - measured.refused
    differ = sum(rose.counts.get(code, 0) != rose.rows.get(code, 0) for code in rose.counts.keys() | rose.rows.keys())
    return judge_totals(
        checked, redirected, measured.refused + measured.broken,
        connections,  # each has a request on the way when wrk ends and closes it
        sum(rose.counts.values()) if counts_clicks else redirected, differ,
    )  # fmt: skip


def _of_capacity(
    measured: Capacity, verdict: Verdict, activity: Activity, used: tuple[float, float], number: int
) -> Run:  # fmt: skip
    redirected = measured.requests - measured.refused
    share = measured.cpu_seconds / measured.seconds
    return Run(
        cell=0, round=number, verdict=verdict, errors=measured.refused + measured.broken, unsent=0,
        throughput=redirected / measured.seconds if verdict.kept else None,
        percentiles=measured.percentiles if verdict.kept else None,
        latency=None, lag_p99=None, activity=activity, generator_share=share,
        cost=_cost(used, measured.cpu_seconds, redirected) if verdict.kept else None,
        generator_limited=share > NEARLY_ALL,
    )  # fmt: skip


def _kill(target: variants.Target, connections: int, after: float) -> None:
    """Not before all clients are connected: how long the generator takes to start is the machine's affair."""
    with suppress(psutil.Error):
        while target.connections < connections:
            time.sleep(0.01)
        time.sleep(after)
        target.kill_workers()


def _of_generated(
    measured: Generated, verdict: Verdict, activity: Activity, used: tuple[float, float], number: int
) -> Run:  # fmt: skip
    latency, lag = generator.histogram(measured.latency), generator.histogram(measured.lag)
    percentiles = {str(p): int(latency.get_value_at_percentile(p)) for p in (50, 90, 99, 99.9)}
    share = measured.cpu_seconds / measured.seconds
    return Run(
        cell=0, round=number, verdict=verdict, errors=measured.errors, unsent=measured.unsent,
        throughput=measured.requests / measured.seconds if verdict.kept else None,
        percentiles=percentiles if verdict.kept else None,
        latency=measured.latency if verdict.kept else None,
        lag_p99=int(lag.get_value_at_percentile(99)), activity=activity, generator_share=share,
        cost=_cost(used, measured.cpu_seconds, verdict.redirected) if verdict.kept else None,
        generator_limited=share > NEARLY_ALL,
    )  # fmt: skip


def _cost(used: tuple[float, float], generating: float, redirected: int) -> Cost:
    each = [seconds / max(1, redirected) * 1e6 for seconds in (*used, generating)]
    return Cost(*(round(microseconds, 2) for microseconds in each))


def _generate(load: Load) -> Generated:
    """Run the generator in a process of its own, and out of the terminal's reach: Ctrl-C ends it from here.

    Raises GeneratorError.
    """
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.generator"],
        cwd=variants.ROOT, input=msgspec.json.encode(load), stdout=subprocess.PIPE, check=False, start_new_session=True,
    )  # fmt: skip
    try:
        return msgspec.json.decode(done.stdout, type=Generated)
    except msgspec.DecodeError as error:
        raise GeneratorError(
            f"the load generator ended with status {done.returncode} after {len(done.stdout):,} bytes of its result"
        ) from error
