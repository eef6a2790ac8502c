"""The `hopcount` command."""

import asyncio
import csv
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO, TypeVar

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from service import destinations, embedded, output, server, settings, transfer
from service.destinations import InvalidDestination
from service.embedded import Embedded, EmbeddedError
from service.server import CannotListen
from service.settings import InvalidSettings, Settings
from service.store import partitions, schema, tidy
from service.store.connections import OWNER, Database
from service.store.errors import StoreError
from service.store.keys import Keys, NameTaken
from service.store.partitions import Month
from service.store.urls import Urls

T = TypeVar("T")

_TIMEOUT = 10.0

_data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the embedded PostgreSQL lives. [.hopcount]"
)
_database_url = click.option("--database-url", help="The database as the service's role; by default the embedded one.")
_admin_database_url = click.option(
    "--database-url",
    "admin_database_url",
    help="The database as a login that may act as hopcount_owner; by default the embedded one.",
)


def main() -> None:
    """Run `hopcount`; its errors are one line and a non-zero exit status."""
    # Until the server takes over: leave by the front door, so that what was started is stopped.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        hopcount()
    except (InvalidSettings, EmbeddedError, CannotListen, InvalidDestination, StoreError) as error:
        click.echo(f"hopcount: {error}", err=True)
        sys.exit(1)


def _terminated(signum: int, _frame: object) -> NoReturn:
    sys.exit(128 + signum)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="hopcount")
def hopcount() -> None:
    """Short-link redirects whose counts are exact.

    Every option can also be set as HOPCOUNT_<OPTION> in the environment.
    """


@hopcount.command()
@_data_dir
@_database_url
@click.option("--host", help="The address to listen on. [127.0.0.1]")
@click.option("--port", type=int, help="[8000]")
@click.option("--workers", type=int, help="Processes. [1]")
def serve(**given: Any) -> None:
    """Serve redirects and the API.

    Without a database URL: on an embedded PostgreSQL, set up and kept in the data directory.
    """
    chosen = settings.read(**given)
    destinations.host_of(chosen.public_url)
    server.check_address(chosen)
    if chosen.database_url is not None:
        asyncio.run(_check(chosen, chosen.database_url))
        _serve(chosen, chosen.database_url)
        return
    connections = chosen.workers * (chosen.flushers + 1 + chosen.pool_size)
    click.echo(f"Starting the embedded PostgreSQL in {chosen.data_dir} ...")
    with embedded.running(chosen.data_dir, serving=True, connections=connections) as running:
        click.echo("Deploying the schema with sqitch ...")
        running.deploy()
        key_file = running.make_first_key()
        if key_file is not None:
            click.echo(f"A first API key is in {key_file}")
        with running.watched(connections):
            _serve(chosen, running.service_dsn)


def _serve(chosen: Settings, dsn: str) -> None:
    server.serve(chosen, dsn, lambda: click.echo(f"Listening on {chosen.address}"))


async def _check(chosen: Settings, dsn: str) -> None:
    async with Database.of_worker(chosen, dsn) as database:
        await schema.check(database)


@hopcount.group()
def urls() -> None:
    """Import, export and count links."""


@urls.command("import")
@_data_dir
@_database_url
@click.argument("source", metavar="FILE", type=click.File("rb"))
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the lines that could not be imported go. [FILE.rejects.csv]",
)
@click.option(
    "--created",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the links as stored, with their codes.",
)
def urls_import(source: BinaryIO, rejects: Path | None, created: Path | None, **given: Any) -> None:
    """Import links from FILE, or from standard input where it is `-`.

    FILE is CSV with the header `original_url,short_code`, the second column optional, or has one URL a
    line. A link that is there with the same code and destination is left alone. A line that cannot be
    imported stops no other; the exit status is 1 if there was any.
    """
    chosen = settings.read(**given)
    name = source.name if isinstance(source.name, str) and source.name != "<stdin>" else "stdin"
    rejects = rejects or Path(f"{name}.rejects.csv")
    rejects.unlink(missing_ok=True)
    with _service_dsn(chosen) as dsn:
        counts = asyncio.run(_import(chosen, dsn, source, rejects, created))
    click.echo(
        "{created:,} created, {unchanged:,} there already, {rejected:,} rejected".format(**counts)
        + (f" (see {rejects})" if counts["rejected"] else "")
    )
    sys.exit(1 if counts["rejected"] else 0)


