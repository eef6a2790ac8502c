"""API keys: `hc_<id>_<secret>`, of which the database knows the id and a hash."""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils import uuid7

from service.store.connections import Database

Scope = Literal["read", "write"]

_TOKEN = re.compile(r"hc_([0-9a-f]{32})_[0-9A-Za-z_-]{43}")

_NO_HASH = bytes(32)
"""Compared with where there is no key, so that the time tells nothing."""

_FIND = "SELECT id, name, key_hash, scope, created_at FROM hopcount.api_keys WHERE id = $1"
_ALL = "SELECT id, name, scope, created_at FROM hopcount.api_keys ORDER BY id"
_INSERT = """
INSERT INTO hopcount.api_keys (id, name, key_hash, scope) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING RETURNING true
"""
_DELETE = "DELETE FROM hopcount.api_keys WHERE name = $1 RETURNING true"


class NameTaken(Exception):
    """A key of this name is there."""


class Key(msgspec.Struct, frozen=True):
    """A row of `api_keys` without its hash."""

    id: UUID
    name: str
    scope: Scope
    created_at: datetime


class Keys:
    """The keys. `create` and `delete` need the owner's rights. Every method raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def holder(self, token: str) -> Key | None:
        """The key that `token` is, asked of the database each time. None where it is none."""
        shape = _TOKEN.fullmatch(token)
        row: asyncpg.Record | None = None
        if shape is not None:
            row = await self._database.fetchrow(_FIND, UUID(shape[1]))
        right = hmac.compare_digest(_NO_HASH if row is None else row["key_hash"], _hash(token))
        if row is None or not right:
            return None
        return Key(row["id"], row["name"], row["scope"], row["created_at"])

    async def create(self, name: str, scope: Scope) -> str:
        """Make a key: the token, which is not kept. `name` has 1 to 100 characters. Raises NameTaken."""
        new = uuid7()
        token = f"hc_{new.hex}_{secrets.token_urlsafe(32)}"
        if not await self._database.fetchval(_INSERT, new, name, _hash(token), scope):
            raise NameTaken(name)
        return token

    async def every(self) -> list[Key]:
        return [Key(**row) for row in await self._database.fetch(_ALL)]

    async def delete(self, name: str) -> bool:
        """Whether there was such a key. It is refused from now on."""
        return await self._database.fetchval(_DELETE, name) is not None


def _hash(token: str) -> bytes:
    # Plain SHA-256 will do: a secret of 256 random bits cannot be guessed from its hash.
    return hashlib.sha256(token.encode()).digest()
