"""A worker process as the pool sees it."""

import subprocess
from dataclasses import dataclass

from workers.matrix import TagMatrix
from workers.worker_log import WorkerLog
from workers.worker_stats import WARM_UP_NS


@dataclass(slots=True)
class PooledWorker:
    """One process in one place of a `workers.pool.WorkerPool`."""

    name: str
    index: int
    process: subprocess.Popen[bytes]
    log: WorkerLog
    earlier_warm_up_ns: int
    """WARM_UP_NS of its place when it was started: another value later means that this worker has its kernels."""
    leaves_before_s: float | None = None
    """Of a worker that was scaled away: when it is killed if it is still there, by `time.monotonic()`."""
    num_served: int = 0
    """When that was set."""
    is_given_up: bool = False
    """Somebody had it killed: it is named when it exits, even if it just left in order."""

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def is_leaving(self) -> bool:
        """Scaled away: not replaced when it exits."""
        return self.leaves_before_s is not None

    def is_starting(self, matrix: TagMatrix) -> bool:
        """Whether its kernels are not there yet, so that it was sent no chunk."""
        return int(matrix.worker_stats_WS[self.index, WARM_UP_NS]) == self.earlier_warm_up_ns

    def is_ready(self, matrix: TagMatrix) -> bool:
        """Whether it lives, stays, and has its kernels."""
        return self.process.poll() is None and not self.is_leaving and not self.is_starting(matrix)
