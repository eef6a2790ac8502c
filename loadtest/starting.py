"""Starting what is measured: the only place here that imports `service`."""

import importlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server

from loadtest.baselines.response import App
from service import embedded
from service.embedded import Embedded
from service.postgres import SUPERUSER
from service.server import settle
from service.store import logins

StartError = embedded.EmbeddedError

Role = Literal["service", "administrator", "superuser"]
_LOGINS: dict[Role, str] = {
    "service": logins.SERVICE,
    "administrator": logins.ADMINISTRATOR,
    "superuser": SUPERUSER,
}


class Postgres:
    """A running PostgreSQL, tuned and deployed as `hopcount serve` has it."""

    def __init__(self, running: Embedded) -> None:
        self._running = running

    @property
    def pid(self) -> int:
        """Of its main process."""
        pid = self._running.pid
        if pid is None:
            raise StartError("PostgreSQL has died")
        return pid

    def dsn(self, role: Role, database: str) -> str:
        return self._running.dsn(_LOGINS[role], database)


@contextmanager
def postgres(data_dir: Path, connections: int) -> Iterator[Postgres]:
    """The embedded PostgreSQL of `data_dir`. Raises StartError."""
    with embedded.running(data_dir, connections=connections) as running:
        running.deploy()
        yield Postgres(running)


def serve_baseline(name: str, dsn: str, port: int, workers: int) -> None:
    """Serve a baseline until SIGTERM, by the same Granian with the same arguments as Hopcount."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    module: ModuleType = importlib.import_module(f"loadtest.baselines.{name}")

    def load() -> App:
        app: App = module.create_app(dsn)
        settle()
        return app

    Server(
        name,
        "127.0.0.1",
        port,
        interface=Interfaces.ASGI,
        workers=workers,
        loop=Loops.uvloop,
        websockets=False,
        backlog=4096,
        backpressure=16384,
        log_level=LogLevels.warning,
    ).serve(target_loader=load, wrap_loader=False)


if __name__ == "__main__":
    serve_baseline(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
