"""The click ledger, with writers that the test controls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from uuid_utils import UUID

from service.ledger import DeadlinePassed, Ledger, QueueFull
from service.metrics import Metrics
from service.settings import Settings
from service.store.clicks import Batch, Counted, Form
from service.store.errors import InDoubt, RolledBack, RowLocked, StoreError, Unavailable

DESTINATION = "https://example.org/"


class Statement:
    """One call of a writer, which the test answers."""

    def __init__(self, batch: Batch, form: Form) -> None:
        self.batch = {code: list(ids) for code, ids in batch.items()}
        self.form = form
        self.outcome: asyncio.Future[Counted] = asyncio.get_running_loop().create_future()

    @property
    def sizes(self) -> dict[str, int]:
        return {code: len(ids) for code, ids in self.batch.items()}

    @property
    def ids(self) -> set[UUID]:
        return {click for ids in self.batch.values() for click in ids}

    def commit(self, *, busy: tuple[str, ...] = (), missing: tuple[str, ...] = ()) -> None:
        found = {code: DESTINATION + code for code in self.batch if code not in busy and code not in missing}
        self.outcome.set_result(Counted(found, list(busy)))

    def fail(self, error: StoreError) -> None:
        self.outcome.set_exception(error)


class ScriptedWriter:
    def __init__(self) -> None:
        self._statements: asyncio.Queue[Statement] = asyncio.Queue()

    async def count(self, batch: Batch, form: Form) -> Counted:
        statement = Statement(batch, form)
        self._statements.put_nowait(statement)
        return await statement.outcome

    async def next(self) -> Statement:
        return await self._statements.get()

    @property
    def nothing_sent(self) -> bool:
        return self._statements.empty()


class Scene:
    """A ledger with scripted writers; `attendant` counts what is held."""

    def __init__(self, ledger: Ledger, writers: list[ScriptedWriter]) -> None:
        self.record = ledger.record
        self.look_up = ledger.look_up
        self.ledger = ledger
        *self.writers, self.attendant = writers
        self.writer = self.writers[0]


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def started(**given: Any) -> Scene:
            settings = Settings(**({"flushers": 1, "deadline": 30.0} | given))
            writers = [ScriptedWriter() for _ in range(settings.flushers + 1)]
            ledger = Ledger(settings, writers, look_up, Metrics(302).redirects)
            await stack.enter_async_context(ledger)
            await settled()
            return Scene(ledger, writers)

        async def look_up(code: str) -> str | None:
            if code == "down":
                raise Unavailable("gone")
            if code == "silent":
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.Event().wait()  # nor does it take the news that nobody waits any more
            return None if code == "missing" else DESTINATION + code

        yield started


async def settled() -> None:
    """Until every task that could run has run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_single_click_is_sent_at_once_and_answered_with_its_destination(start: Start) -> None:
    scene = await start()
    answer = scene.record("a")
    statement = await scene.writer.next()
    assert (statement.sizes, statement.form) == ({"a": 1}, Form.ONCE)
    await settled()
    assert not answer.done(), "answered before the commit"
    statement.commit()
    assert await answer == DESTINATION + "a"


async def test_what_arrives_during_a_statement_forms_the_next_batch(start: Start) -> None:
    scene = await start()
    answers = [scene.record("a")]
    first = await scene.writer.next()
    answers += [scene.record(code) for code in ("b", "a", "b", "c")]
    await settled()
    assert scene.writer.nothing_sent
    first.commit()
    second = await scene.writer.next()
    assert second.sizes == {"a": 1, "b": 2, "c": 1}
    second.commit()
    assert await asyncio.gather(*answers) == [DESTINATION + code for code in "ababc"]
    assert len(first.ids | second.ids) == 5, "every click has an id of its own"


async def test_a_batch_has_at_most_its_limit_and_the_oldest_go_first(start: Start) -> None:
    scene = await start(batch_limit=3)
    for code in "abcde":
        scene.record(code)
    first = await scene.writer.next()
    assert set(first.batch) == {"a", "b", "c"}
    first.commit()
    second = await scene.writer.next()
    assert set(second.batch) == {"d", "e"}
    second.commit()


async def test_another_flusher_takes_what_the_first_leaves(start: Start) -> None:
    scene = await start(batch_limit=1, flushers=2)
    scene.record("a")
    scene.record("b")
    batches = [await writer.next() for writer in scene.writers]
    assert {code for batch in batches for code in batch.batch} == {"a", "b"}
    for batch in batches:
        batch.commit()


