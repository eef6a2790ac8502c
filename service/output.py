"""Text output that is there whole or not at all."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole(path: str) -> Iterator[TextIO]:
    """To write UTF-8 text to `path`: a file that was there stays as it was until all of the new one is written.

    `-` is standard output; it, a pipe and a device get what is written as it comes. Raises OSError.
    """
    if path == "-":
        # Buffered whatever PYTHONUNBUFFERED says: unbuffered, what a stopped process had not written yet is dropped.
        with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as target:
            yield target
        return
    given = Path(path)
    if given.exists() and not given.is_file():
        with given.open("w", encoding="utf-8") as target:
            yield target
        return
    final = given.resolve()
    part = final.with_name(f"{final.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8") as target:
            if final.exists():
                shutil.copymode(final, part)
            yield target
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
