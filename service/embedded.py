"""The embedded PostgreSQL of a data directory: started, adopted, shared and stopped."""

import asyncio
import logging
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

from service.locks import LockFile
from service.postgres import SUPERUSER, Cluster, PostgresError, account, private_dir, programs
from service.settings import environment
from service.store import logins, partitions
from service.store.connections import OWNER, Database
from service.store.errors import StoreError, Unavailable
from service.store.keys import Keys, NameTaken

MONTHS_AHEAD = 3
FIRST_KEY = "first"

_WATCH_SECONDS = 0.5
_TIMEOUT = 10.0


_log = logging.getLogger(__name__)


class EmbeddedError(Exception):
    """The embedded database cannot be used; the message says why and what to do."""


class Embedded:
    """A running embedded PostgreSQL."""

    def __init__(self, data_dir: Path, cluster: Cluster, lock: LockFile) -> None:
        self._cluster = cluster
        self._lock = lock
        self._passwords = data_dir / "pgpass"
        self._api_key = data_dir / "api-key"
        self.was_started = False
        """By this process; otherwise it ran already."""

    @property
    def pid(self) -> int | None:
        """The main process of the running server."""
        return self._cluster.pid()

    @property
    def service_dsn(self) -> str:
        return self.dsn(logins.SERVICE)

    @property
    def administrator_dsn(self) -> str:
        return self.dsn(logins.ADMINISTRATOR)

    def environment(self) -> dict[str, str]:
        """Variables by which sqitch, psql and the like come in as the administrator."""
        return {
            "PGHOST": str(self._cluster.socket_dir),
            "PGPORT": "5432",
            "PGUSER": logins.ADMINISTRATOR,
            "PGDATABASE": logins.DATABASE,
            "PGPASSFILE": str(self._passwords.resolve()),
        }

    def deploy(self) -> None:
        """Bring the schema up to date with `sqitch deploy`. Raises EmbeddedError."""
        project = Path(__file__).parent / "_sqitch"
        if not project.exists():
            project = Path(__file__).parent.parent / "sqitch"
        client = self._cluster.programs / "psql"
        command = ["sqitch", "deploy", "--verify", "--target", "embedded", "--db-client", str(client)]
        names = environment("PATH", "HOME", "USER", "TERM") | {
            "SQITCH_FULLNAME": "Hopcount",
            "SQITCH_EMAIL": "hopcount@example.invalid",
            "LC_ALL": "C.UTF-8",
        }
        try:
            done = subprocess.run(
                command, cwd=project, env=names | self.environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise EmbeddedError(
                "sqitch is not installed. On Debian and Ubuntu: apt-get install sqitch libdbd-pg-perl postgresql-client"
            ) from None
        if done.returncode != 0:
            raise EmbeddedError(f"sqitch deploy failed:\n{done.stdout.strip()}")
        asyncio.run(_after_deploy(self.administrator_dsn))

    def make_first_key(self) -> Path | None:
        """Write a first API key to a file of its owner's, if there was none yet: the file.

        Raises EmbeddedError.
        """
        if self._api_key.exists():
            return None
        try:
            token = asyncio.run(_first_key(self.administrator_dsn))
        except StoreError as error:
            raise EmbeddedError(str(error)) from error
        if token is None:
            return None
        _write_private(self._api_key, token + "\n")
        return self._api_key

    def start(self, connections: int) -> None:
        """Start the server where it does not run. Raises EmbeddedError."""
        with self._lock.changing():
            self._lock.start_using()
            if self._cluster.pid() is not None:
                return
            passwords = self._read_passwords()
            try:
                if not self._cluster.exists:
                    self._cluster.create(passwords[SUPERUSER])
                self._cluster.start(connections)
            except PostgresError as error:
                raise EmbeddedError(str(error)) from error
            try:
                asyncio.run(logins.create(self.dsn(SUPERUSER, SUPERUSER), passwords))
            except StoreError as error:
                raise EmbeddedError(str(error)) from error
            self.was_started = True

    def stop(self) -> None:
        """Stop the server, unless another process needs it. Raises EmbeddedError."""
        with self._lock.changing():
            if self._lock.stop_using() and self._cluster.pid() is not None:
                try:
                    self._cluster.stop()
                except PostgresError as error:
                    raise EmbeddedError(str(error)) from error

    @contextmanager
    def watched(self, connections: int) -> Iterator[None]:
        """While the context lasts, start the server again when it has died."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_WATCH_SECONDS):
                if self._cluster.pid() is None:
                    _log.error("PostgreSQL has died and is started again")
                    try:
                        self.start(connections)
                    except (EmbeddedError, OSError) as error:  # a full disk, for example; it may pass
                        _log.error("%s", error)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def dsn(self, login: str, database: str = logins.DATABASE) -> str:
        """Into a database of the running server, by the login's password in a file."""
        query = {"host": str(self._cluster.socket_dir), "passfile": str(self._passwords.resolve())}
        return f"postgresql://{login}@/{database}?{urlencode(query, quote_via=quote)}"

    def _read_passwords(self) -> dict[str, str]:
        """The password of each login, from a file as libpq reads it; made if it is missing."""
        if not self._passwords.exists():
            lines = [
                f"*:*:*:{login}:{secrets.token_urlsafe(24)}\n"
                for login in (SUPERUSER, logins.ADMINISTRATOR, logins.SERVICE)
            ]
            _write_private(self._passwords, "".join(lines))
        return dict(line.split(":")[3:5] for line in self._passwords.read_text().splitlines())


@contextmanager
def running(data_dir: Path, *, serving: bool = False, connections: int = 0) -> Iterator[Embedded]:
    """The embedded PostgreSQL of `data_dir`, made and started where need be, stopped by its last user.

    With `serving`, for the one process that serves from this directory. Raises EmbeddedError.
    """
    data_dir = data_dir.absolute()
    try:
        runner = account()
        # Whoever PostgreSQL runs as must pass through it, and no more.
        data_dir.mkdir(mode=0o700 if runner.is_self else 0o711, parents=True, exist_ok=True)
        lock = LockFile(data_dir / "lock")
        cluster = Cluster(private_dir(data_dir / "postgres", runner), runner, programs(runner))
    except PostgresError as error:
        raise EmbeddedError(str(error)) from error
    except OSError as error:
        raise EmbeddedError(f"the data directory {data_dir} cannot be used: {error}") from error
    with lock:
        if serving and not lock.start_serving():
            raise EmbeddedError(f"another `hopcount serve` runs on {data_dir}")
        embedded = Embedded(data_dir, cluster, lock)
        try:
            embedded.start(connections)
            yield embedded
        finally:
            embedded.stop()


def _write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    building = path.with_name(path.name + ".new")
    building.unlink(missing_ok=True)
    building.touch(mode=0o600)
    building.write_text(content)
    building.rename(path)


async def _after_deploy(dsn: str) -> None:
    await logins.grant_service(dsn)
    async with Database(dsn, 1, _TIMEOUT, role=OWNER) as database:
        try:
            await partitions.make_ahead(database, datetime.now(UTC), MONTHS_AHEAD)
        except Unavailable as error:
            # No reason not to serve: the default partition takes what has no month.
            _log.warning("%s", error)


async def _first_key(dsn: str) -> str | None:
    async with Database(dsn, 1, _TIMEOUT, role=OWNER) as database:
        try:
            return await Keys(database).create(FIRST_KEY, "write")
        except NameTaken:
            return None
