"""The load tests themselves: does the verdict notice what it is there for?"""

import asyncio
import itertools
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
import msgspec
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from loadtest import bundle, cli, generator, keys, measure, report, variants, verdict, wrk
from loadtest.agree import agreements
from loadtest.books import Books
from loadtest.bundle import Cell, InvalidBundle, Result, Run
from loadtest.compare import ratio
from loadtest.generator import Load
from loadtest.keys import Keys
from loadtest.measure import Bench, GeneratorError, Plan
from loadtest.observe import Activity
from loadtest.roles import Answer, Churn, Pages
from loadtest.scenarios import SCENARIOS, in_turn
from loadtest.tally import Tally
from loadtest.variants import InvalidVariant, Variant
from loadtest.verdict import Verdict
from tests.support.broken_server import Fault, broken_server
from tests.support.postgres import CloneDsns, reachable_dir
from tests.support.server import environment, free_port, hopcount, serving
from tests.support.waiting import until

LOCUSTFILE = variants.ROOT / "loadtest" / "locustfile.py"

# The verdict


def tally(sent: dict[str, int], redirected: dict[str, int]) -> Tally:
    return Tally(sent=Counter(sent), redirected=Counter(redirected))


def test_a_run_is_exact_where_everything_agrees() -> None:
    given = verdict.judge(tally({"a": 3, "b": 1}, {"a": 3, "b": 1}), {"a": 3, "b": 1}, {"a": 3, "b": 1})
    assert (given.outcome, given.kept, given.counted, given.faults) == ("exact", True, 4, [])


@pytest.mark.parametrize(
    ("sent", "redirected", "rise", "rows", "outcome", "what"),
    [
        ({"a": 3}, {"a": 2}, {"a": 2}, {"a": 2}, "in doubt", ""),
        ({"a": 3}, {"a": 2}, {"a": 3}, {"a": 3}, "in doubt", ""),
        ({"a": 3}, {"a": 3}, {"a": 2}, {"a": 2}, "broken", "3 redirects received, 2 counted"),
        ({"a": 3}, {"a": 3}, {}, {}, "broken", "3 redirects received, 0 counted"),
        ({"a": 3}, {"a": 3}, {"a": 4}, {"a": 4}, "broken", "3 requests sent, 4 counted"),
        ({"a": 3}, {"a": 3}, {"a": 3, "b": 1}, {"a": 3, "b": 1}, "broken", "0 requests sent, 1 counted"),
        ({"a": 3}, {"a": 3}, {"a": 3}, {"a": 2}, "broken", "3 counted, 2 rows in clicks"),
        ({"a": 3}, {}, {}, {}, "undetermined", ""),
    ],
)
def test_what_does_not_agree_is_named(
    sent: dict[str, int],
    redirected: dict[str, int],
    rise: dict[str, int],
    rows: dict[str, int],
    outcome: str,
    what: str,
) -> None:
    given = verdict.judge(tally(sent, redirected), rise, rows)
    assert given.outcome == outcome
    assert [fault.what for fault in given.faults] == ([what] if what else [])


def test_losses_and_surpluses_of_different_links_do_not_cancel_out() -> None:
    given = verdict.judge(tally({"a": 2, "b": 2}, {"a": 2, "b": 2}), {"a": 1, "b": 3})
    assert (given.outcome, given.lost, given.over) == ("broken", 1, 1)
    assert [fault.short_code for fault in given.faults] == ["a", "b"]


def test_a_verdict_on_what_was_not_checked_is_none() -> None:
    walked = Tally(checks=Counter({"the whole list walked": 1}))
    assert verdict.judge(walked, {}, promised=Pages.CHECKS).outcome == "exact"
    given = verdict.judge(walked, {}, promised=(*Pages.CHECKS, *Churn.CHECKS))
    assert (given.outcome, given.reason) == ("undetermined", "not once: a link made and deleted")
    walked.faults["a walk of the list saw a link twice"] += 1
    assert verdict.judge(walked, {}, promised=Churn.CHECKS).outcome == "broken"


