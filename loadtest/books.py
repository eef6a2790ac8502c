"""What the processes of a distributed load test have recorded."""

from collections.abc import Iterable
from typing import Any

from loadtest.tally import Tally


class Books:
    """What this Locust process has recorded, and in the master what all have."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.before: dict[str, int] = {}
        self.error: str | None = None
        self._begun = False
        self._working: set[str] = set()
        self._finished: set[str] = set()

    def begin(self, workers: Iterable[str]) -> None:
        """Forget the test before. In the master: these workers take part, and have to hand something over."""
        self.tally.clear()
        self.error = None
        self._begun = True
        self._working = set(workers)
        self._finished = set()

    def handed_over(self, *, last: bool) -> dict[str, Any]:
        """In a worker: what was recorded since the last time, for the master."""
        # Emptied, not replaced: the users hold it.
        handed = self.tally.as_data()
        self.tally.clear()
        return {"tally": handed, "last": last}

    def take(self, worker: str, handed: dict[str, Any]) -> None:
        """In the master: what a worker hands over; they report before the first test too."""
        if not self._begun:
            return
        self.tally.merge(Tally.from_data(handed["tally"]))
        self._working.add(worker)
        if handed["last"]:
            self._finished.add(worker)
        else:
            self._finished.discard(worker)

    @property
    def missing(self) -> set[str]:
        """Workers that take part and have not handed over the last that they recorded."""
        return self._working - self._finished