async def test_a_code_without_a_link_is_answered_with_none(start: Start) -> None:
    scene = await start()
    here, gone = scene.record("a"), scene.record("b")
    (await scene.writer.next()).commit(missing=("b",))
    assert (await here, await gone) == (DESTINATION + "a", None)


async def test_beyond_the_queue_limit_clicks_are_refused_until_others_are_done(start: Start) -> None:
    scene = await start(queue_limit=2)
    scene.record("a")
    scene.record("a")
    with pytest.raises(QueueFull):
        scene.record("a")
    (await scene.writer.next()).commit()
    await settled()
    answer = scene.record("a")
    (await scene.writer.next()).commit()
    assert await answer


async def test_those_who_wait_for_a_locked_link_leave_room_for_others(start: Start) -> None:
    scene = await start(queue_limit=4)
    waiting = [scene.record("x")]
    (await scene.writer.next()).commit(busy=("x",))
    attempt = await scene.attendant.next()
    waiting.append(scene.record("x"))
    with pytest.raises(QueueFull):
        scene.record("x")
    others = [scene.record("a"), scene.record("b")]
    (await scene.writer.next()).commit()
    await asyncio.gather(*others)
    attempt.commit()
    (await scene.attendant.next()).commit()
    assert await asyncio.gather(*waiting) == [DESTINATION + "x"] * 2


async def test_a_cancelled_click_cancels_nobody_else(start: Start) -> None:
    scene = await start()
    leaves, stays = scene.record("a"), scene.record("a")
    statement = await scene.writer.next()
    leaves.cancel()
    await settled()
    assert not statement.outcome.cancelled()
    statement.commit()
    assert await stays == DESTINATION + "a"


async def test_a_click_cancelled_before_it_was_sent_is_not_sent(start: Start) -> None:
    scene = await start(queue_limit=3)
    scene.record("a")
    first = await scene.writer.next()
    leaves, stays = scene.record("b"), scene.record("c")
    leaves.cancel()
    first.commit()
    second = await scene.writer.next()
    assert second.sizes == {"c": 1}
    second.commit()
    await stays
    for code in "abc":
        scene.record(code)  # nothing of it all still counts against the limit
    (await scene.writer.next()).commit()


@pytest.mark.parametrize("error", [InDoubt("lost"), RolledBack("deadlock"), RowLocked("locked")])
async def test_a_failed_statement_is_sent_again_in_the_careful_form_with_the_same_ids(
    start: Start, error: StoreError
) -> None:
    scene = await start()
    answers = [scene.record(code) for code in "aab"]
    first = await scene.writer.next()
    first.fail(error)
    second = await scene.writer.next()
    assert second.form is Form.AGAIN_AROUND_LOCKS
    assert second.batch == first.batch
    second.fail(InDoubt("lost once more"))
    third = await scene.writer.next()
    assert (third.form, third.batch) == (Form.AGAIN_AROUND_LOCKS, first.batch)
    third.commit()
    assert await asyncio.gather(*answers) == [DESTINATION + code for code in "aab"]


async def test_clicks_that_nobody_can_have_counted_are_sent_again_as_they_were(start: Start) -> None:
    scene = await start()
    answer = scene.record("a")
    (await scene.writer.next()).fail(Unavailable("starting up"))
    again = await scene.writer.next()
    assert again.form is Form.ONCE
    again.commit()
    assert await answer


async def test_once_in_doubt_a_click_never_goes_back_to_the_quick_form(start: Start) -> None:
    scene = await start()
    answer = scene.record("a")
    (await scene.writer.next()).fail(InDoubt("lost"))
    (await scene.writer.next()).fail(Unavailable("starting up"))
    last = await scene.writer.next()
    assert last.form is Form.AGAIN_AROUND_LOCKS
    last.commit()
    assert await answer


