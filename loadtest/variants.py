"""What can be measured, and how it is started."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import msgspec
import psutil

ROOT = Path(__file__).parent.parent
BASELINES = (
    "static", "lookup", "per_request", "per_request_reset", "transaction", "read_modify_write", "after_response",
)  # fmt: skip
HOPCOUNT = "hopcount"

_START_SECONDS = 30.0
_OF_THE_HARNESS = ("database_url", "host", "port", "workers")
_SPEC = re.compile(r"(?P<name>\w+)(@(?P<revision>[^:]+))?(:(?P<settings>.+))?")


class InvalidVariant(ValueError):
    """There is no such thing to measure; the message says what there is."""


class Variant(msgspec.Struct, frozen=True):
    """A server to measure: a baseline, or Hopcount with settings, as it is or of another revision."""

    name: str
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    """As HOPCOUNT_*, in lower case."""
    revision: str | None = None
    """Of git; None is the working tree."""

    def __str__(self) -> str:
        settings = ",".join(f"{name}={value}" for name, value in self.settings.items())
        return self.name + (f"@{self.revision}" if self.revision else "") + (f":{settings}" if settings else "")


def parsed(text: str) -> Variant:
    """A variant from `hopcount`, `hopcount:flushers=3,batch_limit=64`, `hopcount@REVISION` or a baseline's name.

    Settings may be separated by + too, where commas separate variants.
    Raises InvalidVariant.
    """
    match = _SPEC.fullmatch(text)
    if match is None or match["name"] not in (HOPCOUNT, *BASELINES):
        raise InvalidVariant(f"{text!r} is none of {HOPCOUNT}, {', '.join(BASELINES)}")
    if match["name"] != HOPCOUNT and (match["revision"] or match["settings"]):
        raise InvalidVariant(f"{text!r}: only {HOPCOUNT} has revisions and settings")
    settings = {}
    for pair in re.split("[,+]", match["settings"]) if match["settings"] else []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidVariant(f"{text!r}: {pair!r} is not of the form setting=value")
        if name in _OF_THE_HARNESS:
            raise InvalidVariant(f"{text!r}: the {name} is the harness's to set")
        settings[name] = value
    return Variant(match["name"], settings, match["revision"])


class Target:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    @property
    def cpu_seconds(self) -> float:
        """Of all its processes until now."""
        return cpu_seconds(self._tree())

    @property
    def connections(self) -> int:
        """Of clients, that are open now."""
        found = [one for process in self._tree() for one in process.net_connections("tcp")]
        return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == self.port for one in found)

    def kill_workers(self) -> None:
        """kill -9 of everything but the main process."""
        for process in self._tree()[1:]:
            process.kill()

    def _tree(self) -> list[psutil.Process]:
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


@contextmanager
def serving(variant: Variant, dsn: str, workers: int) -> Iterator[Target]:
    """`variant` on the database `dsn`, answering requests; at the end it is told to finish, and awaited."""
    with ExitStack() as stack:
        port = _free_port()
        if variant.name == HOPCOUNT:
            tree = ROOT if variant.revision is None else stack.enter_context(_worktree(variant.revision))
            command = [sys.executable, "-c", "from service.cli import main; main()", "serve"]
            settings = variant.settings | {
                "database_url": dsn, "port": str(port), "workers": str(workers),
            }  # fmt: skip
        else:
            tree, settings = ROOT, {}
            command = [sys.executable, "-m", "loadtest.starting", variant.name, dsn, str(port), str(workers)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HOPCOUNT_")}
        given = {f"HOPCOUNT_{name.upper()}": value for name, value in settings.items()}
        log = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            command, env=clean | given | {"PYTHONPATH": str(tree)}, cwd=tree, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _await_answer(process, port, log)
            yield Target(process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_answer(process: "subprocess.Popen[bytes]", port: int, log: object) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    log.seek(0)  # type: ignore[attr-defined]
    said = log.read().decode(errors="replace").strip().splitlines()  # type: ignore[attr-defined]
    raise InvalidVariant(f"the server did not start: {said[-1] if said else 'it said nothing'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _worktree(revision: str) -> Iterator[Path]:
    """Another revision, checked out beside this one for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="hopcount-revision-") as place:
        tree = Path(place) / "tree"
        made = subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", tree, revision],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise InvalidVariant(f"the revision {revision!r} cannot be checked out: {made.stderr.strip()}")
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=False)
