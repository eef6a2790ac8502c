"""A service in processes of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

import psutil

HOPCOUNT = Path(sys.executable).with_name("hopcount")


class Server:
    """A running `hopcount serve`."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def await_listening(self) -> list[str]:
        """What it printed until it listens."""
        lines = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Listening on "):
                return lines
        raise AssertionError(f"the server ended: {''.join(lines)}")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM: the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


def environment(**settings: object) -> dict[str, str]:
    """This process's, with the `settings` as HOPCOUNT_*."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOPCOUNT_")}
    return clean | {f"HOPCOUNT_{name.upper()}": str(value) for name, value in settings.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(*, port: int | None = None, log: TextIO | None = None, **settings: object) -> Iterator[Server]:
    """A service that listens; ended, by force if need be, with the context. `log` gets its standard error."""
    port = port or free_port()
    process = subprocess.Popen(
        [HOPCOUNT, "serve"],
        env=environment(port=port, **settings),
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    server = Server(process, port)
    try:
        server.await_listening()
        yield server
    finally:
        workers = server.workers if process.poll() is None else []
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        psutil.wait_procs(workers, timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def hopcount(
    *arguments: str, stdin: str | bytes = "", cwd: Path | None = None, settings: object = MappingProxyType({})
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    assert isinstance(settings, dict | MappingProxyType)
    done = subprocess.run(
        [HOPCOUNT, *arguments],
        env=environment(**settings),
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        cwd=cwd,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
