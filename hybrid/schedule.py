"""Learning rates as a function of the share of the budget that is used."""

import math
import time

from workers.settings import check, whole_number


def warmup_cosine(fraction: float, warmup_fraction: float) -> float:
    """Factor on the peak learning rate: a linear rise over the warm-up, then half a cosine down to 0.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5 with one cycle.

    Example:
        >>> [round(warmup_cosine(f, 0.5), 2) for f in (0.0, 0.25, 0.5, 0.75, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if fraction < warmup_fraction:
        return fraction / warmup_fraction
    rest = (min(fraction, 1.0) - warmup_fraction) / (1 - warmup_fraction)
    return 0.5 * (1 + math.cos(math.pi * rest))


class Budget:
    """How much of a run's epochs or minutes is used; goes on where a resumed run was.

    The clock runs from `start` to `stop`.

    Raises:
        ConfigError: `num_items` is no whole number, or below 1.
    """

    def __init__(self, *, epochs: float | None, minutes: float | None, num_items: int, used_s: float = 0.0) -> None:
        self._num_items = num_items = whole_number("num_items", num_items)
        check(num_items >= 1, "num_items", num_items, "at least 1: how many items an epoch has")
        self.total_examples = None if epochs is None else epochs * num_items
        self.total_s = None if minutes is None else minutes * 60
        self._earlier_s = used_s
        self._start_s: float | None = None

    def start(self) -> None:
        """Let the clock run, if it does not yet: loading and compiling before the first step cost no budget."""
        if self._start_s is None:
            self._start_s = time.monotonic()

    def stop(self) -> None:
        """Stop the clock, which `start` lets go on: what comes after a training costs no budget."""
        self._earlier_s, self._start_s = self.used_s, None

    @property
    def used_s(self) -> float:
        """Seconds of training so far, earlier parts of a resumed run included."""
        return self._earlier_s + (0.0 if self._start_s is None else time.monotonic() - self._start_s)

    def fraction(self, num_examples: float) -> float:
        """Share of the budget used after so many training examples; 1 or more when it is spent."""
        if self.total_examples is not None:
            return num_examples / self.total_examples
        assert self.total_s is not None, "a budget has epochs or minutes"
        return self.used_s / self.total_s

    def epochs(self, num_examples: int) -> float:
        """Passes over the training items that so many examples are, with what is done of the present one."""
        return num_examples / self._num_items

    def remaining_s(self, num_examples: int) -> float:
        """Estimated seconds until the budget is spent, at the pace so far."""
        fraction = self.fraction(num_examples)
        return self.used_s * (1 - fraction) / fraction if fraction > 0 else math.inf
