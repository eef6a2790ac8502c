"""Ratios between two things that were measured in alternation."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from scipy import stats

CONFIDENCE = 0.95
_RESAMPLES = 9_999
FEWEST = 3
"""Pairs below which nothing is said."""

Finding = Literal["faster", "slower", "undetermined"]


class Ratio(msgspec.Struct, frozen=True):
    """Of the first to the second: the geometric mean over the rounds, and its bootstrap 95 % interval."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def finding(self) -> Finding:
        if self.rounds >= FEWEST and self.low > 1:
            return "faster"
        if self.rounds >= FEWEST and self.high < 1:
            return "slower"
        return "undetermined"

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio(first: Sequence[float], second: Sequence[float]) -> Ratio | None:
    """Of values that were measured pairwise, round by round. None where there are no pairs.

    The interval is the percentile bootstrap of the mean of the logarithms (scipy.stats.bootstrap): drift that
    both of a pair share cancels out.
    """
    pairs = min(len(first), len(second))
    if pairs == 0:
        return None
    logs = np.log(np.asarray(first[:pairs]) / np.asarray(second[:pairs]))
    value = float(np.exp(logs.mean()))
    if pairs < 2 or np.ptp(logs) == 0:
        return Ratio(value, value, value, pairs)
    interval = stats.bootstrap(
        (logs,), np.mean, confidence_level=CONFIDENCE, n_resamples=_RESAMPLES, method="percentile", rng=1
    ).confidence_interval
    return Ratio(value, float(np.exp(interval.low)), float(np.exp(interval.high)), pairs)
