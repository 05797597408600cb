"""How many CPU threads the trunk computes with."""

import os
from collections.abc import MutableMapping

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use: affinity counts, so a container's share of a large machine is seen."""
    return len(os.sched_getaffinity(0))


def plan_threads(cores: int, workers: int, device: str, asked: int) -> int:
    """CPU threads of the trunk.

    Each worker computes on one thread, and only while a chunk is with it. On a machine without an accelerator the trunk
    is the larger consumer by far, yet it must not take every core: convolutions go backward in step, their threads
    spinning at barriers, and one thread that a worker pushes off its core stops all of them (two cores, two workers:
    1,107 examples/s with one thread, 863 with two; on a machine that others use too, 794 and 25). So a quarter of the
    cores, at least one where there are two, is left to workers and to the preparation of batches. With an accelerator
    the trunk's threads only prepare batches, and the workers' cores are left to the workers.

    Args:
        cores: cores that may be used.
        workers: worker processes, one thread each; where there are none, the trunk has the machine to itself.
        device: `auto`, `cpu` or `cuda`; `auto` is planned as `cpu`, since only the trunk knows what it will find.
        asked: what the user wants; 0 leaves the choice to this function.

    Example:
        >>> plan_threads(cores=2, workers=2, device="auto", asked=0)
        1
        >>> plan_threads(cores=16, workers=8, device="cuda", asked=0)
        8
        >>> plan_threads(cores=16, workers=8, device="cpu", asked=3)
        3
    """
    if asked > 0:
        return asked
    if device == "cuda":
        return max(1, cores - workers)
    reserved = max(1, cores // 4) if workers else 0
    return max(1, cores - reserved)


def set_threads(environment: MutableMapping[str, str], threads: int) -> None:
    """Set the thread counts that torch, BLAS and numba read once, when they are loaded."""
    for name in _THREAD_VARIABLES:
        environment[name] = str(threads)
