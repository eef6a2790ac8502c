"""The Compose stack, end to end: `./run test tests/stack`. Its tests stand on each other, in their order."""

import asyncio
import json
from collections.abc import Iterator
from itertools import repeat, takewhile
from typing import Any

import httpx
import pytest

from tests.support import compose
from tests.support.compose import Stack
from tests.support.postgres import ROOT
from tests.support.traffic import Tally, drive
from tests.support.waiting import until

COMPOSE = compose.command()

pytestmark = [
    pytest.mark.skipif(COMPOSE is None, reason="there is no Docker engine with Compose"),
    pytest.mark.timeout(900),  # images are built
]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    assert COMPOSE is not None
    with compose.stack(COMPOSE) as made:
        made("up", "-d", "--build")
        yield made


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return stack("exec", "-T", "admin", "hopcount", "keys", "create", "tests").strip()


async def is_ready(stack: Stack) -> None:
    def ready() -> bool:
        try:
            return httpx.get(f"{stack.url}/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    await until(ready)


def put(stack: Stack, key: str, code: str) -> None:
    answer = httpx.put(
        f"{stack.url}/api/v1/urls/{code}", json={"original_url": "https://example.org/"}, headers=bearer(key)
    )
    assert answer.status_code in (200, 201), answer.text


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def count(stack: Stack, key: str, code: str) -> int:
    """What the API reports; it is also the number of the rows."""
    reported: int = httpx.get(f"{stack.url}/api/v1/urls/{code}", headers=bearer(key)).json()["click_count"]
    assert stack.sql(f"SELECT count(*) FROM hopcount.clicks WHERE short_code = '{code}'") == str(reported)
    return reported


async def test_the_stack_says_how_to_make_a_key(stack: Stack) -> None:
    await until(lambda: "Make one: docker compose exec admin hopcount keys create NAME" in stack("logs", "admin"))


async def test_a_thousand_redirects_are_a_thousand_clicks(stack: Stack, key: str) -> None:
    await is_ready(stack)
    put(stack, key, "thousand")
    tally = await drive(stack.port, repeat("thousand", 1000))
    assert tally.statuses == {302: 1000}
    assert count(stack, key, "thousand") == 1000


@pytest.mark.parametrize("service", ["hopcount", "admin", "schema"])
async def test_each_container_can_be_restarted(stack: Stack, key: str, service: str) -> None:
    stack("restart", service)
    await is_ready(stack)
    put(stack, key, service)
    tally = await drive(stack.port, repeat(service, 100))
    assert tally.redirected[service] == 100
    assert count(stack, key, service) == 100


async def under_load(stack: Stack, key: str, code: str, *commands: tuple[str, ...]) -> None:
    """Promise 1 over commands of Docker Compose that take something away from the service."""
    put(stack, key, code)
    tally, over = Tally(), False
    traffic = asyncio.create_task(drive(stack.port, takewhile(lambda _: not over, repeat(code)), tally=tally))
    await until(lambda: tally.redirected.total() > 200)
    for command in commands:
        await asyncio.to_thread(stack, *command)
    again = tally.redirected.total() + 200
    await until(lambda: tally.redirected.total() > again)
    over = True
    await traffic
    assert set(tally.statuses) <= {302, 503}
    assert tally.redirected[code] <= count(stack, key, code) <= tally.sent[code]


@pytest.mark.parametrize(
    "commands",
    [[("restart", "db")], [("kill", "db"), ("up", "-d")], [("restart", "hopcount")]],
    ids=["restart db", "kill db", "restart hopcount"],
)
async def test_under_load_no_click_that_was_answered_is_lost(
    stack: Stack, key: str, commands: list[tuple[str, ...]]
) -> None:
    await under_load(stack, key, "-".join(commands[0]), *commands)


async def test_down_and_up_again_loses_nothing(stack: Stack, key: str) -> None:
    before = stack.sql("SELECT short_code, click_count FROM hopcount.urls ORDER BY 1")
    stack("down")
    stack("up", "-d")
    await is_ready(stack)
    assert stack.sql("SELECT short_code, click_count FROM hopcount.urls ORDER BY 1") == before
    assert count(stack, key, "thousand") == 1000


def test_only_the_service_is_published_and_on_loopback_alone(stack: Stack) -> None:
    for service in ("db", "admin", "hopcount"):
        ports = stack.inspect(service)["NetworkSettings"]["Ports"]
        published = [binding for bindings in ports.values() for binding in bindings or []]
        expected = [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}] if service == "hopcount" else []
        assert published == expected


