"""What the service counts and times of itself, in the form of Prometheus and over all workers."""

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

MEDIA_TYPE = "text/plain; version=0.0.4"
"""In UTF-8, which Litestar adds."""

_SIZES = tuple(2**power for power in range(12))
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_GAUGES_EVERY = 1.0
"""Seconds between two looks at what gauges show; the worker that is asked looks once more."""


class RedirectMetrics:
    """The redirects of one worker; what happens to every click is noted a batch at a time."""

    def __init__(self, registry: CollectorRegistry, status: int) -> None:
        answers = Counter(
            "hopcount_redirects",
            "Answers below /{code}; those to GET with the status of a redirect were counted as clicks.",
            ["method", "status"],
            registry=registry,
        )
        self._found = answers.labels("GET", status)
        self._missing = answers.labels("GET", 404)
        self._not_counted = answers.labels("GET", 503)
        self._head = {True: answers.labels("HEAD", status), False: answers.labels("HEAD", 404)}
        self._head_failed = answers.labels("HEAD", 503)
        self._refused = answers.labels("other", 405)
        self._shed = Counter("hopcount_shed_requests", "Redirects refused by a full queue.", registry=registry)
        self._size = Histogram(
            "hopcount_batch_size", "Clicks in a counting statement.", buckets=_SIZES, registry=registry
        )
        self._time = Histogram(
            "hopcount_statement_seconds", "Time of counting statements.", buckets=_SECONDS, registry=registry
        )
        self._failed = Counter(
            "hopcount_statement_retries",
            "Counting statements that failed, and are sent again for those who still wait.",
            ["reason"],
            registry=registry,
        )

    def sent(self, clicks: int, seconds: float) -> None:
        """A statement committed this many clicks."""
        self._size.observe(clicks)
        self._time.observe(seconds)

    def foresee(self, *errors: type[Exception]) -> None:
        """Show zero for these until they fail a statement: Prometheus sees no rise where nothing was before."""
        for error in errors:
            self._failed.labels(error.__name__)

    def failed(self, error: Exception) -> None:
        """A statement will be sent again."""
        self._failed.labels(type(error).__name__).inc()

    def answered(self, found: int, missing: int) -> None:
        """The clicks of a batch are about to be answered."""
        if found:
            self._found.inc(found)
        if missing:
            self._missing.inc(missing)

    def expired(self, clicks: int) -> None:
        """The deadline of this many clicks has passed."""
        self._not_counted.inc(clicks)

    def shed(self) -> None:
        """The queue was full."""
        self._shed.inc()
        self._not_counted.inc()

    def looked_up(self, found: bool | None) -> None:
        """A HEAD was answered; None where the database could not be asked."""
        (self._head_failed if found is None else self._head[found]).inc()

    def refused(self) -> None:
        """Another method than GET and HEAD."""
        self._refused.inc()


class ApiMetrics:
    """The API calls of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter("hopcount_api_requests", "API calls.", ["method", "route", "status"], registry=registry)
        self._time = Histogram(
            "hopcount_api_request_seconds",
            "From an API call to the beginning of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A call is about to be answered. `route` is one of a few templates, never a path as it came."""
        self._calls.labels(method if method in _METHODS else "other", route, status).inc()
        self._time.labels(route).observe(seconds)


class Metrics:
    """All metrics of one worker. A context: inside it the gauges are kept up to date."""

    def __init__(self, redirect_status: int, shared: Path | None = None) -> None:
        """`shared` is the directory that all workers write to, if there is more than this process.

        It must have been in PROMETHEUS_MULTIPROC_DIR when prometheus_client was imported.
        """
        self._registry = CollectorRegistry()
        self._source: Collector = self._registry if shared is None else _AllWorkers(shared)
        self.redirects = RedirectMetrics(self._registry, redirect_status)
        self.api = ApiMetrics(self._registry)
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._task: asyncio.Task[None] | None = None

    def follow(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what `value` returns, added up over the workers that live."""
        self._gauges.append((Gauge(name, text, multiprocess_mode="livesum", registry=self._registry), value))

    async def exposition(self) -> bytes:
        """Everything in the text format 0.0.4, from whichever worker it is asked."""
        self._look()
        # On a thread, since it reads the files of all workers.
        return await asyncio.to_thread(generate_latest, self._source)

    def _look(self) -> None:
        for gauge, value in self._gauges:
            gauge.set(value())

    async def _keep_looking(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_GAUGES_EVERY)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task


class _AllWorkers(Collector):
    """What is in the files of a directory: of dead workers the counters, of living ones everything."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        for file in self._directory.glob("gauge_live*.db"):
            if not _is_worker(int(file.stem.rpartition("_")[2])):
                file.unlink(missing_ok=True)
        # A worker that starts, or was killed then, has made a file and not yet given it its length.
        files = [str(file) for file in self._directory.glob("*.db") if _length(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _is_worker(pid: int) -> bool:
    """Whether `pid` is a living child of this worker's parent; a number may be given out again."""
    try:
        parent: int = psutil.Process(pid).ppid()
    except psutil.NoSuchProcess:
        return False
    return parent == os.getppid()


def _length(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0
