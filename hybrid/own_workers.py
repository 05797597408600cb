"""A tag matrix that a user's own process owns, with the workers on it, if any, and what they share."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import torch

from workers.config import MAX_WORKERS, TRANSPORTS, HeadConfig
from workers.default_workers import default_num_workers
from workers.endpoint import make_endpoint, remove_endpoint
from workers.errors import ConfigError
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.ring import make_ring
from workers.router import Router
from workers.settings import check, check_choice, whole_number

WORKERS_START_S = 300.0
"""Until workers are ready: the first start on a machine compiles kernels."""
_JOIN_LIMIT_S = 120.0
"""Workers join in about a second. They load kernels, or compile them, while the caller goes on."""


class OwnWorkers:
    """A matrix, and workers on it, now and then, or never: whatever fails, and after `close`, nothing is left.

    Args:
        make_matrix: called once it is clear that a head may be made here; what it gives is closed with the workers.
        num_workers: that `start` shall start, 0 for none; None takes as many as `hybrid train` does, see
            `workers.default_workers`.
        config: of the head; chunks of its size fit the ring.
        transport: `ring` or `zmq`.
        log_dir: for the workers' logs, or None.

    Raises:
        ConfigError: a setting breaks its rule, or this process is one of several that train together.
        DataError, MemoryError, MatrixMismatch: of `make_matrix`.
    """

    pool: WorkerPool | None = None
    """None while there are no workers."""

    def __init__(
        self,
        make_matrix: Callable[[], TagMatrix],
        num_workers: int | None,
        config: HeadConfig,
        transport: str,
        log_dir: Path | None,
    ) -> None:
        self.num_workers = default_num_workers() if num_workers is None else whole_number("workers", num_workers)
        check(0 <= self.num_workers <= MAX_WORKERS, "workers", num_workers, f"between 0 and {MAX_WORKERS}")
        check_choice("transport", transport, TRANSPORTS)
        if self.num_workers:
            check_alone()
        self._config, self._transport, self._log_dir = config, transport, log_dir
        self._serving = contextlib.ExitStack()
        self.matrix = make_matrix()

    def start(self) -> Router | None:
        """The router of `serve`, if there shall be workers; from here on anybody may read the matrix.

        Raises:
            WorkerLost: as `serve`.
            MatrixMismatch: the matrix was not filled within `_JOIN_LIMIT_S` and what its size may take.
        """
        router = self.serve(self.num_workers) if self.num_workers else None
        self.matrix.wait_filled(_JOIN_LIMIT_S)
        return router

    def serve(self, num_workers: int) -> Router:
        """Start workers where there are none; a router that all have joined, which is closed with them.

        Raises:
            ConfigError: the number is out of bounds, or this process is one of several that train together.
            WorkerLost: they have not joined within `_JOIN_LIMIT_S`, or die again and again.
        """
        check_alone()
        with contextlib.ExitStack() as undo:
            ring = make_ring(self._transport, self._config.chunk_size, self.matrix.dim)
            if ring is not None:
                undo.callback(ring.close)
            endpoint = make_endpoint()
            undo.callback(remove_endpoint, endpoint)
            pool = WorkerPool(self.matrix, endpoint, num_workers, ring=ring, log_dir=self._log_dir)
            undo.callback(pool.close)
            router = Router(endpoint, head=self._config, matrix=self.matrix, membership=pool, ring=ring)
            undo.callback(router.close)
            router.wait_joined(num_workers, _JOIN_LIMIT_S)
            self._serving = undo.pop_all()
        self.pool = pool
        return router

    def rest(self) -> None:
        """End the workers, with the router and all that they share but the matrix, until somebody calls `serve`."""
        self.pool = None
        self._serving.close()

    def close(self) -> None:
        """End the workers and give everything back; safe to call twice."""
        try:
            self.rest()
        finally:
            self.matrix.close()


def close_in_owner(stack: contextlib.ExitStack, owner_pid: int) -> None:
    """Close what a process opened, in that process: a fork of it has copies of what its parent still uses."""
    if os.getpid() == owner_pid:
        stack.close()


def check_alone() -> None:
    """Refuse a head for each process of a distributed training: every one would teach a matrix of its own.

    Raises:
        ConfigError: this process is one of several.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    world_size = torch.distributed.get_world_size()
    if world_size > 1:
        raise ConfigError(
            f"torch.distributed runs {world_size} processes, each of which would train rows of its own; expected one: "
            "a WideHead belongs to one trunk. Start the training without torchrun, on one device."
        )
