"""How many cores this process would keep busy if it had them."""

import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
_NS_PER_S = 1e9
_WAITED = 1  # fields of schedstat: ns on a core, ns runnable without one, slices


class CoreDemand:
    """Seconds on cores, and in line for one, of all threads since `begin`.

    CPU time alone cannot tell a process that leaves cores idle from one that others keep off them. Where the kernel
    does not count how long threads are in line (it is built without schedstat), that part is 0.

    Args:
        tasks: the folder with one folder per thread.
    """

    def __init__(self, tasks: Path = _TASKS) -> None:
        self._tasks = tasks
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self._waited_ns = self._read()
        self._cpu_s = time.process_time()

    def seconds(self) -> float:
        """Since `begin`; what a thread that has ended meanwhile was in line for is lost."""
        waited_ns = sum(max(0, ns - self._waited_ns.get(thread, 0)) for thread, ns in self._read().items())
        return time.process_time() - self._cpu_s + waited_ns / _NS_PER_S

    def _read(self) -> dict[str, int]:
        """Nanoseconds in line so far, by thread."""
        found = {}
        for task in self._tasks.glob("*"):
            try:
                found[task.name] = int((task / "schedstat").read_text().split()[_WAITED])
            except (OSError, ValueError, IndexError):  # it ended, or the kernel does not count
                continue
        return found
