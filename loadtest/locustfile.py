"""Locust scenarios with a verdict: locust -f loadtest/locustfile.py --host URL --api-key KEY --scenario NAME.

Scenarios: redirects (seeded links, see `python -m loadtest seed`), api, pages, mixed. At the end the counts of
the service are compared with what the clients received; a broken promise makes the exit status 1, and a
verdict that cannot be given (a Locust worker was lost) 2.
"""

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import gevent
import msgspec
from geventhttpclient.client import HTTPClient, HTTPClientPool
from locust import FastHttpUser, constant, events, task
from locust.env import Environment
from locust.runners import STATE_STOPPED, MasterRunner, WorkerRunner

sys.path.insert(0, str(Path(__file__).parent.parent))  # Locust runs this file, not the package

from loadtest import verdict
from loadtest.api import Api, ApiError
from loadtest.books import Books
from loadtest.keys import Keys, drawn
from loadtest.roles import Answer, ApiCalls, Churn, Pages, Redirects, Role
from loadtest.scenarios import SCENARIOS, in_turn, promised
from loadtest.verdict import Verdict, undetermined

EXIT = {"exact": 0, "in doubt": 0, "broken": 1, "undetermined": 2}
_LAST_REPORTS_SECONDS = 10.0


class OneTryPool(HTTPClientPool):
    """Clients that put a request on the wire once: by default a GET goes out again on a closed connection."""

    def get_client(self, url: Any) -> HTTPClient:
        client = super().get_client(url)
        client._connection_pool.size = -1  # noqa: SLF001  # it tries as often as this plus one
        return client


def books(environment: Environment) -> Books:
    found: Books = environment.hopcount_books  # type: ignore[attr-defined]
    return found


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    names = sorted(SCENARIOS)
    parser.add_argument("--scenario", choices=names, env_var="HOPCOUNT_LOAD_SCENARIO", default="redirects")
    parser.add_argument("--api-key", env_var="HOPCOUNT_LOAD_API_KEY", is_secret=True, default="")
    parser.add_argument("--keys", choices=["uniform", "zipf", "hot"], env_var="HOPCOUNT_LOAD_KEYS", default="uniform")
    parser.add_argument(
        "--links", type=int, env_var="HOPCOUNT_LOAD_LINKS", default=10_000, help="How many links were seeded"
    )
    parser.add_argument("--exponent", type=float, default=1.0, help="Of Zipf's law")
    parser.add_argument("--verdict-file", default="", help="Where to write the verdict as JSON")


@events.init.add_listener
def _init(environment: Environment, runner: Any, **_: Any) -> None:
    book = Books()
    environment.hopcount_books = book  # type: ignore[attr-defined]

    def report(data: dict[str, Any], **_: Any) -> None:
        data["hopcount"] = book.handed_over(last=runner.state == STATE_STOPPED)

    def collect(client_id: str, data: dict[str, Any], **_: Any) -> None:
        book.take(client_id, data["hopcount"])

    def read_counts(**_: Any) -> None:
        """Every process does: what is there before the first request stays, for those that walk the list."""
        _await_last_reports(book)  # of the test before, where somebody starts one after the other in the web UI
        book.begin(runner.clients.keys() if isinstance(runner, MasterRunner) else ())
        try:
            book.before = _api(environment).counts()
        except ApiError as error:
            book.error = str(error)

    def judge(**_: Any) -> None:
        if isinstance(runner, WorkerRunner):
            return
        runner.quit()  # now, so that the users have stopped and the workers have handed over
        given = _judged(environment, book)
        print(given)
        if environment.parsed_options and environment.parsed_options.verdict_file:
            Path(environment.parsed_options.verdict_file).write_bytes(msgspec.json.encode(given))
        environment.process_exit_code = EXIT[given.outcome]

    environment.events.report_to_master.add_listener(report)
    environment.events.worker_report.add_listener(collect)
    environment.events.test_start.add_listener(read_counts)
    environment.events.quitting.add_listener(judge)


def _api(environment: Environment) -> Api:
    options = environment.parsed_options
    assert options is not None
    return Api(environment.host or "", options.api_key)


def _await_last_reports(book: Books) -> None:
    with gevent.Timeout(_LAST_REPORTS_SECONDS, exception=False):
        while book.missing:
            gevent.sleep(0.1)


def _judged(environment: Environment, book: Books) -> Verdict:
    _await_last_reports(book)
    if book.missing:
        return undetermined(f"{len(book.missing)} Locust worker(s) were lost with what they had recorded")
    if book.error is not None:
        return undetermined(book.error)
    try:
        after = _api(environment).counts()
    except ApiError as error:
        return undetermined(str(error))
    if strangers := sorted(book.tally.not_found.keys() - book.before.keys()):
        return undetermined(f"{len(strangers):,} links are not there, {strangers[0]} for one: were they seeded?")
    rise = {code: after[code] - book.before.get(code, 0) for code in book.tally.sent if code in after}
    assert environment.parsed_options is not None
    return verdict.judge(book.tally, rise, promised=promised(environment.parsed_options.scenario))


class LoadUser(FastHttpUser):
    """One client in one role of the scenario."""

    wait_time = constant(0)
    _numbers = itertools.count()

    def __init__(self, environment: Environment) -> None:
        self.client_pool = OneTryPool(concurrency=1)
        super().__init__(environment)
        options = environment.parsed_options
        assert options is not None
        self._headers = {"Authorization": f"Bearer {options.api_key}"}
        self._role = self._chosen(options, books(environment))

    def _chosen(self, options: Any, book: Books) -> Role:
        roles = in_turn(options.scenario)
        # Each Locust worker begins elsewhere, so that few clients in many workers have all roles too.
        number = next(self._numbers) + max(0, self.environment.runner.worker_index)
        name = f"load-{random.getrandbits(40):010x}"
        match roles[number % len(roles)]:
            case "redirects":
                keys = Keys(options.keys, options.links, options.exponent)
                return Redirects(self, book.tally, drawn(keys, random.getrandbits(32)))
            case "api":
                return ApiCalls(self, book.tally, name)
            case "pages":
                return Pages(self, book.tally, frozenset(book.before or ()))
            case _:
                return Churn(self, book.tally, name)

    @task
    def act(self) -> None:
        self._role.act()

    def send(self, method: str, path: str, name: str, body: Any = None) -> Answer:
        headers = self._headers if path.startswith("/api/") else {}
        with self.client.request(
            method, path, name=name, json=body, headers=headers, allow_redirects=False, catch_response=True
        ) as response:
            if response.status_code in (404, 409):
                response.success()  # an answer like any other; the roles say whether it is a fault
            json = (response.headers or {}).get("content-type") == "application/json"
            return Answer(
                response.status_code,
                (response.headers or {}).get("location"),
                response.json() if json and response.status_code == 200 else None,
            )
