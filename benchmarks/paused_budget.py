"""A training budget whose clock can be stopped."""

from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.schedule import Budget


class PausedBudget(Budget):
    """Starts paused; seconds pass only inside `running`, and there outside `paused`. Before, nothing is used up."""

    _has_run = False

    def fraction(self, num_examples: float) -> float:
        return super().fraction(num_examples) if self._has_run else 0.0

    def start(self) -> None:
        """Nothing: the clock belongs to the benchmark, not to the trainer."""

    stop = start

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the clock run."""
        self._has_run = True
        super().start()
        try:
            yield
        finally:
            super().stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of a running budget: measuring costs no budget."""
        super().stop()
        try:
            yield
        finally:
            super().start()
