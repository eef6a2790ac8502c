"""Short codes: their shape, the reserved ones, and new ones."""

import re

import nanoid

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
GENERATED_LENGTH = 8
RESERVED = frozenset({"api", "assets", "batch", "docs", "health", "metrics", "static"})
"""Path segments that the service keeps for itself, in any case: `batch` for `/api/v1/urls/batch`."""

_SHAPE = re.compile(r"[0-9A-Za-z_-]{1,32}")


class InvalidCode(ValueError):
    """A short code cannot be used; the message says why."""


def generated() -> str:
    """A new random code. It is never a reserved one: those are shorter or longer."""
    return nanoid.generate(ALPHABET, GENERATED_LENGTH)


def possible(code: str) -> bool:
    """Whether `code` has the shape of one."""
    return _SHAPE.fullmatch(code) is not None


def checked(code: str) -> str:
    """`code`, if a link may have it. Raises InvalidCode."""
    if not possible(code):
        raise InvalidCode("A short code has 1 to 32 characters of 0-9, A-Z, a-z, _ and -.")
    if code.lower() in RESERVED:
        raise InvalidCode(f"The short code {code!r} is reserved.")
    return code


def in_path(path: str) -> str | None:
    """The code that the path of a request asks for; None if it is no `/{code}`."""
    found = _SHAPE.fullmatch(path, 1)
    if found is None:
        return None
    code = found.group()
    return None if code in RESERVED else code
