"""The click ledger: counts clicks in natural batches, and answers a click once it is committed.

What arrives while a statement is in flight forms the next batch. There is no timer: a single click is
counted at once, and batches grow exactly when there is more to do.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Protocol, Self

from uuid_utils import UUID, uuid7

from service.metrics import RedirectMetrics
from service.settings import Settings
from service.store.clicks import Batch, Counted, Form
from service.store.errors import InDoubt, RolledBack, RowLocked, StoreError, Unavailable

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two tries to reach a database that is away."""


class NotCounted(Exception):
    """No answer can be given now, and so none is: the client should come again."""


class QueueFull(NotCounted):
    """More clicks are waiting than this worker takes on."""


class DeadlinePassed(NotCounted):
    """The database did not commit the click in time. It may be counted all the same."""


class Writer(Protocol):
    """What counts a batch: `service.store.clicks.ClickWriter`."""

    async def count(self, batch: Batch, form: Form) -> Counted: ...


class _Click:
    __slots__ = ("answer", "code", "expires", "id")

    def __init__(self, code: str, expires: float, answer: "asyncio.Future[str | None]") -> None:
        self.id: UUID = uuid7()
        self.code = code
        self.expires = expires
        self.answer = answer


class Ledger:
    """The clicks of one worker. A context: inside it the flushers run.

    One flusher for each of `writers` but the last; the last one is kept for the links whose row somebody
    else holds locked, so that they delay no other.
    """

    def __init__(
        self,
        settings: Settings,
        writers: Sequence[Writer],
        look_up: Callable[[str], Awaitable[str | None]],
        metrics: RedirectMetrics,
    ) -> None:
        self._deadline = settings.deadline
        self._batch_limit = settings.batch_limit
        self._queue_limit = settings.queue_limit
        self._writers = writers
        self._look_up = look_up
        self._metrics = metrics
        metrics.foresee(Unavailable, InDoubt, RowLocked, RolledBack)
        self._tasks: list[asyncio.Task[None]] = []
        self._unfinished = 0  # clicks that are waiting, held or in a statement
        self._waiting: deque[_Click] = deque()
        self._idle: list[asyncio.Future[None]] = []  # flushers with nothing to do
        self._lookups: set[asyncio.Future[str | None]] = set()  # nobody else holds those that were given up
        self._held: dict[str, list[_Click]] = {}  # clicks by code, of links that are locked
        self._something_held = asyncio.Event()
        self._unanswered: deque[_Click] = deque()  # by age, so that one timer serves all deadlines
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Redirects that this worker has accepted and not answered."""
        return self._unfinished

    def record(self, code: str) -> "asyncio.Future[str | None]":
        """Count a click on `code`: a future of its destination, or of None where there is no such link.

        It is done once the click is committed. It raises DeadlinePassed. Cancelling it gives up the answer;
        the click may be counted. Raises QueueFull.
        """
        held = self._held.get(code)
        # Those who wait for one locked link leave room for all others.
        if self._unfinished >= self._queue_limit or (held is not None and len(held) >= self._queue_limit // 2):
            self._metrics.shed()
            raise QueueFull
        loop = asyncio.get_running_loop()
        click = _Click(code, loop.time() + self._deadline, loop.create_future())
        self._unfinished += 1
        unanswered = self._unanswered
        while unanswered and unanswered[0].answer.done():
            unanswered.popleft()
        unanswered.append(click)
        if self._timer is None:
            self._timer = loop.call_at(click.expires, self._expire)
        if held is not None:
            held.append(click)
        else:
            self._waiting.append(click)
            # Whoever was woken for the first of these takes the others too.
            if len(self._waiting) == 1 and self._idle:
                self._idle.pop().set_result(None)
        return click.answer

    async def look_up(self, code: str) -> str | None:
        """The destination of `code` without a click, None where there is no such link. Raises NotCounted."""
        lookup = asyncio.ensure_future(self._look_up(code))
        self._lookups.add(lookup)
        lookup.add_done_callback(self._end_lookup)
        # To end a statement takes as long again where the database is silent: nobody waits for that.
        done, _ = await asyncio.wait((lookup,), timeout=self._deadline)
        try:
            if not done:
                lookup.cancel()
                raise TimeoutError
            destination = lookup.result()
        except (StoreError, TimeoutError) as error:
            self._metrics.looked_up(None)
            raise DeadlinePassed from error
        self._metrics.looked_up(destination is not None)
        return destination

    def _end_lookup(self, lookup: "asyncio.Future[str | None]") -> None:
        self._lookups.discard(lookup)
        if not lookup.cancelled():
            lookup.exception()  # of one that was given up, nobody else asks for it

    async def _flush(self, writer: Writer) -> None:
        while True:
            while not self._waiting:
                wake = asyncio.get_running_loop().create_future()
                self._idle.append(wake)
                await wake
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
            if self._waiting and self._idle:
                self._idle.pop().set_result(None)
            await self._count(writer, batch)

    async def _count(self, writer: Writer, clicks: list[_Click]) -> None:
        """Count `clicks`, however often it takes, as long as one of them is still waited for."""
        form = Form.ONCE
        pause = FIRST_PAUSE
        while clicks := self._still_wanted(clicks):
            try:
                counted = await self._send(writer, clicks, form)
            except RowLocked:
                form = Form.AGAIN_AROUND_LOCKS
            except StoreError as error:
                if not isinstance(error, Unavailable):
                    form = Form.AGAIN_AROUND_LOCKS
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._settle(clicks, counted)
                return

    async def _attend_held(self, writer: Writer) -> None:
        """Count the clicks of locked links: all that became free, then wait for one of the others."""
        while True:
            await self._something_held.wait()
            pause = FIRST_PAUSE
            while self._held:
                try:
                    await self._count_held(writer, list(self._held), Form.AGAIN_AROUND_LOCKS)
                    if self._held:
                        code = next(iter(self._held))
                        self._held[code] = self._held.pop(code)  # another one's turn next time
                        await self._count_held(writer, [code], Form.AGAIN)
                except RowLocked:
                    pass
                except StoreError:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
            self._something_held.clear()

    async def _count_held(self, writer: Writer, codes: list[str], form: Form) -> None:
        clicks: list[_Click] = []
        for code in codes:
            self._held[code] = self._still_wanted(self._held[code])
            clicks += self._held[code][: self._batch_limit - len(clicks)]
            if not self._held[code]:
                del self._held[code]
        if not clicks:
            return
        counted = await self._send(writer, clicks, form)
        sent = set(clicks)
        for code in {click.code for click in clicks}.difference(counted.busy):
            self._held[code] = [click for click in self._held[code] if click not in sent]
            if not self._held[code]:
                del self._held[code]
        self._settle([click for click in clicks if click.code not in counted.busy], counted)

    async def _send(self, writer: Writer, clicks: list[_Click], form: Form) -> Counted:
        began = perf_counter()
        try:
            counted = await writer.count(_batch(clicks), form)
        except StoreError as error:
            self._metrics.failed(error)
            raise
        self._metrics.sent(len(clicks), perf_counter() - began)
        return counted

    def _settle(self, clicks: list[_Click], counted: Counted) -> None:
        """Answer the `clicks` of a committed batch; hold those whose link was locked."""
        found = missing = 0
        for click in clicks:
            if counted.busy and click.code in counted.busy:
                self._held.setdefault(click.code, []).append(click)
                self._something_held.set()
                continue
            self._unfinished -= 1
            if not click.answer.done():
                destination = counted.destinations.get(click.code)
                if destination is None:
                    missing += 1
                else:
                    found += 1
                click.answer.set_result(destination)
        # Still before the answers: those who wait for them run after this.
        self._metrics.answered(found, missing)

    def _still_wanted(self, clicks: Iterable[_Click]) -> list[_Click]:
        """`clicks` without those that were given up; for the ledger, these are finished."""
        clicks = list(clicks)
        wanted = [click for click in clicks if not click.answer.done()]
        self._unfinished -= len(clicks) - len(wanted)
        return wanted

    def _expire(self) -> None:
        """Give up the clicks whose deadline has passed."""
        loop = asyncio.get_running_loop()
        expired = 0
        unanswered = self._unanswered
        while unanswered and (unanswered[0].answer.done() or unanswered[0].expires <= loop.time()):
            click = unanswered.popleft()
            if not click.answer.done():
                click.answer.set_exception(DeadlinePassed())
                expired += 1
        if expired:
            self._metrics.expired(expired)
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
            self._unfinished -= 1
        self._timer = loop.call_at(unanswered[0].expires, self._expire) if unanswered else None

    async def __aenter__(self) -> Self:
        *flushers, attendant = self._writers
        self._tasks = [asyncio.create_task(self._flush(writer)) for writer in flushers]
        self._tasks.append(asyncio.create_task(self._attend_held(attendant)))
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Answer what was accepted, for no longer than the deadline, and stop."""
        answers = [click.answer for click in self._unanswered]
        if answers:
            await asyncio.wait(answers, timeout=self._deadline)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task


def _batch(clicks: Iterable[_Click]) -> dict[str, list[UUID]]:
    by_code: dict[str, list[UUID]] = {}
    for click in clicks:
        ids = by_code.get(click.code)
        if ids is None:
            by_code[click.code] = [click.id]
        else:
            ids.append(click.id)
    return by_code
