"""The benchmark harness: `./run bench`."""

import asyncio
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest import bundle, measure, report, seed, variants, wrk
from loadtest.agree import agreements
from loadtest.arguments import Listed, VariantType
from loadtest.bundle import Cell, InvalidBundle, Result
from loadtest.compare import ratio
from loadtest.keys import Keys, Kind
from loadtest.measure import GeneratorName, Plan
from loadtest.seed import SeedError
from loadtest.variants import HOPCOUNT, Variant
from loadtest.verdict import Verdict

_LOCUST = ("api", "pages", "mixed")
_CONNECTIONS, _WORKERS, _LINKS = click.IntRange(1, 10_000), click.IntRange(1, 64), click.IntRange(1, 100_000_000)
_SWEPT = {
    "connections": (_CONNECTIONS, "16,64,128,256,512"),
    "workers": (_WORKERS, "1,2"),
    "links": (_LINKS, "10000,100000,1000000"),
    "batch_limit": (click.IntRange(1, 1000), "16,64,256,1000"),
    "flushers": (click.IntRange(1), "1,2,3,4"),
}
_PIPE_WIDTH = 180
_INTERRUPTED = 130  # as shells have it
_LATENCY_SHARES = (0.25, 0.5, 0.75)

_data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), default=variants.ROOT / ".hopcount-bench",
    help="Where the PostgreSQL of the benchmarks lives. [.hopcount-bench]",
)  # fmt: skip
_rounds = click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True)
_seconds = click.option("--seconds", type=click.FloatRange(1, 3600), default=5.0, show_default=True)
_generator = click.option(
    "--generator", "generator_name", type=click.Choice(["wrk", "own"]),
    help="For capacity. [wrk where it is installed]",
)  # fmt: skip
_KIND = click.Choice(["uniform", "zipf", "hot"])
_keys = click.option("--keys", "kind", type=_KIND, default="uniform")
_links = click.option("--links", type=_LINKS, default=100_000, show_default=True)
_connections = click.option("--connections", type=_CONNECTIONS, default=256, show_default=True)
_workers = click.option("--workers", type=_WORKERS, default=1, show_default=True)


