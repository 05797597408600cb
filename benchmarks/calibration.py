"""Finds the numbers of negatives with which workers need wanted times."""

from collections.abc import Callable, Sequence

TOLERANCE = 0.05
"""Of a wanted time: so close a measured one is what was wanted."""
_FEW, _MANY = 512, 8192
_MOST_SLOPE = 2.0
"""A slope between two tries is trusted if it is at most so many times that of the whole range, or as many times less:
times of one number scatter, too."""
_TRIES = 4
"""For each wanted time, and for the first steps to become as fast as later ones."""


class Calibration:
    """Changes a number until what is measured with it is what was wanted.

    Args:
        typical_s: measures the seconds that workers need with a number of negatives; they grow with it.
    """

    def __init__(self, typical_s: Callable[[int], float]) -> None:
        self._typical_s = typical_s
        few_s = self._settled_s(_FEW)
        self._line = (_FEW, few_s, _MANY, max(typical_s(_MANY), few_s * (1 + TOLERANCE)))

    def negatives_for(self, wanted_s: Sequence[float]) -> list[int]:
        """A number for each time, more for a longer one; of those that nothing reaches, the nearest that was tried.

        All are measured again at the end, since the machine drifts meanwhile, and sought anew where they are off.

        Args:
            wanted_s: in ascending order.
        """
        few, few_s, many, many_s = self._line
        slope = (many_s - few_s) / (many - few)
        first = [self._sought(seconds, few + (seconds - few_s) / slope, slope) for seconds in wanted_s]
        again = [self._sought(seconds, number, slope) for seconds, number in zip(wanted_s, first, strict=True)]
        for place in range(1, len(again)):
            again[place] = max(again[place], again[place - 1] + 1)
        return again

    def _sought(self, wanted_s: float, guess: float, whole_slope: float) -> int:
        """By the secant method, which begins with the slope of the whole range."""
        number, slope = max(1, round(guess)), whole_slope
        tried: dict[int, float] = {}
        for _ in range(_TRIES):
            tried[number] = self._typical_s(number)
            if _is_close(tried[number], wanted_s):
                return number
            if len(tried) > 1:
                (one, one_s), (other, other_s) = list(tried.items())[-2:]
                found = (other_s - one_s) / (other - one)
                slope = found if whole_slope / _MOST_SLOPE <= found <= whole_slope * _MOST_SLOPE else whole_slope
            number = max(1, round(number + (wanted_s - tried[number]) / slope))
        return min(tried, key=lambda number: abs(tried[number] - wanted_s))

    def _settled_s(self, number: int) -> float:
        """The time with this number once it no longer falls: the first steps are slower."""
        seconds = self._typical_s(number)
        for _ in range(_TRIES):
            before_s, seconds = seconds, self._typical_s(number)
            if seconds >= before_s * (1 - TOLERANCE):
                break
        return seconds


def _is_close(seconds: float, wanted_s: float) -> bool:
    return abs(seconds - wanted_s) <= TOLERANCE * wanted_s
