"""What can go wrong between the service and PostgreSQL, in the terms of those who must react."""


class StoreError(Exception):
    """Anything of the below."""


class Unavailable(StoreError):
    """PostgreSQL could not do it now: out of reach, overloaded or broken. Nothing was changed."""


class InDoubt(StoreError):
    """The connection was lost after a statement was sent: it may have been committed, or may yet be."""


class RowLocked(StoreError):
    """Somebody else held a row for longer than the lock timeout. Nothing was changed."""


class RolledBack(StoreError):
    """PostgreSQL gave up the transaction (a deadlock, a statement timeout). Nothing was changed."""


class TooMuch(StoreError):
    """What was asked for cannot be read within the statement timeout."""


class SchemaMismatch(StoreError):
    """The deployed schema, or what the role may do with it, is not what this release needs."""