def main() -> None:
    """Run the harness; its errors are one line and a non-zero exit status."""
    # Told to end, it ends as by Ctrl-C: with what it has, and with the database that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench()
    except (*measure.FAILURES, InvalidBundle, SeedError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure Hopcount, and check its promises, on this machine.

    A variant is hopcount, hopcount:setting=value,..., hopcount@REVISION, or a baseline: static, lookup,
    per_request, per_request_reset, transaction, read_modify_write, after_response.
    """


@bench.command()
@click.argument("scenario", type=click.Choice(["redirects", "latency", *_LOCUST]))
@_data_dir
@_rounds
@_seconds
@_generator
@_links
@_workers
@click.option("--quick", is_flag=True, help="A first impression, in under a minute.")
@click.option(
    "--variants", "measured", type=Listed(VariantType()), default="static,lookup,per_request,hopcount",
    show_default=True, help="Settings of one are separated by +.",
)  # fmt: skip
@click.option("--keys", "kinds", type=Listed(_KIND), default="uniform,hot", show_default=True)
@click.option("--connections", "connection_counts", type=Listed(_CONNECTIONS), default="256", show_default=True)
def run(
    scenario: str, data_dir: Path, rounds: int, seconds: float, generator_name: GeneratorName | None, links: int,
    workers: int, quick: bool, measured: list[Variant], kinds: list[Kind], connection_counts: list[int],
) -> None:  # fmt: skip
    """Measure SCENARIO.

    redirects: capacity, beside the baselines. latency: Hopcount alone, in open loop at 25, 50 and 75 % of capacity,
    keys uniform, on the first number of connections. api, pages, mixed: the Locust scenarios, with their verdicts.
    """
    if scenario in _LOCUST:
        sys.exit(
            _locust(scenario, data_dir, 10 if quick else max(30, seconds), links if not quick else 10_000, workers)
        )
    if quick:
        rounds, seconds, kinds, links = 2, 1.0, ["uniform"], 10_000
        measured = [Variant("static"), Variant("per_request"), Variant(HOPCOUNT)]
    if scenario == "latency":
        _finish(_latency(data_dir, rounds, seconds, links, workers, connection_counts[0]))
        return
    cells = [
        Cell(str(variant), Keys(kind, links), count, workers)
        for count in connection_counts
        for kind in kinds
        for variant in measured
    ]
    _finish(_carried_out("redirects", cells, data_dir, rounds, seconds, generator_name))


def _latency(data_dir: Path, rounds: int, seconds: float, links: int, workers: int, connections: int) -> Result:
    keys = Keys("uniform", links)
    capacity = _carried_out("capacity", [Cell(HOPCOUNT, keys, connections, workers)], data_dir, 3, seconds, "own")
    if capacity.failure:
        raise click.ClickException(capacity.failure)
    if not capacity.complete:
        _interrupted()
    reached = capacity.throughputs(0)
    if not reached:
        raise click.ClickException("the capacity could not be measured: a promise was broken")
    rates = [round(share * statistics.median(reached.values()), -1) for share in _LATENCY_SHARES]
    cells = [Cell(HOPCOUNT, keys, connections, workers, rate=rate) for rate in rates]
    return _carried_out("latency", cells, data_dir, rounds, max(seconds, 10.0), "own")


@bench.command()
@click.argument("first", type=VariantType())
@click.argument("second", type=VariantType())
@_data_dir
@_rounds
@_seconds
@_generator
@_keys
@_links
@_connections
@_workers
def compare(
    first: Variant, second: Variant, data_dir: Path, rounds: int, seconds: float, generator_name: GeneratorName | None,
    kind: Kind, links: int, connections: int, workers: int,
) -> None:  # fmt: skip
    """Compare two variants in alternation: the ratio of FIRST to SECOND."""
    cells = [Cell(str(variant), Keys(kind, links), connections, workers) for variant in (first, second)]
    result = _carried_out("compare", cells, data_dir, rounds, seconds, generator_name)
    found = ratio(result.throughputs(0), result.throughputs(1))
    if found is not None:
        click.echo(f"throughput of {first} to that of {second}: {found}: {found.finding}")
    cost = ratio(result.costs(0), result.costs(1))
    if cost is not None:
        click.echo(f"CPU a redirect of service and database: {cost}")
    _finish(result)


@bench.command()
@click.argument("parameter", type=click.Choice(sorted(_SWEPT)))
@click.argument("values", required=False)
@_data_dir
@_rounds
@_seconds
@_generator
@_keys
@_links
@_connections
@_workers
@click.option("--variants", "measured", type=Listed(VariantType()), default=HOPCOUNT, show_default=True)
def sweep(
    parameter: str, values: str | None, data_dir: Path, rounds: int, seconds: float,
    generator_name: GeneratorName | None, kind: Kind, links: int, connections: int, workers: int,
    measured: list[Variant],
) -> None:  # fmt: skip
    """Measure capacity over VALUES of PARAMETER, separated by commas."""
    cells = []
    each, usual = _SWEPT[parameter]
    for value in Listed(each).convert(values or usual, None, None):
        for variant in measured:
            if parameter in ("batch_limit", "flushers"):
                variant = Variant(variant.name, variant.settings | {parameter: str(value)}, variant.revision)
            cells.append(
                Cell(
                    str(variant),
                    Keys(kind, value if parameter == "links" else links),
                    value if parameter == "connections" else connections,
                    value if parameter == "workers" else workers,
                )
            )
    _finish(_carried_out(f"sweep-{parameter}", cells, data_dir, rounds, seconds, generator_name))


@bench.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, file_okay=False))
def agree(first: Path, second: Path) -> None:
    """Whether two bundles of this kind of machine say the same: their ratios, cell by cell."""
    found = agreements(bundle.read(first), bundle.read(second))
    if not found:
        raise click.ClickException("the two have no ratio in common")
    for one in found:
        click.echo(
            f"{one.cell.variant}, {one.cell.keys.label}, {one.cell.connections} connections, to {one.to}: "
            f"{one.first} and {one.second}: {'agree' if one.holds else 'disagree'}"
        )
    sys.exit(0 if all(one.holds for one in found) else 1)


@bench.command("report")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
def write_report(folders: tuple[Path, ...]) -> None:
    """Write the report of each bundle in FOLDERS, or of all, and the index of bench_results."""
    for folder in folders or bundle.committed():
        click.echo(report.write(folder))
    click.echo(report.write_index())


@bench.command("seed")
@_links
@click.option("--database-url", required=True, help="As a login that may act as hopcount_owner.")
@click.option("--remove", is_flag=True, help="Delete the links of load tests and their clicks instead.")
def seed_links(links: int, database_url: str, remove: bool) -> None:
    """Put links to follow into a database: load-0, load-1, ..."""
    if remove:
        click.echo(f"{asyncio.run(seed.remove(database_url)):,} links removed")
        return
    with _progress() as progress:
        bar = progress.add_task("Seeding", total=links)
        made = asyncio.run(seed.seed(database_url, links, lambda done: progress.update(bar, completed=done)))
    click.echo(f"{made:,} links made")


def _carried_out(
    scenario: str, cells: list[Cell], data_dir: Path, rounds: int, seconds: float, name: GeneratorName | None
) -> Result:
    chosen: GeneratorName = name or ("wrk" if wrk.available() else "own")
    if chosen == "wrk" and wrk.available() is None:
        raise click.ClickException("wrk is not installed")
    command = shlex.join(["./run", "bench", *sys.argv[1:]])
    plan = Plan(scenario, command, cells, rounds, seconds, min(2.0, seconds / 2), chosen)
    with _progress() as progress:
        bar = progress.add_task("starting PostgreSQL", total=rounds * len(cells))
        return measure.carry_out(
            plan,
            data_dir,
            lambda what: progress.update(bar, description=what),
            lambda: progress.advance(bar),
        )


def _finish(result: Result) -> None:
    """Print the table, write the bundle and its report; the exit status says whether every promise was kept."""
    if not result.runs:
        _interrupted()
    # A pipe has no width, and a table cut to 80 columns says nothing.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(_table(result))
    broken = [run for run in result.runs if not run.verdict.kept]
    for run in broken:
        click.echo(f"{result.cells[run.cell].variant}, round {run.round}: {run.verdict}")
    if not broken:
        counted = sum(run.verdict.redirected for run in result.runs)
        click.echo(f"verdict: every promise kept, over {counted:,} redirects")
    limited = sum(run.generator_limited for run in result.runs)
    if limited:
        click.echo(f"In {limited} of {len(result.runs)} runs the generator was the limit, not the server.")
    click.echo(report.write(bundle.write(result)))
    if result.failure:
        raise click.ClickException(result.failure)
    sys.exit(1 if broken else 0 if result.complete else _INTERRUPTED)


def _table(result: Result) -> Table:
    title = f"{result.scenario}: {len(result.runs)} runs{result.ending}"
    table = Table(title=title, caption=f"generator: {result.fingerprint.generator}; ceiling {result.ceiling:,.0f}/s")
    for heading in ("variant", "keys", "links", "conn.", "workers", "offered/s", "redirects/s", "of static",
                    "p50 ms", "p99 ms", "us CPU: service", "database", "errors", "unsent", "verdict"):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("variant", "keys", "verdict") else "right")
    for place, cell in enumerate(result.cells):
        runs = result.of(place)
        kept = [run for run in runs if run.verdict.kept]
        table.add_row(
            cell.variant,
            cell.keys.label,
            f"{cell.keys.links:,}",
            f"{cell.connections}",
            f"{cell.workers}",
            "" if cell.rate is None else f"{cell.rate:,.0f}",
            _middle(kept, lambda run: run.throughput, ",.0f"),
            str(report.to_static(result, place) or ""),
            _middle(kept, lambda run: run.percentiles["50"] / 1000, ",.2f"),
            _middle(kept, lambda run: run.percentiles["99"] / 1000, ",.2f"),
            _middle(kept, lambda run: run.cost.service, ",.1f"),
            _middle(kept, lambda run: run.cost.database, ",.1f"),
            f"{sum(run.errors for run in runs):,}",
            "" if cell.rate is None else f"{sum(run.unsent for run in runs):,}",
            _worst([run.verdict for run in runs]),
        )
    return table


def _middle(runs: list[Any], value: Callable[[Any], Any], shape: str) -> str:
    return format(statistics.median(value(run) for run in runs), shape) if runs else "none"


def _worst(verdicts: list[Verdict]) -> str:
    for outcome in ("broken", "undetermined", "in doubt", "exact"):
        if any(verdict.outcome == outcome for verdict in verdicts):
            return outcome
    return ""


def _locust(scenario: str, data_dir: Path, seconds: float, links: int, workers: int) -> int:
    """Run a Locust scenario against a service of its own: its exit status."""
    with measure.bench(data_dir) as database, _progress() as progress:
        bar = progress.add_task(f"seeding {links:,} links", total=None)
        database.prepare(links, lambda done: progress.update(bar, description=f"seeding: {done:,} links"))
        key = database.new_key(links)
        progress.update(bar, description=f"Locust: {scenario}, {seconds:.0f} s")
        with (
            variants.serving(Variant(HOPCOUNT), database.service_dsn(links), workers) as target,
            tempfile.TemporaryDirectory(prefix="hopcount-locust-") as place,
        ):
            verdict_file = Path(place) / "verdict.json"
            done = subprocess.run(
                [sys.executable, "-m", "locust", "--locustfile", variants.ROOT / "loadtest" / "locustfile.py",
                 "--host", f"http://127.0.0.1:{target.port}", "--headless", "--users", "32", "--spawn-rate", "100",
                 "--run-time", f"{seconds:.0f}s", "--stop-timeout", "10", "--only-summary", "--loglevel", "WARNING",
                 "--scenario", scenario, "--links", str(links), "--verdict-file", verdict_file],
                env=dict(os.environ) | {"HOPCOUNT_LOAD_API_KEY": key},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if not verdict_file.exists():
                raise click.ClickException(f"Locust gave no verdict: {done.stderr.strip().splitlines()[-1:]}")
    click.echo(done.stdout.rstrip())
    return done.returncode


def _progress() -> Progress:
    """A progress bar on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def _interrupted() -> NoReturn:
    click.echo("bench: interrupted before anything was measured", err=True)
    sys.exit(_INTERRUPTED)