def test_a_seeded_link_that_is_not_found_is_a_broken_promise() -> None:
    recorded = tally({"a": 3}, {"a": 2})
    recorded.not_found["a"] += 1
    given = verdict.judge(recorded, {"a": 2})
    assert (given.outcome, [fault.what for fault in given.faults]) == ("broken", ["1 times not found"])


def test_a_link_that_its_client_deleted_has_no_count_to_compare() -> None:
    recorded = tally({"a": 3, "b": 1}, {"a": 3, "b": 1})
    recorded.gone["a"] += 1
    given = verdict.judge(recorded, {"b": 1})
    assert (given.outcome, given.links, given.redirected) == ("exact", 1, 1)


def test_totals_have_a_verdict_too() -> None:
    checked = Verdict("exact", redirected=5)

    def outcome(redirected: int, failed: int, cut_off: int, rise: int, rows_differ: int = 0) -> str:
        return verdict.judge_totals(checked, redirected, failed, cut_off, rise, rows_differ).outcome

    assert outcome(10, 0, 0, 10) == "exact"
    assert outcome(10, 0, 2, 12) == "exact", "what wrk itself cut off is in nobody's doubt"
    assert outcome(10, 2, 0, 12) == "in doubt"
    assert outcome(10, 2, 2, 9) == "broken"
    assert outcome(10, 1, 1, 13) == "broken"
    assert outcome(10, 0, 0, 10, 1) == "broken"
    assert outcome(0, 0, 2, 0) == "undetermined"
    checked = Verdict("in doubt", in_doubt=1)
    assert outcome(10, 0, 0, 10) == "in doubt"
    checked = Verdict("broken", lost=1)
    assert outcome(10, 0, 0, 10) == "broken"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=30))
def test_a_server_that_counts_before_it_answers_is_never_called_broken(clicks: list[tuple[str, bool, bool]]) -> None:
    """Each click: its link, whether it was counted, and whether its answer arrived."""
    recorded, rise = Tally(), Counter[str]()
    for code, counted, arrived in clicks:
        recorded.sent[code] += 1
        rise[code] += counted
        recorded.redirected[code] += counted and arrived
    assert verdict.judge(recorded, rise, rise).outcome != "broken"


# Broken servers


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with reachable_dir() as place, measure.bench(place / "data") as made:
        made.prepare(50, lambda _: None)
        yield made


def measured(
    bench: Bench, variant: str, keys: Keys, *, rate: float | None = None, kill_after: float | None = None
) -> Run:
    cell = Cell(variant, keys, 32, 1, rate=rate)
    plan = Plan("test", "", [cell], 1, 2.0, 0.5, "own")
    return measure.measure(bench, cell, plan, 1, kill_after=kill_after)


def test_hopcount_is_exact_in_closed_and_open_loop(bench: Bench) -> None:
    for rate in (None, 300.0):
        run = measured(bench, "hopcount", Keys("zipf", 50), rate=rate)
        assert run.verdict.outcome == "exact", str(run.verdict)
        assert run.throughput
        assert run.cost
        assert run.percentiles
        assert run.activity.commits > 0


@pytest.mark.parametrize("variant", ["per_request", "per_request_reset", "transaction"])
def test_counting_request_by_request_is_exact_too(bench: Bench, variant: str) -> None:
    assert measured(bench, variant, Keys("uniform", 50)).verdict.outcome == "exact"


def test_hopcount_keeps_its_promises_when_its_worker_is_killed(bench: Bench) -> None:
    run = measured(bench, "hopcount", Keys("uniform", 50), kill_after=1.0)
    assert run.verdict.kept, str(run.verdict)


def test_lost_updates_are_noticed_and_have_no_speed(bench: Bench) -> None:
    run = measured(bench, "read_modify_write", Keys("hot", 50))
    assert run.verdict.outcome == "broken"
    assert run.verdict.lost > 0
    assert (run.throughput, run.percentiles, run.latency, run.cost) == (None, None, None, None)


def test_counting_after_the_answer_is_noticed_when_the_worker_is_killed(bench: Bench) -> None:
    run = measured(bench, "after_response", Keys("uniform", 50), kill_after=1.0)
    assert run.verdict.outcome == "broken"
    assert run.verdict.lost > 0


