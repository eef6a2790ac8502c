"""What a simulated client does: each role's `act` is one step, and checks what it can see."""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import msgspec

from loadtest.api import LINKS, PAGE
from loadtest.keys import destination
from loadtest.tally import Tally


class Answer(msgspec.Struct, frozen=True):
    """What came back; `status` 0 where nothing did."""

    status: int
    location: str | None = None
    body: Any = None


class Client(Protocol):
    """One HTTP client that sends each request once."""

    def send(self, method: str, path: str, name: str, body: Any = None) -> Answer: ...


class Role(Protocol):
    CHECKS: ClassVar[tuple[str, ...]]
    """What it checks, in words. A run has to come to each at least once."""

    def act(self) -> None: ...


def follow(client: Client, tally: Tally, code: str, expected: str) -> int:
    """GET the short URL of a link that leads to `expected`: the status."""
    tally.sent[code] += 1
    answer = client.send("GET", f"/{code}", "/{code}")
    if answer.status:
        tally.statuses[str(answer.status)] += 1
    if answer.status == 302:
        tally.redirected[code] += 1
        if answer.location != expected:
            tally.wrong[code] += 1
    return answer.status


class Redirects:
    """Follows seeded links."""

    CHECKS: ClassVar[tuple[str, ...]] = ("a seeded link followed",)

    def __init__(self, client: Client, tally: Tally, codes: Iterator[str]) -> None:
        self._client = client
        self._tally = tally
        self._codes = codes

    def act(self) -> None:
        code = next(self._codes)
        status = follow(self._client, self._tally, code, destination(code))
        self._tally.checks["a seeded link followed"] += status == 302
        if status == 404:
            self._tally.not_found[code] += 1


class ApiCalls:
    """Makes links of its own, follows, changes, reads, lists and deletes them, in stated shares.

    Nobody else knows its links, so it can tell a stale answer and a wrong count by itself (promises 1 and 3).
    """

    SHARES: ClassVar = {"follow": 50, "get": 20, "create": 10, "change": 10, "list": 5, "delete": 5}
    CHECKS: ClassVar[tuple[str, ...]] = ("a count compared", "a new destination followed", "a deleted link asked for")
    MOST = 50
    """Links that it keeps."""

    def __init__(self, client: Client, tally: Tally, name: str) -> None:
        self._client = client
        self._tally = tally
        self._name = name
        self._numbers = itertools.count()
        self._links: dict[str, str] = {}
        self._counts: dict[str, tuple[int, int]] = {}  # by code: 302s received, requests sent

    def act(self) -> None:
        (choice,) = random.choices(list(self.SHARES), list(self.SHARES.values()))
        if choice == "list":
            self._client.send("GET", f"{LINKS}?limit=50", f"{LINKS}?limit")
        elif not self._links or (choice == "create" and len(self._links) < self.MOST):
            self._create()
        elif choice != "create":
            step: Callable[[str], object] = getattr(self, f"_{choice}")
            step(random.choice(list(self._links)))

    def _create(self) -> None:
        code = f"{self._name}-{next(self._numbers)}"
        url = destination(code)
        answer = self._client.send("POST", LINKS, LINKS, {"original_url": url, "short_code": code})
        if answer.status == 201:
            self._links[code] = url
            self._counts[code] = (0, 0)
            self._follow(code)

    def _follow(self, code: str) -> int:
        status = follow(self._client, self._tally, code, self._links[code])
        received, sent = self._counts[code]
        self._counts[code] = (received + (status == 302), sent + 1)
        self._saw(status)
        return status

    def _saw(self, status: int) -> None:
        if status == 404:
            self._tally.faults["a link that is there was not found"] += 1

    def _get(self, code: str) -> None:
        answer = self._client.send("GET", f"{LINKS}/{code}", f"{LINKS}/{{code}}")
        self._saw(answer.status)
        if answer.status != 200:
            return
        self._tally.checks["a count compared"] += 1
        received, sent = self._counts[code]
        if answer.body["original_url"] != self._links[code]:
            self._tally.faults["a link was read with a destination it no longer had"] += 1
        if not received <= answer.body["click_count"] <= sent:
            self._tally.faults["a count was not between the 302s received and the requests sent"] += 1

    def _change(self, code: str) -> None:
        url = f"{destination(code)}/{next(self._numbers)}"
        answer = self._client.send("PATCH", f"{LINKS}/{code}", f"{LINKS}/{{code}}", {"original_url": url})
        self._saw(answer.status)
        if answer.status == 200:
            self._links[code] = url
            self._tally.checks["a new destination followed"] += self._follow(code) == 302
        else:
            self._forget(code)

    def _delete(self, code: str) -> None:
        self._get(code)
        self._tally.gone[code] += 1
        answer = self._client.send("DELETE", f"{LINKS}/{code}", f"{LINKS}/{{code}}")
        self._forget(code)
        if answer.status == 204:
            status = self._client.send("GET", f"/{code}", "/{code}").status
            self._tally.checks["a deleted link asked for"] += status == 404
            if status == 302:
                self._tally.faults["a deleted link was followed"] += 1

    def _forget(self, code: str) -> None:
        """No longer say anything about where a link leads: it is gone, or nobody knows."""
        del self._links[code], self._counts[code]


class Pages:
    """Walks the whole list, while other clients create and delete, and checks promise 4."""

    CHECKS: ClassVar[tuple[str, ...]] = ("the whole list walked",)

    def __init__(self, client: Client, tally: Tally, stays: frozenset[str]) -> None:
        self._client = client
        self._tally = tally
        self._stays = stays
        self._begin()

    def _begin(self) -> None:
        self._cursor: str | None = None
        self._last: str | None = None
        self._seen: set[str] = set()

    def act(self) -> None:
        cursor = "" if self._cursor is None else f"&cursor={self._cursor}"
        answer = self._client.send("GET", f"{LINKS}?limit={PAGE}{cursor}", f"{LINKS}?cursor")
        if answer.status != 200:
            return  # the same page again
        for item in answer.body["items"]:
            if item["short_code"] in self._seen:
                self._tally.faults["a walk of the list saw a link twice"] += 1
            if self._last is not None and item["id"] >= self._last:
                self._tally.faults["a walk of the list was not strictly descending"] += 1
            self._last = item["id"]
            self._seen.add(item["short_code"])
        self._cursor = answer.body["next_cursor"]
        if self._cursor is None:
            self._tally.checks["the whole list walked"] += 1
            if self._stays - self._seen:
                self._tally.faults["a walk of the list missed a link that was there all the time"] += 1
            self._begin()


class Churn:
    """Makes a link and deletes it again."""

    CHECKS: ClassVar[tuple[str, ...]] = ("a link made and deleted",)
    MOST = 5
    """Links that it keeps."""

    def __init__(self, client: Client, tally: Tally, name: str) -> None:
        self._client = client
        self._tally = tally
        self._name = name
        self._numbers = itertools.count()
        self._made: list[str] = []

    def act(self) -> None:
        if len(self._made) < self.MOST:
            code = f"{self._name}-{next(self._numbers)}"
            body = {"original_url": destination(code), "short_code": code}
            if self._client.send("POST", LINKS, LINKS, body).status == 201:
                self._made.append(code)
        else:
            code = self._made.pop(0)
            status = self._client.send("DELETE", f"{LINKS}/{code}", f"{LINKS}/{{code}}").status
            self._tally.checks["a link made and deleted"] += status == 204