async def _import(chosen: Settings, dsn: str, source: BinaryIO, rejects: Path, created: Path | None) -> dict[str, int]:
    own_host = destinations.host_of(chosen.public_url)
    counts = {"created": 0, "unchanged": 0, "rejected": 0}
    last = 0
    with ExitStack() as files:
        made = _csv(files, created, transfer.COLUMNS) if created is not None else None
        refused = None
        progress = files.enter_context(_progress())
        bar = progress.add_task("Importing", total=_size(source))
        async with Database.of_worker(chosen, dsn) as database:
            try:
                async for lines in transfer.imported(source, Urls(database), own_host):
                    for line in lines:
                        last = max(last, line.number)
                        if line.reason is not None:
                            refused = refused or _csv(files, rejects, ("line", "reason", "text"))
                            refused.writerow((line.number, line.reason, line.text))
                        elif made is not None:
                            made.writerow(line.link)
                        counts["rejected" if line.reason else str(line.outcome)] += 1
                    progress.update(
                        bar,
                        completed=_position(source),
                        description=f"Importing: {sum(counts.values()):,} lines",
                    )
            except (StoreError, transfer.InvalidFile) as error:
                done = f" The lines up to {last:,} are done." if last else ""
                raise click.ClickException(f"{error}.{done}") from error
    return counts


@urls.command("export")
@_data_dir
@_database_url
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, writable=True, allow_dash=True), default="-")
def urls_export(path: str, **given: Any) -> None:
    """Write all links to FILE as CSV, in the form that `import` reads."""
    with _written(path) as target, _service_dsn(settings.read(**given)) as dsn:
        asyncio.run(_export(dsn, target))


@contextmanager
def _written(path: str) -> Iterator[TextIO]:
    try:
        with output.whole(path) as target:
            yield target
    except BrokenPipeError:
        raise  # Click ends quietly then: whoever reads has read enough.
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error


async def _export(dsn: str, target: TextIO) -> None:
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(transfer.COLUMNS)
    async with Database(dsn, 1, _TIMEOUT) as database:
        async for link in Urls(database).every():
            writer.writerow(transfer.row(link))


@urls.command("stats")
@_data_dir
@_database_url
@click.option("--top", type=click.IntRange(0, 1000), default=10, help="How many of the links most clicked.")
def urls_stats(top: int, **given: Any) -> None:
    """Count links and clicks, and show the links most clicked."""
    with _service_dsn(settings.read(**given)) as dsn:
        asyncio.run(_stats(dsn, top))


async def _stats(dsn: str, top: int) -> None:
    async with Database(dsn, 1, _TIMEOUT) as database:
        totals = await Urls(database).totals()
        most_clicked = await Urls(database).most_clicked(top)
    click.echo(f"{totals.links:,} links, {totals.clicks:,} clicks")
    for link in most_clicked:
        click.echo(f"{link.click_count:>15,}  {link.short_code:<32}  {link.original_url}")


@hopcount.group()
def keys() -> None:
    """Make, list and delete API keys."""


@keys.command("create")
@_data_dir
@_admin_database_url
@click.argument("name")
@click.option("--scope", type=click.Choice(["read", "write"]), default="write")
def keys_create(name: str, scope: Any, **given: Any) -> None:
    """Make a key called NAME and print it: it is not shown again."""
    if not 1 <= len(name) <= 100:
        raise click.BadParameter("has 1 to 100 characters", param_hint="NAME")

    async def create(database: Database) -> str:
        try:
            return await Keys(database).create(name, scope)
        except NameTaken:
            raise click.ClickException(f"there is a key called {name!r} already") from None

    click.echo(_as_owner(given, create))


@keys.command("list")
@_data_dir
@_admin_database_url
def keys_list(**given: Any) -> None:
    """List the keys."""
    for key in _as_owner(given, lambda database: Keys(database).every()):
        click.echo(f"{key.created_at:%Y-%m-%d %H:%M}  {key.scope:<5}  {key.name}")


@keys.command("delete")
@_data_dir
@_admin_database_url
@click.argument("name")
def keys_delete(name: str, **given: Any) -> None:
    """Delete the key called NAME: it is refused from now on."""
    if not _as_owner(given, lambda database: Keys(database).delete(name)):
        raise click.ClickException(f"there is no key called {name!r}")


@hopcount.group()
def db() -> None:
    """Look after the database."""


@db.command("check")
@_data_dir
@_database_url
def db_check(**given: Any) -> None:
    """Check that the schema, and what the service's role may do, is what this release needs."""
    chosen = settings.read(**given)
    with _service_dsn(chosen) as dsn:
        asyncio.run(_check(chosen, dsn))
    click.echo("The schema is the one that this release needs.")


