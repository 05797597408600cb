"""What the machine did besides our own processes while something was measured."""

import ctypes
import os
import time
from pathlib import Path

from benchmarks.process_memory import process_tree

_PROC = Path("/proc")
_IDLE_COLUMNS = (3, 4)  # idle, iowait
_GUEST_COLUMN = 8  # guests are counted in user already
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class LoadMeter:
    """Cores that others used since `start`, on the cores that this process may use.

    Others are processes that are no descendants of this one, and the host, which shows as stolen time. The kernel
    counts in ticks of about 10 ms, so intervals shorter than a few of them say nothing.
    """

    def __init__(self) -> None:
        self._cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        self.start()

    def start(self) -> None:
        """Begin an interval."""
        self._start_s = time.monotonic()
        self._start_foreign_s = self._foreign_s()

    def foreign_cores(self) -> float:
        """Of the interval so far; at least 0."""
        elapsed_s = time.monotonic() - self._start_s
        return max(0.0, (self._foreign_s() - self._start_foreign_s) / elapsed_s)

    def _foreign_s(self) -> float:
        return machine_busy_s((_PROC / "stat").read_text(), self._cores) - sum(map(_own_s, process_tree(os.getpid())))


def machine_busy_s(stat: str, cores: set[str]) -> float:
    """Seconds that these cores (`cpu0`, ...) were not idle, from the text of /proc/stat; stolen time counts as busy."""
    ticks = 0
    for line in stat.splitlines():
        name, *columns = line.split()
        if name in cores:
            ticks += sum(int(v) for i, v in enumerate(columns[:_GUEST_COLUMN]) if i not in _IDLE_COLUMNS)
    return ticks / _TICKS_PER_S


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process so far, to the nanosecond; 0 of one that ended."""
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        return 0.0
    try:
        return time.clock_gettime(clock.value)
    except OSError:  # it ended meanwhile
        return 0.0


def _own_s(pid: int) -> float:
    """CPU time of all threads of a process so far, and of the children that it has reaped."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended meanwhile: its time is with its parent, who reaped it
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_PER_S  # utime, stime, cutime, cstime
