"""The cores that this process may use."""

import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from workers.control_groups import ROOT, groups_of

_log = logging.getLogger(__name__)


def available_cores(root: Path = ROOT) -> int:
    """Logical CPUs that may be busy at once: those of the affinity mask, but no more than a container's quota pays for.

    A quota of 2.5 counts as 2: a thread that is paid for half of the time stalls whoever waits for it.

    Args:
        root: where /proc and /sys are found.
    """
    quota = cpu_quota(root)
    allowed = len(os.sched_getaffinity(0))
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that control groups (version 1 or 2) grant this process; None where nothing limits it.

    Args:
        root: where /proc and /sys are found.
    """
    quotas = [quota for folder in groups_of("cpu", root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def pin(cores: Collection[int]) -> None:
    """Keep all threads of this process, and those that they start, to these logical CPUs; none given: change nothing.

    Where the system refuses, as when a CPU was taken away meanwhile, a warning is logged, and only those threads are
    kept there whose turn came before.
    """
    for thread in Path("/proc/self/task").iterdir() if cores else ():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:  # the thread has ended
            continue
        except OSError as error:
            _log.warning("cannot keep to cores %s: %s", as_text(cores), error)
            return


@contextlib.contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """`pin` for a while; afterwards all threads may use what this one could use before."""
    before = os.sched_getaffinity(0)
    pin(cores)
    try:
        yield
    finally:
        if cores:
            pin(before)


def as_text(cores: Collection[int]) -> str:
    """Numbers in the way the kernel writes them.

    Example:
        >>> as_text([4, 0, 1, 2])
        '0-2,4'
    """
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def of_text(text: str) -> list[int]:
    """Numbers written by `as_text`, or by the kernel; ValueError if it is no such text.

    Example:
        >>> of_text("0-2,4"), of_text("")
        ([0, 1, 2, 4], [])
    """
    cores: list[int] = []
    for run in filter(None, text.strip().split(",")):
        first, _, last = run.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores


def _quota_of(group: Path) -> float | None:
    """CPUs' worth of time that one group grants."""
    with contextlib.suppress(OSError, ValueError):
        granted, period = (group / "cpu.max").read_text().split()
        return None if granted == "max" else int(granted) / int(period)
    with contextlib.suppress(OSError, ValueError):
        granted_us = int((group / "cpu.cfs_quota_us").read_text())
        return None if granted_us <= 0 else granted_us / int((group / "cpu.cfs_period_us").read_text())
    return None
