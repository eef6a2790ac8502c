"""Which link a request is for: seeded links, drawn uniformly, by Zipf's law, or one hot one."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
import numpy as np

_CHUNK = 10_000

Kind = Literal["uniform", "zipf", "hot"]


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A distribution over the seeded links 0 to `links` - 1."""

    kind: Kind = "uniform"
    links: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 100_000
    exponent: float = 1.0
    """Of Zipf's law: the link of rank r is drawn in proportion to 1 / r ** exponent."""

    @property
    def label(self) -> str:
        return f"zipf {self.exponent:g}" if self.kind == "zipf" else self.kind


def code(link: int) -> str:
    """The short code of a seeded link."""
    return f"load-{link}"


def destination(short_code: str) -> str:
    """The destination of a seeded link."""
    return f"https://example.org/{short_code}"


def drawn(keys: Keys, seed: int) -> Iterator[str]:
    """Short codes without end; the same ones for the same seed."""
    random = np.random.default_rng(seed)
    if keys.kind == "hot":
        while True:
            yield code(0)
    if keys.kind == "zipf":
        weights = np.cumsum(np.arange(1, keys.links + 1, dtype=np.float64) ** -keys.exponent)
        weights /= weights[-1]
    while True:
        if keys.kind == "zipf":
            chunk = np.searchsorted(weights, random.random(_CHUNK))
        else:
            chunk = random.integers(0, keys.links, _CHUNK)
        for link in chunk.tolist():
            yield code(link)
