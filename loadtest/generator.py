"""The load generator: open loop (latency at an offered rate) or closed loop (capacity), at protocol level.

In open loop a request is due when the schedule says so, whether or not the ones before were answered, and its
latency counts from then: a server that stalls is charged for every request that should have been sent
meanwhile (coordinated omission, after Gil Tene's wrk2), those that it has not answered by the end included.
"""

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Literal, cast

import msgspec
import numpy as np
import uvloop
from hdrh.histogram import HdrHistogram

from loadtest import keys
from loadtest.keys import Keys
from loadtest.tally import Tally

LOWEST, HIGHEST, DIGITS = 1, 60_000_000, 3
"""Of the histograms: microseconds, up to a minute, with three significant digits."""

_DRAIN_SECONDS = 5.0

Arrivals = Literal["poisson", "constant"]


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to send. Without a `rate`, closed loop: each connection sends as soon as it has its answer."""

    port: int
    keys: Keys
    connections: Annotated[int, msgspec.Meta(ge=1)] = 64
    seconds: float = 10.0
    warm_up: float = 2.0
    """Seconds before the measurement, under the same load; they count for the verdict only."""
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    seed: int = 1


class Generated(msgspec.Struct):
    """What came of a Load."""

    requests: int
    """Redirects received in the measurement."""
    seconds: float
    errors: int
    """Of the requests due in the measurement: answered by no redirect, or not at all."""
    unsent: int
    """Of the requests due in the measurement: not sent by its end."""
    offered: float | None
    """Requests a second."""
    latency: str
    """Of the requests due in the measurement that were redirected, or had no answer when the load was given up: an
    encoded HdrHistogram, microseconds. Other answers are errors, and fast ones flatter nobody."""
    lag: str
    """How late requests were sent: an encoded HdrHistogram, microseconds."""
    cpu_seconds: float
    """Of the generator in the measurement."""
    tally: dict[str, dict[str, int]]


def histogram(encoded: str | None = None) -> HdrHistogram:
    """An empty histogram, or the one that `encoded` holds."""
    if encoded is not None:
        return HdrHistogram.decode(encoded)
    return HdrHistogram(LOWEST, HIGHEST, DIGITS)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    __slots__ = ("_buffer", "_run", "code", "due", "transport")

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._buffer = b""
        self.transport: asyncio.Transport | None = None
        self.code: str | None = None
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not inherit from it

    def send(self, code: str, due: float) -> None:
        assert self.transport is not None
        self.code, self.due = code, due
        self.transport.write(b"GET /%b HTTP/1.1\r\nHost: load\r\n\r\n" % code.encode("ascii"))

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            self._buffer = data
            return
        self._buffer = b""
        code, self.code = self.code, None
        assert code is not None
        self._run.answered(self, code, head)

    def connection_lost(self, _error: Exception | None) -> None:
        self._run.lost(self, self.code)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length: ")
    return int(head[at + 16 :].split(b"\r", 1)[0]) if at >= 0 else 0


class _Run:
    """One Load being carried out."""

    def __init__(self, load: Load, codes: Iterator[str]) -> None:
        self._load = load
        self._codes = codes
        self._loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()
        self._due: deque[tuple[str, float]] = deque()
        self._busy = 0
        self._begin = self._end = float("inf")
        self._ended = False
        self._quiet = asyncio.Event()
        self.tally = Tally()
        self.latency = histogram()
        self.lag = histogram()
        self.requests = 0
        self.errors = 0

    async def carry_out(self) -> Generated:
        load = self._load
        for _ in range(load.connections):
            await self._connect()
        start = self._loop.time()
        self._begin, self._end = start + load.warm_up, start + load.warm_up + load.seconds
        cpu: list[float] = []
        self._loop.call_at(self._begin, lambda: cpu.append(time.process_time()))
        if load.rate is None:
            for connection in list(self._idle):
                self._next(connection)
            await asyncio.sleep(self._end - self._loop.time())
        else:
            await self._keep_schedule(start, load.rate)
        cpu.append(time.process_time())
        self._ended = True
        if self._busy:
            with suppress(TimeoutError):  # what is left then stays in doubt
                await asyncio.wait_for(self._quiet.wait(), _DRAIN_SECONDS)
        unsent = [due for _, due in self._due if self._measured(due)]
        unanswered = [c.due for c in self._connections if c.code is not None and self._measured(c.due)]
        for due in unsent + unanswered:
            self._took_since(due)
        self.errors += len(unanswered)
        for connection in self._connections:
            connection.close()
        return Generated(
            requests=self.requests,
            seconds=load.seconds,
            errors=self.errors,
            unsent=len(unsent),
            offered=load.rate,
            latency=self.latency.encode().decode("ascii"),
            lag=self.lag.encode().decode("ascii"),
            cpu_seconds=cpu[-1] - cpu[0],
            tally=self.tally.as_data(),
        )

    async def _connect(self) -> None:
        _, connection = await self._loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._load.port)
        self._connections.add(connection)
        self._idle.append(connection)

    async def _keep_schedule(self, start: float, rate: float) -> None:
        random = np.random.default_rng(self._load.seed)
        due = start
        while True:
            gaps = np.full(1000, 1 / rate) if self._load.arrivals == "constant" else random.exponential(1 / rate, 1000)
            for gap in gaps.tolist():
                due += gap
                if due >= self._end:
                    await asyncio.sleep(max(0.0, self._end - self._loop.time()))
                    return
                # Timers fire up to a millisecond late, and then all that is due goes out. Looking at the clock in
                # between instead would take a core from the server.
                if (early := due - self._loop.time()) > 0:
                    await asyncio.sleep(early)
                if self._idle:
                    self._send(self._idle.popleft(), next(self._codes), due)
                else:
                    self._due.append((next(self._codes), due))

    def _send(self, connection: _Connection, code: str, due: float) -> None:
        if self._measured(due):
            self.lag.record_value(max(1, round((self._loop.time() - due) * 1e6)))
        self._busy += 1
        self.tally.sent[code] += 1
        connection.send(code, due)

    def _measured(self, due: float) -> bool:
        return self._begin <= due < self._end

    def _took_since(self, due: float) -> None:
        self.latency.record_value(min(HIGHEST, max(1, round((self._loop.time() - due) * 1e6))))

    def _next(self, connection: _Connection) -> None:
        """Give an idle connection something to do."""
        if self._ended:
            return
        if self._load.rate is None:
            if connection in self._idle:
                self._idle.remove(connection)
            self._send(connection, next(self._codes), self._loop.time())
        elif self._due:
            self._send(connection, *self._due.popleft())
        else:
            self._idle.append(connection)

    def answered(self, connection: _Connection, code: str, head: bytes) -> None:
        status = head[9:12].decode("ascii")
        self.tally.statuses[status] += 1
        if status == "302":
            self.tally.redirected[code] += 1
            if b"location: %b\r\n" % keys.destination(code).encode("ascii") not in head + b"\r\n":
                self.tally.wrong[code] += 1
            self.requests += self._measured(self._loop.time())
            if self._measured(connection.due):
                self._took_since(connection.due)
        else:
            if status == "404":
                self.tally.not_found[code] += 1
            self.errors += self._measured(connection.due)
        self._done()
        self._next(connection)

    def lost(self, connection: _Connection, code: str | None) -> None:
        if code is not None:
            self.errors += self._measured(connection.due)
            self._done()
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._ended:
            self._loop.create_task(self._replace())

    async def _replace(self) -> None:
        while not self._ended:
            try:
                await self._connect()
            except OSError:
                await asyncio.sleep(0.05)
            else:
                self._next(self._idle.pop())
                return

    def _done(self) -> None:
        self._busy -= 1
        if not self._busy and self._ended:
            self._quiet.set()


def run(load: Load) -> Generated:
    """Carry out `load`, on an event loop of its own. Raises OSError where nobody listens."""

    async def carry_out() -> Generated:
        return await _Run(load, keys.drawn(load.keys, load.seed)).carry_out()

    return uvloop.run(carry_out())


def main() -> None:
    """Carry out the Load on standard input, and write what came of it to standard output."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    result = msgspec.json.encode(run(load))
    # Buffered whatever PYTHONUNBUFFERED says: unbuffered, what a stopped process had not written yet is dropped.
    with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(result)


if __name__ == "__main__":
    main()
