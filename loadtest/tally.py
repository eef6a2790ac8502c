"""What clients put on the wire and what came back, link by link."""

from collections import Counter

import msgspec


class Tally(msgspec.Struct):
    """Requests by short code; a request that ended without an answer is sent and nothing else."""

    sent: Counter[str] = msgspec.field(default_factory=Counter)
    redirected: Counter[str] = msgspec.field(default_factory=Counter)
    """302s with the right destination or a wrong one."""
    wrong: Counter[str] = msgspec.field(default_factory=Counter)
    """302s whose destination was not the link's."""
    not_found: Counter[str] = msgspec.field(default_factory=Counter)
    """404s of seeded links."""
    gone: Counter[str] = msgspec.field(default_factory=Counter)
    """Links that a client deleted; it compared their counts before that."""
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    """Answers by status."""
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    """Promises that a client saw broken, in words."""
    checks: Counter[str] = msgspec.field(default_factory=Counter)
    """What a client came to check, in words: a verdict on nothing is none."""

    def merge(self, other: "Tally") -> None:
        for name in self.__struct_fields__:
            getattr(self, name).update(getattr(other, name))

    def clear(self) -> None:
        for name in self.__struct_fields__:
            getattr(self, name).clear()

    def as_data(self) -> dict[str, dict[str, int]]:
        """Plain dictionaries, for messages between processes."""
        return {name: dict(getattr(self, name)) for name in self.__struct_fields__}

    @classmethod
    def from_data(cls, data: dict[str, dict[str, int]]) -> "Tally":
        return cls(**{name: Counter(counts) for name, counts in data.items()})
