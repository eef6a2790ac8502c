"""Serving: Granian's processes around the application."""

import gc
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server
from litestar.types import ASGIApp

from service.app import create_app
from service.settings import Settings

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
        log_dictconfig=_logging(),
        respawn_failed_workers=True,
        workers_kill_timeout=round(settings.deadline) + _GRACE,
    )
    threading.Thread(target=_announce, args=(settings, on_listening), daemon=True).start()
    server.serve(target_loader=partial(_worker, settings, dsn), wrap_loader=False)


def _worker(settings: Settings, dsn: str) -> ASGIApp:
    """In a new worker process: its application."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    app = create_app(settings, dsn)
    settle()
    return app


def settle() -> None:
    """Set the garbage collector for a process that is about to serve requests."""
    # All that was loaded stays: it need not be walked again and again.
    gc.collect()
    gc.freeze()
    # A request in flight is a dozen young objects that die by reference count: look at them less often.
    gc.set_threshold(*_GC_THRESHOLDS)


def _follow_parent() -> None:
    """Stop this worker when its parent has died: after a kill -9 nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


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


def _logging() -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {},
    }
