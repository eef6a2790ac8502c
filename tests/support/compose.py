"""A Compose stack of the tests' own: its own name, volumes, secrets and ports."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.postgres import ROOT
from tests.support.server import environment, free_port

PROFILES = ("pool", "load", "observe")


def command() -> list[str] | None:
    """Docker Compose, as a plugin or by itself; None where there is none, or no engine."""
    for candidate in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(candidate[0]) and _succeeds(*candidate, "version") and _succeeds("docker", "info"):
            return candidate
    return None


def _succeeds(*arguments: str) -> bool:
    return subprocess.run(arguments, capture_output=True, check=False).returncode == 0


class Stack:
    """What `compose.yaml` describes, running or not."""

    def __init__(self, compose: list[str], place: Path) -> None:
        self._compose = compose
        self.port = free_port()
        self.prometheus_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "COMPOSE_PROJECT_NAME": f"hopcount-test-{os.getpid()}",
            "HOPCOUNT_PUBLISH": f"127.0.0.1:{self.port}",
            "HOPCOUNT_SECRETS": str(place),
            "PROMETHEUS_PUBLISH": f"127.0.0.1:{self.prometheus_port}",
        }

    def __call__(self, *arguments: str, profiles: tuple[str, ...] = ()) -> str:
        """What a command of Docker Compose printed."""
        chosen = [option for profile in profiles for option in ("--profile", profile)]
        done = subprocess.run(
            [*self._compose, *chosen, *arguments],
            cwd=ROOT, env=environment() | self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def container(self, service: str) -> str:
        """The number of a service's container."""
        return self("ps", "-q", service, profiles=PROFILES).split()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container."""
        done = subprocess.run(["docker", "inspect", self.container(service)], capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def exit_status(self, service: str) -> int:
        """Of a service's container, once it has ended."""
        done = subprocess.run(["docker", "wait", self.container(service)], capture_output=True, check=True)
        return int(done.stdout)

    def sql(self, query: str) -> str:
        """What a superuser's query gives, its columns with | between them."""
        return self("exec", "-T", "db", "psql", "-U", "postgres", "-d", "hopcount", "-Atc", query).strip()


@contextmanager
def stack(compose: list[str]) -> Iterator[Stack]:
    """A stack that is not up yet; it is gone, with its volumes, after the context."""
    with TemporaryDirectory(prefix="hopcount-test-") as place:
        secrets = Path(place) / "secrets"
        subprocess.run([ROOT / "deploy" / "make-secrets", secrets], check=True, stdout=subprocess.DEVNULL)
        made = Stack(compose, secrets)
        try:
            yield made
        finally:
            made("down", "--volumes", "--remove-orphans", "--timeout", "10", profiles=PROFILES)
