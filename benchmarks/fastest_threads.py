"""The number of CPU threads that trains a rival's trunk fastest on this machine."""

import statistics
import time
from collections.abc import Callable

import torch

from launch.placement import available_cores, plan_threads

_ROUNDS = 5


def candidates() -> list[int]:
    """All cores, and what the launcher gives a trunk that has workers beside it.

    A thread prepares batches for everybody; on few cores it can take one from a trunk whose threads wait for each
    other at barriers, so that fewer threads are faster.
    """
    cores = available_cores()
    return sorted({cores, plan_threads(cores, workers=1, device="cpu", asked=0)})


def use_fastest_threads(step: Callable[[], object], tried: list[int]) -> int:
    """Set torch to that number of threads, of those tried in turns, whose median step is shortest; returns it."""
    step_s: dict[int, list[float]] = {threads: [] for threads in tried}
    for _ in range(_ROUNDS if len(tried) > 1 else 0):
        for threads in tried:
            torch.set_num_threads(threads)
            step()  # threads start, buffers are allocated
            start_s = time.perf_counter()
            step()
            step_s[threads].append(time.perf_counter() - start_s)
    fastest = min(tried, key=lambda threads: statistics.median(step_s[threads] or [0.0]))
    torch.set_num_threads(fastest)
    return fastest
