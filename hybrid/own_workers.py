"""A pool of workers that a user's own process owns, with the memory and the endpoint that it shares with them."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import torch

from workers.config import HeadConfig
from workers.default_workers import default_num_workers
from workers.endpoint import make_endpoint, remove_endpoint
from workers.errors import ConfigError
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.ring import make_ring
from workers.router import Router
from workers.settings import whole_number

WORKERS_START_S = 300.0
"""Until workers are ready: the first start on a machine compiles kernels."""
_JOIN_LIMIT_S = 120.0
"""Workers join in about a second. They load kernels, or compile them, while the caller goes on."""


class OwnWorkers:
    """Starts workers on a matrix, which is theirs: whatever fails, and after `close`, nothing is left.

    Args:
        make_matrix: called once it is clear that a head may be made here; what it gives is closed with the workers.
        num_workers: None takes as many as `hybrid train` does, see `workers.default_workers`.
        config: of the head; chunks of its size fit the ring.
        transport: `ring` or `zmq`.
        log_dir: for the workers' logs, or None.

    Raises:
        ConfigError: a setting breaks its rule, or this process is one of several that train together.
        DataError, MemoryError, MatrixMismatch: of `make_matrix`.
    """

    def __init__(
        self,
        make_matrix: Callable[[], TagMatrix],
        num_workers: int | None,
        config: HeadConfig,
        transport: str,
        log_dir: Path | None,
    ) -> None:
        check_alone()
        self.num_workers = default_num_workers() if num_workers is None else whole_number("workers", num_workers)
        matrix = self.matrix = make_matrix()
        with contextlib.ExitStack() as undo:
            undo.callback(matrix.close)
            self.ring = make_ring(transport, config.chunk_size, matrix.dim)
            if self.ring is not None:
                undo.callback(self.ring.close)
            self.endpoint = make_endpoint()
            undo.callback(remove_endpoint, self.endpoint)
            self.pool = WorkerPool(matrix, self.endpoint, self.num_workers, ring=self.ring, log_dir=log_dir)
            undo.callback(self.pool.close)
            self._undo = undo.pop_all()

    def wait_joined(self, router: Router) -> None:
        """Wait until all have joined, and until the matrix holds what it shall begin with: anybody may read it then.

        Raises:
            WorkerLost: they have not within `_JOIN_LIMIT_S`, or die again and again.
            MatrixMismatch: the matrix was not filled within as long and what its size may take.
        """
        router.wait_joined(self.num_workers, _JOIN_LIMIT_S)
        self.matrix.wait_filled(_JOIN_LIMIT_S)

    def close(self) -> None:
        """End the workers and give everything back; safe to call twice."""
        self._undo.close()


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
