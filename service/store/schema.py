"""Whether the deployed schema is the one that this release needs."""

import asyncpg

from service.store.connections import Database
from service.store.errors import SchemaMismatch, Unavailable

_NEEDED = {
    ("hopcount.urls", "SELECT"): "id short_code original_url click_count created_at updated_at",
    ("hopcount.urls", "INSERT"): "id short_code original_url",
    ("hopcount.urls", "UPDATE"): "original_url click_count updated_at",
    ("hopcount.clicks", "SELECT"): "id short_code",
    ("hopcount.clicks", "INSERT"): "id short_code",
    ("hopcount.api_keys", "SELECT"): "id name key_hash scope created_at",
}
"""What the service does, and to which columns."""

_INDEXES = ["hopcount.urls_search_idx"]
"""Without which something works, and reads all that there is for it."""

_PROBLEMS = """
SELECT CASE
    WHEN to_regclass(n.name) IS NULL THEN format('the table %s is missing', n.name)
    WHEN a.attname IS NULL THEN format('the column %s.%s is missing', n.name, n.col)
    WHEN NOT has_column_privilege(to_regclass(n.name), a.attnum, n.privilege)
        THEN format('the role %s may not %s %s.%s', current_user, n.privilege, n.name, n.col)
END AS problem
FROM unnest($1::text[], $2::text[], $3::text[]) AS n (name, privilege, col)
LEFT JOIN pg_attribute AS a
    ON a.attrelid = to_regclass(n.name) AND a.attname = n.col AND NOT a.attisdropped
UNION ALL
SELECT format('the index %s is missing', name) FROM unnest($4::text[]) AS name WHERE to_regclass(name) IS NULL
"""


async def check(database: Database) -> None:
    """Raises SchemaMismatch, which says what is not as it should be and what to do; Unavailable."""
    needed = [(name, privilege, column) for (name, privilege), columns in _NEEDED.items() for column in columns.split()]
    try:
        rows = await database.fetch(_PROBLEMS, *map(list, zip(*needed, strict=True)), _INDEXES)
    except Unavailable as error:
        if not isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise
        problems = [str(error)]
    else:
        problems = [row["problem"] for row in rows if row["problem"] is not None]
    if problems:
        raise SchemaMismatch(
            f"the schema in the database is not the one that this release needs: {problems[0]}. "
            "As its administrator, run `sqitch deploy` in this release's sqitch/ folder, "
            "and grant hopcount_service to the login of the service."
        )
