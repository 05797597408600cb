"""Where the workers' time went between two looks at their statistics."""

import time

import numpy as np

from workers.matrix import TagMatrix
from workers.phase_clock import PHASES

_BUSY = {name: column for name, column in PHASES.items() if name != "wait"}


class WorkerPhases:
    """Shares of each worker's time by phase, read from shared memory: no message carries them.

    Args:
        matrix: whose `worker_stats_WS` the workers keep.
    """

    def __init__(self, matrix: TagMatrix) -> None:
        self._stats_WS = matrix.worker_stats_WS
        self._before_WP = self._stats_WS[:, list(_BUSY.values())]
        self._since_ns = time.perf_counter_ns()

    def take(self, places: list[int]) -> dict[int, dict[str, float]]:
        """Place -> phase -> share of the time since the last take; the shares of a place add up to 1.

        A worker books an interval when it ends, so the wait that it books now may have begun before the last take, and
        the one that goes on is not booked yet: `wait` is whatever the other phases leave. They are short; where one of
        them was longer than the time that went by, all are scaled to fit into it.

        Args:
            places: of the workers in the pool.
        """
        now_ns, now_WP = time.perf_counter_ns(), self._stats_WS[:, list(_BUSY.values())]
        elapsed_ns = max(now_ns - self._since_ns, 1)
        booked_WP = np.maximum(now_WP - self._before_WP, 0).astype(float)
        self._before_WP, self._since_ns = now_WP, now_ns
        shares = {}
        for place in places:
            booked_P = booked_WP[place]
            scale = 1 / max(elapsed_ns, booked_P.sum())
            busy = {name: float(ns * scale) for name, ns in zip(_BUSY, booked_P, strict=True)}
            shares[place] = {"wait": max(0.0, 1 - sum(busy.values()))} | busy
        return shares


def mean_shares(shares: dict[int, dict[str, float]]) -> dict[str, float]:
    """The mean over workers, by phase; empty without workers."""
    return {name: sum(one[name] for one in shares.values()) / len(shares) for name in PHASES} if shares else {}
