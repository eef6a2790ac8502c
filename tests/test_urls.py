"""Links in the database."""

import asyncio
from typing import Any

import pytest
from uuid_utils import uuid7

from service.store.connections import Database
from service.store.errors import Unavailable
from service.store.urls import CodeTaken, New, Urls

Connection = Any  # asyncpg.Connection


@pytest.fixture
def urls(database: Database) -> Urls:
    return Urls(database)


def new(code: str, path: str = "") -> New:
    return New(code, f"https://example.org/{path}")


async def leave_a_click(connection: Connection, code: str) -> None:
    await connection.execute("INSERT INTO hopcount.clicks (id, short_code) VALUES ($1, $2)", uuid7(), code)


async def test_created_links_are_found_with_a_count_of_zero(urls: Urls) -> None:
    made = await urls.create(new("a", "x"))
    assert await urls.get("a") == made
    assert (made.short_code, made.original_url, made.click_count) == ("a", "https://example.org/x", 0)
    assert made.created_at == made.updated_at
    assert await urls.destination("a") == "https://example.org/x"
    assert await urls.get("A") is None, "codes differ by case"
    assert await urls.destination("missing") is None


async def test_a_taken_code_is_refused_and_nothing_changes(urls: Urls) -> None:
    made = await urls.create(new("a"))
    with pytest.raises(CodeTaken):
        await urls.create(new("a", "other"))
    assert await urls.get("a") == made


async def test_a_code_whose_old_clicks_are_still_there_cannot_be_used(urls: Urls, connection: Connection) -> None:
    await leave_a_click(connection, "a")
    with pytest.raises(CodeTaken):
        await urls.create(new("a"))
    with pytest.raises(CodeTaken):
        await urls.put(new("a"))
    assert await urls.create_all([new("a"), new("b")]) == ["taken", "created"]
    assert await urls.get("a") is None
    await connection.execute("DELETE FROM hopcount.clicks")
    assert await urls.create(new("a"))


async def test_put_makes_or_replaces_and_keeps_id_and_count(urls: Urls, connection: Connection) -> None:
    made, created = await urls.put(new("a", "1"))
    assert created
    await connection.execute("UPDATE hopcount.urls SET click_count = 7")
    await leave_a_click(connection, "a")
    changed, created = await urls.put(new("a", "2"))
    assert not created
    assert (changed.id, changed.click_count, changed.original_url) == (made.id, 7, "https://example.org/2")
    assert changed.updated_at > made.updated_at
    assert changed.created_at == made.created_at


async def test_change_and_delete(urls: Urls) -> None:
    await urls.create(new("a", "1"))
    changed = await urls.change(new("a", "2"))
    assert changed is not None
    assert await urls.get("a") == changed
    assert changed.original_url == "https://example.org/2"
    assert await urls.change(new("missing")) is None
    assert await urls.delete("a")
    assert not await urls.delete("a")
    assert await urls.get("a") is None


async def test_create_all_says_what_came_of_each(urls: Urls) -> None:
    await urls.create_all([new("there", "1"), new("other", "1")])
    outcomes = await urls.create_all(
        [new("there", "1"), new("other", "2"), new("new", "1"), new("new", "1"), new("new", "2")]
    )
    assert outcomes == ["unchanged", "taken", "created", "unchanged", "taken"]
    kept = await urls.get("new")
    assert kept is not None
    assert kept.original_url == "https://example.org/1"
    assert await urls.create_all([]) == []


async def test_create_all_from_both_ends_at_once_does_not_deadlock(urls: Urls) -> None:
    links = [new(f"n{number}") for number in range(300)]
    for _ in range(5):
        outcomes = await asyncio.gather(urls.create_all(links), urls.create_all(links[::-1]))
        assert {*outcomes[0], *outcomes[1]} <= {"created", "unchanged"}
    assert (await urls.totals()).links == 300


async def test_pages_are_newest_first_and_strictly_before_the_cursor(urls: Urls) -> None:
    made = [await urls.create(new(f"n{number}")) for number in range(5)]
    first = await urls.page(2)
    second = await urls.page(2, first[-1].id)
    third = await urls.page(2, second[-1].id)
    assert [*first, *second, *third] == made[::-1]
    assert await urls.page(2, third[-1].id) == []


async def test_every_link_once_and_totals(urls: Urls, connection: Connection) -> None:
    await urls.create_all([new(f"n{number:04}") for number in range(2500)])
    await connection.execute("UPDATE hopcount.urls SET click_count = 3 WHERE short_code < 'n0100'")
    seen = [link.short_code async for link in urls.every()]
    assert sorted(seen) == [f"n{number:04}" for number in range(2500)]
    totals = await urls.totals()
    assert (totals.links, totals.clicks) == (2500, 300)
    assert [link.short_code for link in await urls.most_clicked(2)] == ["n0000", "n0001"]


@pytest.mark.parametrize(
    ("code", "url"),
    [
        ("a b", "https://example.org/"),
        ("", "https://example.org/"),
        ("a" * 33, "https://example.org/"),
        ("a", "javascript:alert(1)"),
        ("a", "https://example.org/\n"),
        ("a", "https://example.org/ä"),
        ("a", "https://example.org/" + "a" * 8192),
    ],
)
async def test_the_database_itself_refuses_what_is_no_link(urls: Urls, code: str, url: str) -> None:
    with pytest.raises(Unavailable, match="check constraint"):
        await urls.create(New(code, url))
    with pytest.raises(Unavailable, match="check constraint"):
        await urls.put(New(code, url))
    assert (await urls.totals()).links == 0
