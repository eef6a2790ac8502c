"""Serving: Granian's processes around the application."""

import gc
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server
from litestar.types import ASGIApp

from service import logs
from service.settings import Settings, share

_BACKLOG = 4096
_CONNECTIONS = 16384
"""Open connections of a worker; what comes beyond waits in the backlog."""
_GRACE = 3
"""Seconds that a worker has beyond the deadline to finish what is in flight."""
_BIND_SECONDS = 3
"""Workers that a `kill -9` has orphaned keep the port while they finish."""
_POLL_SECONDS = 0.05
_GC_THRESHOLDS = (20_000, 20, 20)


class CannotListen(Exception):
    """The address cannot be listened on; the message says why."""


def serve(settings: Settings, dsn: str, on_listening: Callable[[], None]) -> None:
    """Serve on the database `dsn` until SIGTERM or SIGINT; then finish what is in flight and return.

    `on_listening` is called, on a thread, once requests are answered.
    """
    _raise_file_limit()
    server = Server(
        "hopcount",
        settings.host,
        settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_CONNECTIONS,
        log_level=LogLevels.warning,
        log_dictconfig=logs.configuration(settings.log_level),
        respawn_failed_workers=True,
        workers_kill_timeout=_longest_end(settings),
    )
    threading.Thread(target=_announce, args=(settings, on_listening), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="hopcount-metrics-") as shared:
        share("PROMETHEUS_MULTIPROC_DIR", shared)
        # Not sooner: when prometheus_client is imported, it looks whether its directory is set.
        from service.app import create_app

        create = partial(create_app, settings, dsn)
        load = partial(_worker, create, Path(shared), _longest_end(settings))
        server.serve(target_loader=load, wrap_loader=False)


def _longest_end(settings: Settings) -> int:
    """Seconds after which a worker that was told to end is killed."""
    return round(settings.deadline) + _GRACE


def _worker(create_app: Callable[[Path], ASGIApp], shared_metrics: Path, longest_end: int) -> ASGIApp:
    """In a new worker process: its application."""
    threading.Thread(target=_follow_parent, args=(shared_metrics, longest_end), daemon=True).start()
    app = create_app(shared_metrics)
    settle()
    return app


def settle() -> None:
    """Set the garbage collector for a process that is about to serve requests."""
    # All that was loaded stays: it need not be walked again and again.
    gc.collect()
    gc.freeze()
    # A request in flight is a dozen young objects that die by reference count: look at them less often.
    gc.set_threshold(*_GC_THRESHOLDS)


def _follow_parent(shared_metrics: Path, longest_end: int) -> None:
    """End this worker when its parent has died, as the parent would: after a kill -9 nobody else does, or tidies up."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(shared_metrics, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)
        # A worker that was still starting makes its files now, and took no notice: it has its parent's handler yet.
        time.sleep(longest_end)
        shutil.rmtree(shared_metrics, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGKILL)


def check_address(settings: Settings) -> None:
    """Raises CannotListen where another program listens: workers share the port, and would not notice."""
    until = time.monotonic() + _BIND_SECONDS
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return
        except OSError as error:
            if time.monotonic() > until:
                raise CannotListen(
                    f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
                ) from error
        time.sleep(_POLL_SECONDS)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _announce(settings: Settings, on_listening: Callable[[], None]) -> None:
    """Call `on_listening` when the first request is answered."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    while True:
        connection = HTTPConnection(host, settings.port, timeout=settings.deadline)
        try:
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                on_listening()
                return
        except (OSError, HTTPException):
            time.sleep(_POLL_SECONDS)
        finally:
            connection.close()
