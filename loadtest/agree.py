"""Whether two bundles of one machine say the same."""

import msgspec

from loadtest.bundle import Cell, InvalidBundle, Result
from loadtest.compare import Ratio
from loadtest.report import to_variant


class Agreement(msgspec.Struct, frozen=True):
    """What two bundles say of one cell: its throughput to that of another variant in its place."""

    cell: Cell
    to: str
    first: Ratio
    second: Ratio

    @property
    def holds(self) -> bool:
        """Whether the two intervals have something in common."""
        return self.first.low <= self.second.high and self.second.low <= self.first.high


def agreements(first: Result, second: Result) -> list[Agreement]:
    """Of every cell that both have. Raises InvalidBundle where they cannot be compared."""
    for name, one, other in zip(
        ("processor", "cores", "memory", "system", "generator"),
        first.fingerprint.machine,
        second.fingerprint.machine,
        strict=True,
    ):
        if one != other:
            raise InvalidBundle(f"these are not compared: the {name} is {one!r} in one and {other!r} in the other")
    found = []
    for place, cell in enumerate(first.cells):
        if cell not in second.cells:
            continue
        for variant in ("static", "per_request"):
            mine = to_variant(first, place, variant)
            theirs = to_variant(second, second.cells.index(cell), variant)
            if mine is not None and theirs is not None:
                found.append(Agreement(cell, variant, mine, theirs))
    return found