@db.command("partitions")
@_data_dir
@_admin_database_url
@click.option("--ahead", type=click.IntRange(0, 120), default=embedded.MONTHS_AHEAD, help="Months.")
def db_partitions(ahead: int, **given: Any) -> None:
    """Make the partitions of clicks for this month and those to come. Fit for cron."""
    made = _as_owner(given, lambda database: partitions.make_ahead(database, datetime.now(UTC), ahead))
    for month in made:
        moved = f", {month.moved:,} clicks moved into it" if month.moved else ""
        click.echo(f"{month.month.table} made{moved}")
    if not made:
        click.echo("All are there.")


@db.command("tidy")
@_data_dir
@_admin_database_url
def db_tidy(**given: Any) -> None:
    """Delete the clicks that deleted links have left behind."""
    links, clicks = _as_owner(given, _tidy)
    click.echo(f"{clicks:,} clicks of {links:,} deleted links are gone.")


async def _tidy(database: Database) -> tuple[int, int]:
    links = clicks = 0
    with _progress() as progress:
        bar = progress.add_task("Tidying", total=None)
        async for code in tidy.orphaned_codes(database):
            links += 1
            async for gone in tidy.purge(database, code):
                clicks += gone
                progress.update(bar, description=f"Tidying: {clicks:,} clicks")
    return links, clicks


@db.command("drop-clicks")
@_data_dir
@_admin_database_url
@click.option("--before", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The first day to keep, in UTC.")
def db_drop_clicks(before: datetime, **given: Any) -> None:
    """Drop the clicks of whole months that end before a day. Redirects go on, and counts stay as they are."""
    month = Month.of(before.replace(tzinfo=UTC))
    if month.first_id > partitions.newest_boundary(datetime.now(UTC)).first_id:
        raise click.BadParameter("a month cannot be dropped before it has been over for an hour", param_hint="--before")
    first_day = f"{month.year:04}-{month.month:02}-01"
    clicks = _as_owner(given, lambda database: _drop_clicks(database, month))
    if clicks:
        click.echo(f"{clicks:,} clicks from before {first_day} deleted that were in no month's partition")
    click.echo(
        f"No click from before {first_day} is left. click_count still counts them: it is how often a link was "
        f"ever followed. The click log and the series begin at {first_day}."
    )
    if before.day > 1:
        click.echo(f"Only whole months are dropped, so those from {first_day} to {before:%Y-%m-%d} stay.")


async def _drop_clicks(database: Database, month: Month) -> int:
    async for dropped in partitions.drop_before(database, month):
        click.echo(f"{dropped.name} dropped, {decimal(dropped.size)}")
    clicks = 0
    with _progress() as progress:
        bar = progress.add_task("Deleting", total=None)
        async for gone in tidy.purge_unpartitioned(database, month.first_id):
            clicks += gone
            progress.update(bar, description=f"Deleting: {clicks:,} clicks")
    return clicks


@db.command("env")
@_data_dir
def db_env(**given: Any) -> None:
    """Print what the embedded database is reached by: eval "$(hopcount db env)", then sqitch or psql.

    While `hopcount serve` runs; by itself this starts nothing that stays.
    """
    with _embedded(settings.read(**given)) as running:
        for name, value in running.environment().items():
            click.echo(f"export {name}={shlex.quote(value)}")


@contextmanager
def _embedded(chosen: Settings) -> Iterator[Embedded]:
    with embedded.running(chosen.data_dir) as running:
        if running.was_started:
            running.deploy()
        yield running


@contextmanager
def _service_dsn(chosen: Settings) -> Iterator[str]:
    if chosen.database_url is not None:
        yield chosen.database_url
    else:
        with _embedded(chosen) as running:
            yield running.service_dsn


def _as_owner(given: dict[str, Any], work: Callable[[Database], Awaitable[T]]) -> T:
    """What `work` returns, done on the database of the settings as its owner."""
    chosen = settings.read(**given)

    async def run(dsn: str) -> T:
        async with Database(dsn, 1, _TIMEOUT, role=OWNER) as database:
            return await work(database)

    if chosen.admin_database_url is not None:
        return asyncio.run(run(chosen.admin_database_url))
    if chosen.database_url is not None:
        raise click.ClickException("this needs HOPCOUNT_ADMIN_DATABASE_URL, or --database-url")
    with _embedded(chosen) as running:
        return asyncio.run(run(running.administrator_dsn))


def _progress() -> Progress:
    """A progress bar on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def _size(source: BinaryIO) -> int | None:
    if not source.seekable():
        return None
    here = source.tell()
    size = source.seek(0, 2)
    source.seek(here)
    return size


def _position(source: BinaryIO) -> int:
    return source.tell() if source.seekable() else 0


def _csv(files: ExitStack, path: Path, header: tuple[str, ...]) -> Any:
    try:
        writer = csv.writer(files.enter_context(path.open("w", encoding="utf-8", newline="")), lineterminator="\n")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
    writer.writerow(header)
    return writer
