"""The environment variables under which benchmarks run."""

import os
import sys
from collections.abc import Mapping

from benchmarks.rivals.tuned_memory import MEMORY_TUNING
from launch.trunk_threads import plan_threads, set_threads
from workers.cores import available_cores

FORCED_BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""They replace what OpenBLAS finds out about the machine, so that results would be those of another one."""


def restart_if_blas_is_forced() -> None:
    """Start this program again without the variables: OpenBLAS has read them by the time that Python code runs."""
    if any(name in os.environ for name in FORCED_BLAS):
        os.execve(sys.executable, sys.orig_argv, clean(os.environ))


def restart_with_one_thread() -> None:
    """Start this program again in the environment of contestants, if it is not in it: some of them are functions of it.

    BLAS and OpenMP have read how many threads to use by the time that Python code runs.
    """
    environment = contestant_environment(threads=1)
    if os.environ != environment:
        os.execve(sys.executable, sys.orig_argv, environment)


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without `FORCED_BLAS`."""
    return {name: value for name, value in environment.items() if name not in FORCED_BLAS}


def trunk_environment(workers: int, device: str) -> dict[str, str]:
    """For a process that trains: as many CPU threads as the launcher gives a trunk beside so many workers.

    Every contender gets the tuning of memory that the wide engine's rivals have.
    """
    environment = clean(os.environ) | MEMORY_TUNING
    set_threads(environment, plan_threads(available_cores(), workers, device, asked=0))
    return environment


def contestant_environment(threads: int) -> dict[str, str]:
    """For a process that is measured: so many threads of everything."""
    environment = clean(os.environ)
    set_threads(environment, threads)
    return environment
