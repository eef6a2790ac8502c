"""API keys in the database."""

from typing import Any

import pytest

from service.store.connections import Database
from service.store.errors import Unavailable
from service.store.keys import Keys, NameTaken

Connection = Any  # asyncpg.Connection


async def test_a_key_is_known_until_it_is_deleted(database: Database, as_owner: Database) -> None:
    token = await Keys(as_owner).create("reporting", "read")
    holder = await Keys(database).holder(token)
    assert holder is not None
    assert (holder.name, holder.scope) == ("reporting", "read")
    assert await Keys(database).every() == [holder]
    assert await Keys(as_owner).delete("reporting")
    assert await Keys(database).holder(token) is None
    assert not await Keys(as_owner).delete("reporting")


async def test_only_the_whole_token_is_the_key(database: Database, as_owner: Database) -> None:
    token = await Keys(as_owner).create("a", "write")
    other = await Keys(as_owner).create("b", "write")
    swapped = token[:36] + other[36:]
    for wrong in ("", "hc_", token[:-1], token + "x", token.upper(), swapped, "é" * 79):
        assert await Keys(database).holder(wrong) is None


async def test_the_secret_is_nowhere_in_the_database(as_owner: Database, connection: Connection) -> None:
    token = await Keys(as_owner).create("a", "write")
    row = str(await connection.fetchrow("SELECT * FROM hopcount.api_keys"))
    assert token[36:] not in row


async def test_a_name_is_used_once(as_owner: Database) -> None:
    await Keys(as_owner).create("a", "write")
    with pytest.raises(NameTaken):
        await Keys(as_owner).create("a", "read")


async def test_the_service_cannot_make_or_delete_keys(database: Database, as_owner: Database) -> None:
    await Keys(as_owner).create("a", "write")
    with pytest.raises(Unavailable, match="permission denied"):
        await Keys(database).create("b", "write")
    with pytest.raises(Unavailable, match="permission denied"):
        await Keys(database).delete("a")
