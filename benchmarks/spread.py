"""How values scatter: median, quartiles, extremes."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Of one value per round."""

    median: float
    low_quartile: float
    high_quartile: float
    smallest: float
    largest: float

    @property
    def relative(self) -> float:
        """The quartiles' distance over the median."""
        return (self.high_quartile - self.low_quartile) / self.median if self.median else float("inf")

    def straddles(self, bound: float) -> bool:
        """Whether the quartiles lie on either side of a bound."""
        return self.low_quartile < bound < self.high_quartile


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of at least one value.

    Example:
        >>> spread_of([3.0, 1.0, 2.0])
        Spread(median=2.0, low_quartile=1.5, high_quartile=2.5, smallest=1.0, largest=3.0)
    """
    if len(values) == 1:
        return Spread(*[float(values[0])] * 5)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, min(values), max(values))