def test_the_service_runs_with_least_privilege(stack: Stack) -> None:
    assert stack("exec", "-T", "hopcount", "id", "-u").strip() == "10001"
    for service in ("db", "admin", "hopcount"):
        found = stack.inspect(service)["HostConfig"]
        assert found["ReadonlyRootfs"]
        assert found["CapDrop"] == ["ALL"]
        assert found["Memory"] > 0
    assert stack.sql("SELECT DISTINCT usename FROM pg_stat_activity WHERE client_addr IS NOT NULL") == "hopcount_app"
    # Neither what builds images nor what the service has no use for.
    tools = "for tool in gcc make git sqitch pip; do command -v $tool && ls /opt/hopcount/bin/$tool; done; true"
    assert "/opt/hopcount" not in stack("exec", "-T", "hopcount", "sh", "-c", tools)


async def test_the_pool_is_in_between(stack: Stack, key: str) -> None:
    stack.environment["HOPCOUNT_ROUTE"] = "pool"
    stack("up", "-d", "--build", profiles=("pool",))
    await is_ready(stack)
    put(stack, key, "pooled")
    tally = await drive(stack.port, repeat("pooled", 1000))
    assert tally.redirected["pooled"] == count(stack, key, "pooled") == 1000
    networks = stack.inspect("pool")["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    seen = stack.sql("SELECT DISTINCT client_addr FROM pg_stat_activity WHERE usename = 'hopcount_app'")
    assert seen == address
    await under_load(stack, key, "pool-restart", ("restart", "pool"))
    # Told nothing of the pooler, the service is refused, and says why.
    check = 'hopcount db check --database-url "$(sed s/.pool_mode=transaction// /run/secrets/pool-url)" 2>&1 || true'
    said = stack("exec", "-T", "hopcount", "sh", "-c", f"unset HOPCOUNT_DATABASE_URL_FILE; {check}")
    assert "the database URL ends in ?pool_mode=transaction" in said
    del stack.environment["HOPCOUNT_ROUTE"]
    stack("stop", "pool", profiles=("pool",))
    stack("up", "-d")
    await is_ready(stack)


@pytest.mark.parametrize("scenario", ["redirects", "api", "pages", "mixed"])
def test_every_locust_scenario_is_exact(stack: Stack, key: str, scenario: str) -> None:
    load = {"LOAD_API_KEY": key, "LOAD_SCENARIO": scenario, "LOAD_TIME": "5s", "LOAD_LINKS": "2000"}
    stack.environment.update(load)
    stack("up", "-d", "--build", profiles=("load",))
    status = stack.exit_status("load")
    said = stack("logs", "load", profiles=("load",))
    assert status == 0, said
    assert "verdict: exact" in said
    for name in load:
        del stack.environment[name]


def prometheus(stack: Stack, path: str, **params: str) -> Any:
    answer = httpx.get(f"http://127.0.0.1:{stack.prometheus_port}/api/v1/{path}", params=params).json()
    assert answer["status"] == "success", answer
    return answer["data"]


def value(stack: Stack, query: str) -> int | None:
    """Of a query with one result, what it is now; None where Prometheus has nothing yet."""
    try:
        found = prometheus(stack, "query", query=query)["result"]
    except httpx.TransportError:
        return None
    return int(found[0]["value"][1]) if found else None


async def test_prometheus_sees_what_the_clients_received(stack: Stack, key: str) -> None:
    stack("up", "-d", "prometheus", profiles=("observe",))
    redirects = 'sum(hopcount_redirects_total{method="GET", status="302"})'
    await until(lambda: value(stack, 'min(up{job="hopcount"})') == 1)
    await until(lambda: value(stack, redirects) is not None)
    before = value(stack, redirects)
    assert before is not None
    put(stack, key, "observed")
    await drive(stack.port, repeat("observed", 500))
    await until(lambda: value(stack, redirects) == before + 500)
    rules = [rule for group in prometheus(stack, "rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_the_rules_fire_when_they_should(stack: Stack) -> None:
    promtool = ("run", "--rm", "--entrypoint", "promtool", "prometheus", "test", "rules")
    stack(*promtool, "/etc/prometheus/rules_test.yml", profiles=("observe",))


def test_prometheus_answers_every_query_of_the_dashboard(stack: Stack) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "hopcount.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert queries
    for query in queries:
        prometheus(stack, "query", query=query.replace("$__rate_interval", "1m").replace("$__range", "5m"))
