"""What a worker adds to a trace."""

from workers.trace import TracePart, TraceWindow, flow_event, slice_event


class WorkerTrace:
    """Keeps the intervals of a chunk until it is answered, then writes them if its step is traced.

    Args:
        window: which steps, and where to.
        name: of the worker.
        index: its place in the pool.
    """

    def __init__(self, window: TraceWindow, name: str, index: int) -> None:
        self._window = window
        self._part = TracePart(window, name, 1 + index)
        self._intervals: list[tuple[str, int, int]] = []

    def add(self, phase: str, start_ns: int, end_ns: int) -> None:
        """One interval; that of a phase which went on is made longer: a long wait stays one."""
        if self._intervals and self._intervals[-1][0] == phase:
            start_ns = self._intervals.pop()[1]
        self._intervals.append((phase, start_ns, end_ns))

    def finish_chunk(self, step: int, chunk: int) -> None:
        """The intervals so far belong to this chunk."""
        intervals, self._intervals = self._intervals, []
        if self._window.covers(step):
            events = [slice_event(name, start, end, step=step, chunk=chunk) for name, start, end in intervals]
            events += [flow_event("t", step, chunk, start) for name, start, _ in intervals if name == "kernel"]
            self._part.write(events)
