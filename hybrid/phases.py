"""Wall-clock seconds spent in each phase of a long loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class PhaseTimer:
    """Adds up seconds by phase name until they are taken.

    Example:
        >>> timer = PhaseTimer()
        >>> with timer.phase("forward"):
        ...     pass
        >>> list(timer.take())
        ['forward']
        >>> timer.take()
        {}
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last take."""
        seconds, self._seconds = self._seconds, {}
        return seconds