@pytest.mark.skipif(wrk.available() is None, reason="wrk is not installed")
def test_wrk_gives_a_verdict_as_well(bench: Bench) -> None:
    cell = Cell("read_modify_write", Keys("hot", 50), 32, 1)
    plan = Plan("test", "", [cell], 1, 1.0, 1.0, "wrk")
    assert measure.measure(bench, cell, plan, 1).verdict.outcome == "broken"
    good = measure.measure(bench, msgspec.structs.replace(cell, variant="hopcount"), plan, 1)
    assert good.verdict.outcome == "exact", str(good.verdict)
    assert good.throughput
    assert good.generator_share > 0
    # A worker that ends in peace has counted all in the end; when it was asked, it had not.
    late = measure.measure(bench, msgspec.structs.replace(cell, variant="after_response"), plan, 1)
    assert late.verdict.lost > 0, str(late.verdict)


def locust(url: str, scenario: str, *more: str, key: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "locust", "--locustfile", LOCUSTFILE, "--host", url, "--headless", "--only-summary",
         "--users", "8", "--spawn-rate", "100", "--run-time", "3s", "--stop-timeout", "5", "--scenario", scenario,
         "--links", "450", *more],
        env=environment() | {"HOPCOUNT_LOAD_API_KEY": key}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "scenario", "status", "said"),
    [
        ("none", "mixed", 0, "verdict: exact"),
        ("loses counts", "redirects", 1, "redirects received"),
        ("finds nothing", "redirects", 1, "times not found"),
        ("finds nothing", "api", 1, "a link that is there was not found"),
        ("takes nothing", "api", 2, "not once: a count compared"),
        ("takes nothing", "pages", 2, "not once: a link made and deleted"),
        ("loses counts", "api", 1, "a count was not between"),
        ("stale", "api", 1, "redirects elsewhere"),
        ("skips", "pages", 1, "missed a link that was there all the time"),
        ("repeats", "pages", 1, "saw a link twice"),
    ],
)
def test_locust_names_the_promise_that_a_server_breaks(fault: Fault, scenario: str, status: int, said: str) -> None:
    with broken_server(450, fault) as server:
        done = locust(server.url, scenario)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout


def test_links_that_were_never_seeded_are_no_broken_promise() -> None:
    with broken_server(40, "none") as server:
        done = locust(server.url, "redirects")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "links are not there, load-" in done.stdout


def test_a_few_clients_have_all_roles() -> None:
    for scenario, shares in SCENARIOS.items():
        turns = in_turn(scenario)
        assert set(turns[: len(shares)]) == set(shares)
        assert Counter(turns) == shares


