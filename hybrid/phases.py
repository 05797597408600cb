"""Wall-clock seconds spent in each phase of a long loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.trunk_trace import TrunkTrace

OTHER = "other"
"""What no phase covers, so that the phases of a step add up to its wall-clock time."""


class PhaseTimer:
    """Adds up seconds by phase name until they are taken; phases do not nest.

    On a device of its own the trunk computes while the host goes on: phases are what the *host* spends. It waits for
    the device where it needs a value, in `ship`.

    Args:
        trace: gets every phase as a slice; None keeps sums alone.

    Example:
        >>> timer = PhaseTimer()
        >>> with timer.phase("forward"):
        ...     pass
        >>> list(timer.take(step=0))
        ['forward', 'other']
    """

    def __init__(self, trace: TrunkTrace | None = None) -> None:
        self.trace = trace
        self._seconds: dict[str, float] = {}
        self._since_ns: int | None = None

    @contextmanager
    def phase(self, name: str, **args: int) -> Iterator[None]:
        """Time a block; `args` are shown with its slice in a trace."""
        start_ns = time.perf_counter_ns()
        if self._since_ns is None:  # what comes before the first phase is no part of a step
            self._since_ns = start_ns
        try:
            yield
        finally:
            end_ns = time.perf_counter_ns()
            self._seconds[name] = self._seconds.get(name, 0.0) + (end_ns - start_ns) * 1e-9
            if self.trace is not None:
                self.trace.add(name, start_ns, end_ns, args)

    def take(self, step: int) -> dict[str, float]:
        """Seconds by phase since the last take, those of `step`; with `other` they add up to the time that went by."""
        now_ns = time.perf_counter_ns()
        since_ns = now_ns if self._since_ns is None else self._since_ns
        seconds, self._seconds, self._since_ns = self._seconds, {}, now_ns
        if self.trace is not None:
            self.trace.finish_step(step, since_ns, now_ns)
        seconds[OTHER] = max(0.0, (now_ns - since_ns) * 1e-9 - sum(seconds.values()))
        return seconds
