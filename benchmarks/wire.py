"""A trunk without a network: keeps chunks in flight to one worker process, as a contestant."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

from benchmarks.engine_work import PRIVATE, make_chunks
from benchmarks.id_streams import POSITIVES, make_stream
from benchmarks.turns import Sample
from hybrid.worker_phases import WorkerPhases
from workers.config import HeadConfig
from workers.endpoint import make_endpoint, remove_endpoint
from workers.flights import Ticket
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.ring import Ring
from workers.router import Router

IN_FLIGHT = 2
_LIMIT_S = 120.0
_PLACE = 0
"""Of the only worker, in its pool."""


class Wire:
    """A router, a worker process on the matrix, and chunks going to and fro; a context manager.

    A round begins and ends with nothing in flight, so that it takes nothing from the next contestant.

    Args:
        matrix: from `engine_work.make_matrix`.
        transport: `ring` or `zmq`, see `workers.ring`.
        config: of the head.
    """

    is_always_busy = False  # the worker waits for chunks and the trunk for replies: that is what is measured

    def __init__(self, matrix: TagMatrix, transport: str, config: HeadConfig = PRIVATE) -> None:
        self._matrix, self._transport, self._config = matrix, transport, config
        self._chunks = make_chunks(make_stream(matrix.num_tags), config, matrix.dim, seed=0)
        self._pairs = len(self._chunks[0].features_BD) * (POSITIVES + config.negatives)
        self._seconds, self._next = 0.0, 0
        self._worker_phases = WorkerPhases(matrix)
        self.chunk_us: list[dict[str, float]] = []
        """Of each round: phase of the worker -> microseconds of a chunk, see `workers.phase_clock`."""
        self._stack = ExitStack()

    def __enter__(self) -> Wire:
        with ExitStack() as stack:
            endpoint = make_endpoint()
            stack.callback(remove_endpoint, endpoint)
            ring = None
            if self._transport == "ring":
                ring = Ring.create(len(self._chunks[0].features_BD), self._matrix.dim)
                stack.callback(ring.close)
            pool = WorkerPool(self._matrix, endpoint, 1, ring=ring)
            stack.callback(pool.close)
            self._router = Router(endpoint, head=self._config, matrix=self._matrix, membership=pool, ring=ring)
            stack.callback(self._router.close)
            self._router.wait_ready(1, _LIMIT_S)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def begin(self, seconds: float) -> None:
        """Note for how long."""
        self._seconds = seconds

    def end(self) -> Sample:
        """Send and collect for so long; units are pairs of example and tag."""
        self._worker_phases.take([])
        num_done, cpu_s, start_s = 0, time.process_time(), time.perf_counter()
        tickets = [self._send() for _ in range(IN_FLIGHT)]
        while tickets:
            self._router.collect(tickets.pop(0), _LIMIT_S)
            num_done += 1
            if time.perf_counter() - start_s < self._seconds:
                tickets.append(self._send())
        elapsed_s = time.perf_counter() - start_s
        shares = self._worker_phases.take([_PLACE])[_PLACE]
        self.chunk_us.append({phase: 1e6 * share * elapsed_s / num_done for phase, share in shares.items()})
        return Sample(elapsed_s, float(num_done * self._pairs), (time.process_time() - cpu_s) / elapsed_s)

    def _send(self) -> Ticket:
        self._next = (self._next + 1) % len(self._chunks)
        return self._router.submit([self._chunks[self._next]])
