"""Locks between processes, in single bytes of one file. The system lets go of them when a process dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

_SERVING, _USING, _CHANGING = range(3)


class LockFile:
    """The lock file of a data directory: a context.

    The locks are the process's: it must open the file no more than once, or closing one of them would let
    go of all (POSIX advisory locks).
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def start_serving(self) -> bool:
        """Whether this process is now the one that serves; False where another one does."""
        return self._try(_SERVING, fcntl.LOCK_EX)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While nobody else starts or stops the server; waits for it."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _CHANGING)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _CHANGING)

    def start_using(self) -> None:
        """From now on the server is needed by this process. Inside `changing`."""
        fcntl.lockf(self._file, fcntl.LOCK_SH, 1, _USING)

    def stop_using(self) -> bool:
        """Whether nobody needs the server any more. Inside `changing`."""
        return self._try(_USING, fcntl.LOCK_EX)

    def _try(self, byte: int, kind: int) -> bool:
        with suppress(OSError):
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, 1, byte)
            return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)
