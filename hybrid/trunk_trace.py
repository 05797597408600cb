"""What the trunk adds to a trace."""

import time
from collections.abc import Mapping

from workers.trace import Event, TracePart, TraceWindow, counter_event, flow_event, slice_event

_IN_FLIGHT = "chunks in flight"


class TrunkTrace:
    """Keeps a step's phases, arrows and counters until it ends, then writes them if it is traced.

    Args:
        window: which steps, and where to.
    """

    def __init__(self, window: TraceWindow) -> None:
        self._window = window
        self._part = TracePart(window, "trunk", 0)
        self._is_over = False
        self._slices: list[tuple[str, int, int, Mapping[str, int]]] = []
        self._arrows: list[tuple[str, int, int]] = []
        self._counts: list[tuple[int, int]] = []
        self._in_flight = 0

    def add(self, phase: str, start_ns: int, end_ns: int, args: Mapping[str, int]) -> None:
        """One phase has ended."""
        if not self._is_over:
            self._slices.append((phase, start_ns, end_ns, args))

    def shipped(self, chunks: range) -> None:
        """Chunks with these numbers have left; called inside the phase that shipped them."""
        self._move("s", chunks, len(chunks))

    def collected(self, chunks: range) -> None:
        """Their replies are here; called inside the phase that waited for them."""
        self._move("f", chunks, -len(chunks))

    def finish_step(self, step: int, start_ns: int, end_ns: int) -> None:
        """Everything since the last step belongs to this one."""
        if self._window.covers(step):
            self._part.write(self._events(step, start_ns, end_ns))
        self._is_over = self._window.is_over(step)
        self._slices, self._arrows, self._counts = [], [], []

    def _events(self, step: int, start_ns: int, end_ns: int) -> list[Event]:
        events = [slice_event("step", start_ns, end_ns, step=step)]
        events += [slice_event(name, start, end, step=step, **args) for name, start, end, args in self._slices]
        events += [flow_event(phase, step, chunk, at_ns) for phase, chunk, at_ns in self._arrows]
        return events + [counter_event(_IN_FLIGHT, at_ns, count) for at_ns, count in self._counts]

    def _move(self, phase: str, chunks: range, change: int) -> None:
        now_ns = time.perf_counter_ns()
        self._in_flight += change
        if not self._is_over:
            self._arrows += [(phase, chunk, now_ns) for chunk in chunks]
            self._counts.append((now_ns, self._in_flight))
