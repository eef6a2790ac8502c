"""The search by prefix: what it finds, and by which plan."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import asyncpg
import pytest
from uuid_utils import uuid7

from service import destinations
from service.store import urls as store
from service.store.connections import Database
from service.store.urls import NEWEST, Link, New, Urls
from tests.support.postgres import CloneDsns

Connection = Any  # asyncpg.Connection


@pytest.fixture
def urls(database: Database) -> Urls:
    return Urls(database)


async def put_in(connection: Connection, originals: Iterable[str]) -> None:
    """Links `n0`, `n1` ... with these destinations, oldest first."""
    records = [(uuid7(), f"n{number}", original) for number, original in enumerate(originals)]
    await connection.copy_records_to_table(
        "urls", schema_name="hopcount", columns=["id", "short_code", "original_url"], records=records
    )


def found(links: list[Link]) -> list[str]:
    return [link.original_url for link in links]


async def test_it_matches_prefixes_in_either_case_newest_first(urls: Urls, connection: Connection) -> None:
    await put_in(connection, ["https://a.example/Path", "https://b.example/", "https://a.example/pathology"])
    assert found(await urls.page(10, search="HTTPS://A.example/pATH")) == [
        "https://a.example/pathology",
        "https://a.example/Path",
    ]
    assert found(await urls.page(1, search="https://a")) == ["https://a.example/pathology"]
    assert found(await urls.page(10, search="a.example")) == [], "only the beginning counts"
    assert len(await urls.page(10, search="")) == 3


@pytest.mark.parametrize("mark", ["%", "_", "\\", "%41", "\\%", "'", "$1", "*", ".", "["])
async def test_no_character_is_special(urls: Urls, connection: Connection, mark: str) -> None:
    await put_in(connection, [f"https://a.example/?q={mark}x", "https://a.example/?q=Ax", "https://a.example/?q=x"])
    assert found(await urls.page(10, search=f"https://a.example/?q={mark}")) == [f"https://a.example/?q={mark}x"]


@pytest.mark.parametrize("search", ["https://\u212a", "https://\u0131", "\U0010ffff", "é", "\x7f"])
async def test_what_no_destination_can_begin_with_finds_nothing(
    urls: Urls, connection: Connection, search: str
) -> None:
    # U+212A, the Kelvin sign, is a `k` in lower case, and U+0131 an `I` in upper case.
    await put_in(connection, ["https://k.example/", "https://i.example/"])
    assert await urls.page(10, search=search) == []


async def test_the_longest_destinations_are_stored_and_told_apart(urls: Urls) -> None:
    stem = "https://a.example/" + "a" * (destinations.LONGEST - 19)
    for last in "xyz":
        await urls.create(New(last, stem + last))
    assert found(await urls.page(10, search=stem)) == [stem + last for last in "zyx"]
    assert found(await urls.page(10, search=(stem + "Y").upper())) == [stem + "y"]
    assert found(await urls.page(10, search=stem[: store.SEARCHED] + "b")) == []


@pytest.fixture
def rare_among_the_oldest() -> list[str]:
    """3,000 destinations: every third of the oldest 300 matches `https://old`, and no other."""
    return [f"https://{'old' if n < 300 and n % 3 == 0 else 'new'}.example/{n}" for n in range(3000)]


async def test_pages_are_the_same_wherever_the_matches_lie(
    urls: Urls, connection: Connection, rare_among_the_oldest: list[str]
) -> None:
    await put_in(connection, rare_among_the_oldest)
    for search in ("https://", "https://old", "https://new", "https://new.example/29", "https://none"):
        expected = [url for url in reversed(rare_among_the_oldest) if url.startswith(search)]
        walked: list[str] = []
        before = NEWEST
        while page := await urls.page(7, before, search):
            walked += found(page)
            before = page[-1].id
        assert walked == expected


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize(("search", "matching"), [("https://none", 0), ("https://first", 300), ("https://old", 15_000)])
async def test_matches_that_are_not_among_the_newest_are_found_through_the_index(
    dsns: CloneDsns, connection: Connection, mode: str, search: str, matching: int
) -> None:
    hosts = ["first"] * 300 + ["old"] * 15_000 + ["new"] * 45_000
    await put_in(connection, (f"https://{host}.example/{number}" for number, host in enumerate(hosts)))
    await connection.execute("VACUUM ANALYZE hopcount.urls")
    asked = await asyncpg.connect(dsns.direct, server_settings={"plan_cache_mode": mode})
    try:
        await asked.execute(f"PREPARE search (uuid, bigint, text, bigint) AS {store._SEARCH}")
        text = await asked.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE search ('{NEWEST}', 51, '{search}', {51 * store._NEAR})"
        )
    finally:
        await asked.close()
    plan = list(nodes(json.loads(text)[0]["Plan"]))
    used = [node for node in plan if node.get("Index Name") == "urls_search_idx"]
    assert len(used) == 1
    assert "lower" in used[0]["Index Cond"]
    assert used[0]["Actual Rows"] == matching
    # Nothing reads more than the newest few and these.
    reads = [node for node in plan if node.get("Relation Name") == "urls" and node["Actual Loops"]]
    for node in reads:
        rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        assert rows <= max(51 * store._NEAR, matching)
