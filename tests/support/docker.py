"""The PostgreSQL of the tests in a container, configured as deployed, and PgBouncer before it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network

from service.postgres import SUPERUSER
from service.store import logins
from tests.support.postgres import ROOT, Signal, TestCluster, deploy, execute, passwords
from tests.support.server import free_port

POSTGRES = "postgres:18"
PGBOUNCER = "hopcount-pgbouncer:test"

_START_SECONDS = 60


class ContainerHome:
    """PostgreSQL in a container, on a port of the loopback interface."""

    def __init__(self, container: DockerContainer, port: int, chosen: dict[str, str]) -> None:
        self._container = container
        self._passwords = chosen
        self.port = port

    def dsn(self, login: str, database: str) -> str:
        return f"postgresql://{login}:{self._passwords[login]}@127.0.0.1:{self.port}/{database}"

    def signal(self, pid: int, name: Signal) -> None:
        status, output = self._container.exec(["sh", "-c", f"kill -{name} {pid}"])
        assert status == 0, output


@contextmanager
def cluster_in_docker(*, pgbouncer: bool) -> Iterator[TestCluster]:
    chosen = passwords()
    with Network() as network, TemporaryDirectory(prefix="hopcount-test-") as place, _postgres(network, chosen) as home:
        deploy(home, chosen, PGHOST="127.0.0.1", PGPORT=str(home.port))
        if not pgbouncer:
            yield TestCluster(home)
            return
        users = Path(place) / "users"
        users.write_text(f'"{logins.SERVICE}" "{chosen[logins.SERVICE]}"\n')
        Path(place).chmod(0o711)  # PgBouncer is another user there
        with _pgbouncer(network, users) as port:
            pooler = f"postgresql://{logins.SERVICE}:{chosen[logins.SERVICE]}@127.0.0.1:{port}"
            _await_answer(f"{pooler}/postgres")  # not the template: PgBouncer keeps the connection
            yield TestCluster(home, pooler)


@contextmanager
def _postgres(network: Network, chosen: dict[str, str]) -> Iterator[ContainerHome]:
    port = free_port()
    configuration = "/etc/postgresql/postgresql.conf"
    container = (
        DockerContainer(POSTGRES)
        .with_env("POSTGRES_PASSWORD", chosen[SUPERUSER])
        .with_volume_mapping(ROOT / "deploy" / "postgres" / "postgresql.conf", configuration, "ro")
        .with_command(["postgres", "-c", f"config_file={configuration}"])
        .with_network(network)
        .with_network_aliases("db")
        .with_kwargs(shm_size="256m")
    )
    with _published(container, 5432, port):
        home = ContainerHome(container, port, chosen)
        _await_answer(home.dsn(SUPERUSER, "postgres"))
        yield home


@contextmanager
def _pgbouncer(network: Network, users: Path) -> Iterator[int]:
    port = free_port()
    with DockerImage(ROOT / "deploy" / "pgbouncer", tag=PGBOUNCER, clean_up=False) as image:
        container = (
            DockerContainer(str(image))
            .with_volume_mapping(users, "/run/secrets/pgbouncer-users", "ro")
            .with_network(network)
        )
        with _published(container, 6432, port):
            yield port


def _published(container: DockerContainer, inside: int, port: int) -> DockerContainer:
    """On the loopback interface alone; by default it would be on all."""
    container.ports = {f"{inside}/tcp": ("127.0.0.1", port)}  # type: ignore[dict-item]  # as the Docker client takes it
    return container


def _await_answer(dsn: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            execute(dsn, "SELECT")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
