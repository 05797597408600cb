"""Where a worker's time goes, by phase."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numba.core import event

from workers.chunk import Reply
from workers.worker_stats import COMPILED, DRAW_NS, KERNEL_NS, RECEIVE_NS, REPLY_NS, WAIT_NS, WARM_UP_NS
from workers.worker_trace import WorkerTrace

PHASES = {"wait": WAIT_NS, "receive": RECEIVE_NS, "draw": DRAW_NS, "kernel": KERNEL_NS, "reply": REPLY_NS}
"""Phase -> column of `worker_stats_WS`, in the order of a chunk: nothing to do; decode; check and draw
negatives; compute and update; encode and send."""


class PhaseClock:
    """Charges a worker's time to phases: each interval begins where the last one ended, so they leave nothing out.

    Costs three readings of the clock and five additions a chunk, a few microseconds; what the engine measured is not
    measured again. A chunk that is traced costs its worker some 0.1 ms more, after its reply has left.

    Args:
        stats_S: this worker's row of `worker_stats_WS`.
        trace: keeps the intervals of single chunks too; None keeps sums alone.

    Concurrency: the row is written by its worker alone. Others read it at any time: each value is whole, but values of
    one row may be a chunk apart.
    """

    def __init__(self, stats_S: np.ndarray, trace: WorkerTrace | None = None) -> None:
        self._stats = stats_S.data  # adding to a cell takes a fifth of the time that it takes through NumPy
        self._trace = trace
        self._now_ns = time.perf_counter_ns()

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Measure the start: how long, and how many kernels were compiled rather than loaded from the disk cache."""
        self._now_ns = time.perf_counter_ns()
        with event.install_recorder("numba:compile") as compilations:
            yield
        now_ns = time.perf_counter_ns()
        self._stats[WARM_UP_NS] = now_ns - self._now_ns
        self._stats[COMPILED] = sum(record.is_end for _, record in compilations.buffer)
        self._now_ns = now_ns

    def waited(self) -> None:
        """A message has come, or none within the limit."""
        self._charge("wait", time.perf_counter_ns())

    def computed(self, reply: Reply) -> None:
        """The engine has answered: of the time since the message came, what it did not measure went into decoding."""
        now_ns = time.perf_counter_ns()
        drawn_ns = now_ns - reply.kernel_ns
        self._charge("receive", max(self._now_ns, drawn_ns - reply.draw_ns))
        self._charge("draw", max(self._now_ns, drawn_ns))
        self._charge("kernel", now_ns)

    def answered(self, step: int, chunk: int) -> None:
        """The answer to this chunk, REPLY or REFUSED, has left."""
        self._charge("reply", time.perf_counter_ns())
        if self._trace is not None:
            self._trace.finish_chunk(step, chunk)

    def _charge(self, phase: str, end_ns: int) -> None:
        self._stats[PHASES[phase]] += end_ns - self._now_ns
        if self._trace is not None:
            self._trace.add(phase, self._now_ns, end_ns)
        self._now_ns = end_ns


def warm_up_report(stats_WS: np.ndarray) -> str:
    """How the kernels of some workers came to be ready, in one sentence; time spent waiting for another's turn counts.

    Args:
        stats_WS: the workers' rows of `TagMatrix.worker_stats_WS`, one or more.

    Example:
        >>> stats_WS = np.zeros((2, 16), np.int64)
        >>> stats_WS[:, WARM_UP_NS] = 840_000_000, 1_000
        >>> warm_up_report(stats_WS)
        'kernels ready after 0.8 s (cached)'
        >>> stats_WS[:, COMPILED] = 0, 3
        >>> warm_up_report(stats_WS)
        'kernels ready after 0.8 s (3 compiled)'
    """
    seconds, num_compiled = stats_WS[:, WARM_UP_NS].max() * 1e-9, stats_WS[:, COMPILED].sum()
    return f"kernels ready after {seconds:.1f} s ({f'{num_compiled} compiled' if num_compiled else 'cached'})"