async def test_a_locked_link_is_held_and_delays_no_other(start: Start) -> None:
    scene = await start()
    locked, free = scene.record("locked"), scene.record("free")
    (await scene.writer.next()).fail(RowLocked("locked"))
    (await scene.writer.next()).commit(busy=("locked",))
    assert await free == DESTINATION + "free"

    later = scene.record("locked")  # joins those that are held, and leaves the flusher alone
    other = scene.record("other")
    statement = await scene.writer.next()
    assert statement.sizes == {"other": 1}
    statement.commit()
    assert await other

    around = await scene.attendant.next()
    assert around.form is Form.AGAIN_AROUND_LOCKS
    around.commit(busy=("locked",))
    waiting = await scene.attendant.next()
    assert waiting.form is Form.AGAIN
    assert not locked.done()
    assert not later.done()
    waiting.commit()
    assert [await locked, await later] == [DESTINATION + "locked"] * 2

    free_again = scene.record("locked")
    (await scene.writer.next()).commit()
    assert await free_again


async def test_of_several_locked_links_each_is_waited_for_in_turn(start: Start) -> None:
    scene = await start()
    answers = {code: scene.record(code) for code in "xy"}
    (await scene.writer.next()).commit(busy=("x", "y"))
    waited_for = []
    for _ in range(2):
        (await scene.attendant.next()).commit(busy=("x", "y"))
        turn = await scene.attendant.next()
        waited_for += list(turn.batch)
        turn.fail(RowLocked("still"))
    assert sorted(waited_for) == ["x", "y"]
    (await scene.attendant.next()).commit()
    assert [await answer for answer in answers.values()] == [DESTINATION + "x", DESTINATION + "y"]


async def test_held_clicks_survive_a_lost_connection_with_their_ids(start: Start) -> None:
    scene = await start()
    answer = scene.record("x")
    first = await scene.writer.next()
    first.commit(busy=("x",))
    (await scene.attendant.next()).fail(InDoubt("lost"))
    again = await scene.attendant.next()
    assert again.batch == first.batch
    again.commit()
    assert await answer


async def test_at_the_deadline_the_waiting_are_given_up_and_not_sent(start: Start) -> None:
    scene = await start(deadline=0.05, lock_timeout=0.01, queue_limit=2)
    in_flight = scene.record("a")
    statement = await scene.writer.next()
    waiting = scene.record("b")
    for answer in (in_flight, waiting):
        with pytest.raises(DeadlinePassed):
            await answer
    statement.commit()
    await settled()
    assert scene.writer.nothing_sent
    recovered = [scene.record("c"), scene.record("c")]
    (await scene.writer.next()).commit()
    await asyncio.gather(*recovered)


async def test_at_the_deadline_a_failing_batch_is_given_up(start: Start) -> None:
    scene = await start(deadline=0.05, lock_timeout=0.01)
    answer = scene.record("a")
    first = await scene.writer.next()
    with pytest.raises(DeadlinePassed):
        await answer
    first.fail(InDoubt("lost"))
    later = scene.record("b")
    assert (await scene.writer.next()).sizes == {"b": 1}
    later.cancel()


async def test_at_the_deadline_held_clicks_are_given_up(start: Start) -> None:
    scene = await start(deadline=0.05, lock_timeout=0.01, queue_limit=1)
    answer = scene.record("x")
    (await scene.writer.next()).commit(busy=("x",))
    statement = await scene.attendant.next()
    with pytest.raises(DeadlinePassed):
        await answer
    statement.commit(busy=("x",))
    await settled()
    freed = scene.record("x")
    (await scene.writer.next()).commit()
    assert await freed


async def test_the_end_waits_for_what_was_accepted() -> None:
    writers = [ScriptedWriter(), ScriptedWriter()]

    async def never(_code: str) -> str | None:
        raise AssertionError

    ledger = Ledger(Settings(flushers=1), writers, never, Metrics(302).redirects)
    async with ledger:
        answer = ledger.record("a")
        statement = await writers[0].next()
        asyncio.get_running_loop().call_soon(statement.commit)
    assert answer.result() == DESTINATION + "a"


async def test_looking_up_counts_nothing(start: Start) -> None:
    scene = await start()
    assert await scene.look_up("a") == DESTINATION + "a"
    assert await scene.look_up("missing") is None
    with pytest.raises(DeadlinePassed):
        await scene.look_up("down")
    assert scene.writer.nothing_sent


async def test_a_silent_database_does_not_hold_up_a_lookup(start: Start) -> None:
    scene = await start(deadline=0.05, lock_timeout=0.01)
    with pytest.raises(DeadlinePassed):
        await asyncio.wait_for(scene.look_up("silent"), 10.0)
