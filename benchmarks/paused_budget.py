"""A training budget whose clock can be stopped."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.schedule import Budget


class PausedBudget(Budget):
    """Starts paused; seconds pass only inside `running`, and there outside `paused`. Before, nothing is used up."""

    _resumed_s: float | None = None
    _has_run = False

    def fraction(self, num_examples: int) -> float:
        return super().fraction(num_examples) if self._has_run else 0.0

    def start(self) -> None:
        """Nothing: the clock belongs to the benchmark, not to the first step."""

    @property
    def used_s(self) -> float:
        return self._earlier_s + (0.0 if self._resumed_s is None else time.perf_counter() - self._resumed_s)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the clock run."""
        self._has_run = True
        self._resumed_s = time.perf_counter()
        try:
            yield
        finally:
            self._earlier_s, self._resumed_s = self.used_s, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of a running budget: measuring costs no budget."""
        self._earlier_s, self._resumed_s = self.used_s, None
        try:
            yield
        finally:
            self._resumed_s = time.perf_counter()