class Server:
    """A client of a service that is not there, but for what a test has it answer."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = iter(answers)

    def send(self, *_: object) -> Answer:
        return next(self._answers)


def test_a_walk_that_never_ends_is_no_walk() -> None:
    page = {"items": [{"id": "1", "short_code": "a"}], "next_cursor": "more"}
    recorded = Tally()
    role = Pages(Server(Answer(200, body=page), Answer(500), Answer(500)), recorded, frozenset("a"))
    for _ in range(3):
        role.act()
    assert (recorded.checks, recorded.faults) == (Counter(), Counter())


def test_the_test_before_is_forgotten_once_all_workers_have_reported() -> None:
    """As when somebody starts one test after the other in the web UI of Locust."""
    books, first = Books(), Books()
    rest = {"tally": Tally().as_data(), "last": True}
    first.tally.sent["a"] += 1
    books.take("w", rest | {"last": False})
    assert not books.missing, "nothing has begun"
    books.begin(["w"])
    books.take("w", first.handed_over(last=True))
    books.begin(["w"])
    assert books.tally == Tally()
    books.take("w", rest)  # before the worker hears of the second test
    books.take("w", rest | {"last": False})
    assert books.missing == {"w"}
    books.take("w", rest)
    assert not books.missing


def test_locust_finds_hopcount_exact_over_two_processes(dsns: CloneDsns) -> None:
    assert seeding(dsns, "--links", "450").stdout == "450 links made\n"
    key = hopcount("keys", "create", "load", settings={"admin_database_url": dsns.administrator}).stdout.strip()
    with serving(database_url=dsns.service, workers=2) as server:
        done = locust(server.url, "mixed", "--processes", "2", key=key)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verdict: exact" in done.stdout
    assert seeding(dsns, "--remove").returncode == 0
    assert hopcount("urls", "stats", settings={"database_url": dsns.service}).stdout.startswith("0 links")


async def test_a_lost_locust_worker_makes_the_verdict_undetermined() -> None:
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE)]
    with broken_server(450, "none") as server:
        port = str(free_port())
        master = subprocess.Popen(  # noqa: ASYNC220
            [*command, "--host", server.url, "--headless", "--only-summary", "--users", "8", "--spawn-rate", "100",
             "--run-time", "8s", "--master", "--expect-workers", "2", "--links", "450", "--master-bind-port", port],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        workers = [
            subprocess.Popen(  # noqa: ASYNC220
                [*command, "--worker", "--master-port", port], env=environment(), stderr=subprocess.DEVNULL
            )
            for _ in range(2)
        ]
        await until(lambda: server.clicks > 1000)
        workers[1].send_signal(signal.SIGKILL)
        output, _ = master.communicate()
        for worker in workers:
            worker.communicate()
    assert master.returncode == 2, output
    assert "verdict: undetermined" in output


# The generator


def test_keys_are_drawn_by_their_law() -> None:
    def first(kind: keys.Kind, number: int = 20_000) -> Counter[str]:
        return Counter(itertools.islice(keys.drawn(Keys(kind, 100), 7), number))

    assert first("hot") == {"load-0": 20_000}
    uniform = first("uniform")
    assert len(uniform) == 100
    assert max(uniform.values()) < 2 * min(uniform.values())
    zipf = first("zipf")
    assert 1.7 < zipf["load-0"] / zipf["load-1"] < 2.3
    assert list(itertools.islice(keys.drawn(Keys("zipf", 100), 7), 50)) == list(
        itertools.islice(keys.drawn(Keys("zipf", 100), 7), 50)
    )


def test_latency_counts_from_when_a_request_was_due(bench: Bench) -> None:
    """A server that is stopped for a second is charged for every request that was due meanwhile."""
    with variants.serving(Variant("static"), bench.service_dsn(50), 1) as target:
        worker = target._tree()[1]
        threading.Timer(0.5, worker.suspend).start()
        threading.Timer(1.5, worker.resume).start()
        load = Load(port=target.port, keys=Keys("uniform", 50), connections=4, seconds=2.0, warm_up=0.0, rate=200.0,
                    arrivals="constant")  # fmt: skip
        done = generator.run(load)
    latency = generator.histogram(done.latency)
    assert (done.unsent, done.errors) == (0, 0)
    assert done.requests == pytest.approx(400, abs=5)
    # Of 400 requests 200 were due in the second of silence: a quarter of all waited half a second or more.
    assert latency.get_value_at_percentile(80) > 400_000
    assert Tally.from_data(done.tally).redirected.total() == Tally.from_data(done.tally).sent.total()


def test_a_server_that_falls_silent_for_good_is_charged_for_all_that_was_due(bench: Bench) -> None:
    with variants.serving(Variant("static"), bench.service_dsn(50), 1) as target:
        worker = target._tree()[1]
        threading.Timer(1.0, worker.suspend).start()
        load = Load(port=target.port, keys=Keys("uniform", 50), connections=4, seconds=2.0, warm_up=0.0, rate=200.0,
                    arrivals="constant")  # fmt: skip
        try:
            done = generator.run(load)
        finally:
            worker.resume()
    latency = generator.histogram(done.latency)
    assert done.errors == 4, "one on each connection has no answer"
    assert done.requests + done.errors + done.unsent == pytest.approx(400, abs=1)
    assert latency.get_total_count() == done.requests + done.errors + done.unsent
    # Half of them waited until the load was given up, five seconds after its end.
    assert latency.get_value_at_percentile(60) > 5_000_000


def test_answers_that_are_no_redirect_are_errors_and_have_no_latency(bench: Bench) -> None:
    with variants.serving(Variant("hopcount"), bench.service_dsn(50), 1) as target:
        done = generator.run(Load(port=target.port, keys=Keys("uniform", 100), connections=4, seconds=1.0, warm_up=0.0))
    statuses, recorded = done.tally["statuses"], generator.histogram(done.latency).get_total_count()
    # A few are sent between the end of the measurement and that of the load.
    assert 0 < done.requests <= recorded <= statuses["302"]
    assert statuses["404"] - 4 <= done.errors <= statuses["404"]
    assert verdict.judge(Tally.from_data(done.tally), done.tally["redirected"]).outcome == "broken"


async def test_a_generator_that_is_stopped_while_it_writes_loses_nothing(bench: Bench) -> None:
    reader, writer = os.pipe()
    with variants.serving(Variant("static"), bench.service_dsn(50), 1) as target, os.fdopen(reader, "rb") as output:
        load = Load(port=target.port, keys=Keys("uniform", 100_000), connections=4, seconds=1.0, warm_up=0.0)
        with os.fdopen(writer, "wb") as ours:
            started = await asyncio.create_subprocess_exec(
                sys.executable, "-u", "-m", "loadtest.generator",
                cwd=variants.ROOT, stdin=subprocess.PIPE, stdout=ours,
            )  # fmt: skip
            assert started.stdin is not None
            started.stdin.write(msgspec.json.encode(load))
            started.stdin.close()
            # Nobody reads yet: once the pipe is full, the generator waits in the middle of its result.
            await until(lambda: not select.select([], [ours], [], 0)[1])
        process = psutil.Process(started.pid)
        process.suspend()
        await until(lambda: process.status() == psutil.STATUS_STOPPED)
        process.resume()
        done = msgspec.json.decode(output.read(), type=generator.Generated)
        assert await started.wait() == 0
    assert 0 < done.requests <= Tally.from_data(done.tally).redirected.total()


# Comparing, bundles and reports


def by_round(values: Iterable[float]) -> dict[int, float]:
    return dict(enumerate(values, 1))


def test_a_ratio_is_found_under_drift_that_both_share() -> None:
    drift = [1.0, 3.0, 0.5, 2.0, 1.2, 0.8]
    noise = [1, 1.01, 0.99, 1, 1.02, 0.98]
    found = ratio(by_round([1.10 * d * n for d, n in zip(drift, noise, strict=True)]), by_round(drift))
    assert found is not None
    assert found.finding == "faster"
    assert found.low < 1.10 < found.high
    same = ratio(by_round([1.01, 0.99, 1.02, 0.97]), by_round([1.0] * 4))
    assert same is not None
    assert same.finding == "undetermined"
    assert ratio({}, {}) is None
    one = ratio({1: 2.0}, {1: 1.0})
    assert one is not None
    assert one.finding == "undetermined", "one pair shows nothing"


def test_rounds_that_one_side_has_lost_do_not_shift_the_pairs() -> None:
    found = ratio({1: 10.0, 2: 20.0, 4: 40.0}, {2: 10.0, 3: 15.0, 4: 20.0})
    assert found is not None
    assert found.rounds == 2
    assert found.value == pytest.approx(2.0)


@pytest.mark.parametrize("rounds", [3, 5])
def test_two_that_are_the_same_are_seldom_told_apart(rounds: int) -> None:
    """In 2,000 comparisons of equals, about one in twenty finds a difference, as 95 % says."""
    random = np.random.default_rng(1)
    found = [
        ratio(by_round(random.lognormal(0, 0.1, rounds)), by_round(random.lognormal(0, 0.1, rounds)))
        for _ in range(2000)
    ]
    wrong = sum(one is not None and one.finding != "undetermined" for one in found) / len(found)
    assert wrong == pytest.approx(0.05, abs=0.015)


def result(tmp_path: Path) -> Result:
    histogram = generator.histogram()
    for value in range(1, 2000):
        histogram.record_value(value)
    runs = [
        Run(cell, number, Verdict("exact", redirected=10, counted=10), 100.0 + number,
            {"50": 1, "90": 2, "99": 3, "99.9": 4},
            histogram.encode().decode(), 5, 0, 0, bundle.Cost(1, 2, 3), Activity(5, 100, 10, 9), 0.5, False)
        for number in (1, 2, 3) for cell in (0, 1)
    ]  # fmt: skip
    return Result(
        scenario="redirects", command="./run bench <x>", started=datetime.now(UTC), seconds=1, warm_up=1, rounds=3,
        complete=True, fingerprint=bundle.fingerprint("own"), postgresql={"fsync": "on"}, ceiling=1000.0,
        cells=[Cell("static", Keys(), 64, 1), Cell("hopcount", Keys(), 64, 1)], runs=runs,
    )  # fmt: skip


@pytest.mark.parametrize("scenario", ["redirects", "sweep-connections", "latency"])
def test_a_bundle_is_read_as_it_was_written_and_its_report_needs_nothing_else(tmp_path: Path, scenario: str) -> None:
    written = result(tmp_path)
    written.scenario = scenario
    if scenario == "latency":
        written.cells = [msgspec.structs.replace(cell, rate=100.0 + at) for at, cell in enumerate(written.cells)]
    folder = bundle.write(written, tmp_path)
    assert bundle.read(folder) == written
    page = report.write(folder).read_text()
    # Names of XML are no addresses.
    assert re.findall(r"https?://(?!www\.w3\.org/)\S+", page) == []
    assert "<x>" not in page
    index = report.write_index(tmp_path).read_text()
    assert folder.name in index
    assert written.fingerprint.place in index


def test_an_interrupted_run_has_a_report_of_what_was_measured(tmp_path: Path) -> None:
    written = result(tmp_path)
    written.scenario, written.complete = "latency", False
    written.cells = [msgspec.structs.replace(cell, rate=100.0 + at) for at, cell in enumerate(written.cells)]
    written.runs = written.of(0)
    assert "interrupted" in report.write(bundle.write(written, tmp_path)).read_text()


def test_a_bench_that_fails_half_way_keeps_what_it_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("random.shuffle", lambda _cells: None)
    monkeypatch.setattr(bundle, "write", partial(bundle.write, results=tmp_path))
    arguments = "sweep flushers 1,1001 --links 50 --connections 8 --rounds 2 --seconds 1 --generator own"
    with reachable_dir() as place:
        done = CliRunner().invoke(cli.bench, [*arguments.split(), "--data-dir", str(place)])
    assert done.exit_code == 1
    assert "the server did not start" in done.stderr
    (folder,) = bundle.committed(tmp_path)
    kept = bundle.read(folder)
    assert [(run.cell, run.round, run.verdict.outcome) for run in kept.runs] == [(0, 1, "exact")]
    assert (kept.complete, kept.failure) == (False, done.stderr.removeprefix("Error: ").strip())
    assert "did not start" in (folder / "report.html").read_text()


async def test_a_bench_that_is_told_to_end_leaves_no_process_behind() -> None:
    with reachable_dir() as place:
        bench = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtest", "run", "redirects", "--quick", "--data-dir", place / "data",
            cwd=variants.ROOT, stderr=subprocess.PIPE,
        )  # fmt: skip
        await until(lambda: _generating(bench.pid))
        processes = psutil.Process(bench.pid).children(recursive=True)
        bench.terminate()
        _, said = await bench.communicate()
        assert (bench.returncode, said) == (130, b"bench: interrupted before anything was measured\n")
        assert not (place / "data" / "postgres" / "data" / "postmaster.pid").exists()
        await until(lambda: not any(process.is_running() for process in processes))


def _generating(bench: int) -> bool:
    found = [process.info for process in psutil.process_iter(["ppid", "cmdline"])]
    return any(one["ppid"] == bench and "loadtest.generator" in (one["cmdline"] or ()) for one in found)


def test_a_generator_that_ends_without_a_result_is_an_error(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    began = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda _command, **options: began(["head", "-c", "7"], **options))
    with pytest.raises(GeneratorError, match="ended with status 0 after 7 bytes"):
        measured(bench, "static", Keys("uniform", 50))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run redirects --connections abc", "'abc' is not a valid integer"),
        ("run redirects --connections 64,0", "0 is not in the range"),
        ("run latency --connections ,", "',' names nothing"),
        ("run redirects --variants ,", "',' names nothing"),
        ("run redirects --variants static,nginx", "'nginx' is none of"),
        ("run redirects --keys uniform,a", "'a' is not one of"),
        ("sweep connections 16,b", "'b' is not a valid integer"),
        ("sweep flushers 0", "0 is not in the range"),
        ("compare hopcount:port=1 static", "the port is the harness's to set"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(arguments: str, said: str) -> None:
    refused = CliRunner().invoke(cli.bench, arguments.split())
    assert refused.exit_code == 2
    assert said in refused.output


def test_two_bundles_are_compared_only_where_they_can_be(tmp_path: Path) -> None:
    first, second = result(tmp_path), result(tmp_path)
    (one,) = agreements(first, second)
    assert (one.to, one.holds) == ("static", True)
    for run in second.of(1):
        run.throughput = 9 * (run.throughput or 0.0)
    (one,) = agreements(first, second)
    assert not one.holds
    second.fingerprint = msgspec.structs.replace(second.fingerprint, generator="wrk: 4")
    with pytest.raises(InvalidBundle, match="the generator is"):
        agreements(first, second)


def test_a_bundle_of_another_schema_is_refused(tmp_path: Path) -> None:
    folder = bundle.write(result(tmp_path), tmp_path)
    data = msgspec.json.decode((folder / "result.json").read_bytes())
    (folder / "result.json").write_bytes(msgspec.json.encode(data | {"schema": 99}))
    with pytest.raises(InvalidBundle, match="schema 99"):
        bundle.read(folder)
    with pytest.raises(InvalidBundle):
        bundle.read(tmp_path / "nowhere")


def test_variants_are_written_as_they_are_read() -> None:
    for text in ("static", "hopcount", "hopcount:flushers=3,batch_limit=64", "hopcount@v1:flushers=3"):
        assert str(variants.parsed(text)) == text
    assert variants.parsed("hopcount:flushers=3+batch_limit=64") == variants.parsed(
        "hopcount:flushers=3,batch_limit=64"
    )
    for wrong in ("", "nginx", "static:flushers=3", "hopcount:flushers", "hopcount:port=1", "hopcount:workers=2"):
        with pytest.raises(InvalidVariant):
            variants.parsed(wrong)


def seeding(dsns: CloneDsns, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "loadtest", "seed", "--database-url", dsns.administrator, *arguments]
    return subprocess.run(command, cwd=variants.ROOT, check=False, capture_output=True, text=True)


_LINK = "INSERT INTO hopcount.urls (id, short_code, original_url) VALUES (gen_random_uuid(), '{0}', '{1}')"
_CLICK = "INSERT INTO hopcount.clicks (id, short_code) VALUES (gen_random_uuid(), '{0}')"


async def test_seeding_and_its_end_leave_the_links_of_others_alone(
    dsns: CloneDsns, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    for code in ("mine", "load-20", "load-balancer"):
        await connection.execute(_LINK.format(code, "https://example.org/"))
        await connection.execute(_CLICK.format(code))
    assert seeding(dsns, "--links", "10").stdout == "10 links made\n"
    await connection.execute(_CLICK.format("load-3"))
    assert seeding(dsns, "--remove").stdout == "10 links removed\n"
    for table in ("urls", "clicks"):
        left = await connection.fetch(f"SELECT short_code FROM hopcount.{table} ORDER BY 1")
        assert [row[0] for row in left] == ["load-20", "load-balancer", "mine"]


async def test_seeding_makes_what_is_missing_or_says_what_is_in_its_way(
    dsns: CloneDsns, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    seeding(dsns, "--links", "10")
    await connection.execute("DELETE FROM hopcount.urls WHERE short_code IN ('load-2', 'load-5')")
    assert seeding(dsns, "--links", "12").stdout == "4 links made\n"
    await connection.execute(_LINK.format("load-15", "https://example.org/"))
    refused = seeding(dsns, "--links", "20")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "bench: 'load-15' is there already, and was not seeded: it leads elsewhere\n"
    assert await connection.fetchval("SELECT count(*) FROM hopcount.urls") == 13
