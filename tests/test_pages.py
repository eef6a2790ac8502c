"""Promise 4: a walk of the list under churn; and the whole API against a model."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from service import client
from service.client import AsyncClient, Client, Link, NewLink, Problem
from tests.support.postgres import CloneDsns, execute
from tests.support.server import Server
from tests.test_client import dsns, key, server

__all__ = ["dsns", "key", "server"]  # fixtures

STABLE = 300
CHANGES = 20
"""That must have happened during walks of one kind."""


class Churn:
    """Links that are made and deleted all the time, beside STABLE ones that stay."""

    def __init__(self, api: AsyncClient) -> None:
        self._api = api
        self._numbers = count()
        self._loose: list[str] = []
        self.changes = 0

    async def go_on(self) -> None:
        while True:
            number = next(self._numbers)
            made = await self._api.send(client.create(f"https://{'even' if number % 2 else 'odd'}.example/{number}"))
            self._loose.append(made.link.short_code)
            # The newest and older ones in turn: both ends of what a walk passes.
            if len(self._loose) > 50:
                await self._api.send(client.delete(self._loose.pop(-1 if number % 3 else 0)))
            self.changes += 1


async def walk(api: AsyncClient, churn: Churn, limit: int, search: str, stable: set[str]) -> int:
    """How many changes there were while it walked."""
    before = churn.changes
    links: list[Link] = []
    call: client.PageCall[Link] | None = client.page(limit=limit, search=search)
    while call is not None:
        page = await api.send(call)
        assert all(newer.id > older.id for newer, older in pairwise(links[-1:] + page.items)), "not descending"
        links += page.items
        call = call.following(page)
    times_seen = Counter(link.short_code for link in links)
    assert {times_seen[code] for code in stable} == {1}, "a link that was there all the time was skipped or repeated"
    assert max(times_seen.values()) == 1
    assert all(link.original_url.startswith(search) for link in links)
    return churn.changes - before


@pytest.mark.parametrize("search", ["", "https://", "https://even."])
async def test_a_walk_under_churn_sees_each_lasting_link_once(
    server: Server, key: str, dsns: CloneDsns, search: str
) -> None:
    await asyncio.to_thread(execute, dsns.superuser, "TRUNCATE hopcount.urls, hopcount.clicks")
    # Loose links lie between the lasting ones, so that what is deleted may be where a page ends.
    async with AsyncClient(server.url, key) as api, AsyncClient(server.url, key) as changing:
        churn = Churn(changing)
        churning = [asyncio.create_task(churn.go_on()) for _ in range(3)]
        stable = {
            f"stable-{number}": f"https://{'even' if number % 2 else 'odd'}.example/stable/{number}"
            for number in range(STABLE)
        }
        for code, url in stable.items():
            await api.send(client.create(url, code))
        expected = {code for code, url in stable.items() if url.startswith(search)}
        try:
            for limit in (1, 7, 50, 200):
                changes = 0
                while changes < CHANGES:
                    walks = (walk(api, churn, limit, search, expected) for _ in range(2))
                    changes += sum(await asyncio.gather(*walks))
        finally:
            for task in churning:
                task.cancel()
            results = await asyncio.gather(*churning, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


class Model(RuleBasedStateMachine):
    """The API does what a dict of links does."""

    codes = Bundle("codes")

    def __init__(self, api: Client, visitor: httpx.Client) -> None:
        super().__init__()
        self.api = api
        self.visitor = visitor
        self.links: dict[str, str] = {}  # destinations by code, oldest first
        self.counts: Counter[str] = Counter()
        self.gone: set[str] = set()  # deleted with clicks, which may not all be gone

    def taken(self, code: str, call: client.Call[client.Stored]) -> bool:
        """Send `call`; whether it was refused since the clicks of a deleted link are still there."""
        try:
            self.api.send(call)
        except Problem as problem:
            if problem.status != 409 or code not in self.gone:
                raise
            return True
        self.gone.discard(code)
        return False

    @rule(target=codes, code=st.sampled_from(["a", "A", "-_", "0"]))
    def know(self, code: str) -> str:
        return code

    urls = st.builds("https://{}.example/{}".format, st.sampled_from(["a", "b"]), st.integers(0, 99))

    @rule(target=codes, url=urls)
    def create(self, url: str) -> str:
        link = self.api.send(client.create(url)).link
        self.links[link.short_code] = url
        return link.short_code

    @rule(code=codes, url=urls)
    def create_with_code(self, code: str, url: str) -> None:
        if code in self.links:
            with pytest.raises(Problem) as caught:
                self.api.send(client.create(url, code))
            assert caught.value.status == 409
        elif not self.taken(code, client.create(url, code)):
            self.links[code] = url

    @rule(target=codes, first=codes, second=codes, url=urls)
    def create_batch(self, first: str, second: str, url: str) -> object:
        wanted = [NewLink(url, first), NewLink(f"{url}?2", second), NewLink(url), NewLink("nonsense")]
        *given, generated, invalid = self.api.send(client.create_batch(wanted)).items
        for link, made in zip(wanted, given, strict=False):
            code = link.short_code
            assert code is not None
            if code not in self.links and made.outcome == "created":
                self.links[code] = link.original_url
                self.gone.discard(code)
            elif code in self.links:
                same = self.links[code] == link.original_url
                assert made.outcome == ("unchanged" if same else "taken")
            else:
                assert made.outcome == "taken"
                assert code in self.gone
        assert (generated.outcome, invalid.outcome) == ("created", "invalid")
        assert generated.short_code is not None
        self.links[generated.short_code] = url
        return multiple(generated.short_code)

    @rule(code=codes, url=urls)
    def put(self, code: str, url: str) -> None:
        if not self.taken(code, client.put(code, url)):
            self.links[code] = url

    @rule(code=codes, url=urls)
    def change(self, code: str, url: str) -> None:
        if code in self.links:
            assert self.api.send(client.change(code, url)).original_url == url
            self.links[code] = url
        else:
            self.missing(client.change(code, url))

    @rule(code=codes)
    def delete(self, code: str) -> None:
        if code in self.links:
            self.api.send(client.delete(code))
            del self.links[code]
            if self.counts.pop(code, 0):
                self.gone.add(code)
        else:
            self.missing(client.delete(code))

    def missing(self, call: client.Call[Any]) -> None:
        with pytest.raises(Problem) as caught:
            self.api.send(call)
        assert caught.value.status == 404

    @rule(code=codes, times=st.integers(1, 3))
    def follow(self, code: str, times: int) -> None:
        for _ in range(times):
            answer = self.visitor.get(f"/{code}")
            assert answer.headers.get("location") == self.links.get(code)
            assert answer.status_code == (302 if code in self.links else 404)
        if code in self.links:
            self.counts[code] += times

    @rule(code=codes)
    def get(self, code: str) -> None:
        if code in self.links:
            link = self.api.send(client.get(code))
            assert (link.original_url, link.click_count) == (self.links[code], self.counts[code])
        else:
            self.missing(client.get(code))

    @rule(code=codes, limit=st.integers(1, 3))
    def read_clicks(self, code: str, limit: int) -> None:
        if code not in self.links:
            self.missing(client.clicks(code))
            self.missing(client.series(code))
            return
        clicks = list(self.api.every(client.clicks(code, limit=limit)))
        assert len(clicks) == self.counts[code]
        assert all(newer.id > older.id for newer, older in pairwise(clicks))
        end = datetime.now(UTC) + timedelta(seconds=1)
        series = self.api.send(client.series(code, "minute", from_=end - timedelta(hours=2), to=end))
        assert sum(point.clicks for point in series.points) == self.counts[code]

    @rule(limit=st.integers(1, 5), search=st.sampled_from(["", "https://", "HTTPS://A.", "https://b.example/1", "x"]))
    def walk(self, limit: int, search: str) -> None:
        found = list(self.api.every(client.page(limit=limit, search=search)))
        expected = {code for code, url in self.links.items() if url.startswith(search.lower())}
        assert sorted(link.short_code for link in found) == sorted(expected)
        assert all(newer.id > older.id for newer, older in pairwise(found))

    @invariant()
    def the_list_is_the_model(self) -> None:
        items = self.api.send(client.page(limit=200)).items
        listed = {link.short_code: (link.original_url, link.click_count) for link in items}
        assert listed == {code: (url, self.counts[code]) for code, url in self.links.items()}


def test_the_api_does_what_a_model_does(server: Server, key: str, dsns: CloneDsns) -> None:
    with Client(server.url, key) as api, httpx.Client(base_url=server.url) as visitor:

        def fresh() -> Model:
            execute(dsns.superuser, "TRUNCATE hopcount.urls, hopcount.clicks")
            return Model(api, visitor)

        run_state_machine_as_test(
            fresh,  # type: ignore[arg-type]  # a factory will do
            settings=settings(
                max_examples=40,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                # To shrink a failure would take longer than the test may.
                phases=[Phase.generate],
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
