"""A pool of workers that a user's own process owns, with the memory and the endpoint that it shares with them."""

import contextlib
from pathlib import Path

from workers.config import HeadConfig
from workers.cores import available_cores
from workers.endpoint import make_endpoint, remove_endpoint
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.ring import make_ring
from workers.router import Router

WORKERS_START_S = 300.0
"""Until workers are ready: the first start on a machine compiles kernels."""
_MOST_BY_DEFAULT = 8


class OwnWorkers:
    """Starts workers on a matrix, which is theirs from here on: whatever fails, and after `close`, nothing is left.

    Args:
        matrix: closed with the workers.
        num_workers: None takes one per core that this process may use, 8 at most.
        config: of the head; chunks of its size fit the ring.
        transport: `ring` or `zmq`.
        log_dir: for the workers' logs, or None.

    Raises:
        ConfigError: a setting breaks its rule.
    """

    def __init__(
        self, matrix: TagMatrix, num_workers: int | None, config: HeadConfig, transport: str, log_dir: Path | None
    ) -> None:
        self.matrix = matrix
        default = min(available_cores(), _MOST_BY_DEFAULT)
        self.num_workers = default if num_workers is None else num_workers
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

    def wait_joined(self, router: Router, limit_s: float) -> None:
        """Wait until all have joined, and until the matrix holds what it shall begin with: anybody may read it then.

        Raises:
            WorkerLost: they have not within the limit, or die again and again.
            MatrixMismatch: the matrix was not filled within the limit.
        """
        router.wait_joined(self.num_workers, limit_s)
        self.matrix.wait_filled(limit_s)

    def close(self) -> None:
        """End the workers and give everything back; safe to call twice."""
        self._undo.close()
