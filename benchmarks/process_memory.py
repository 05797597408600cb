"""Memory of a process and all its descendants, each shared page counted once."""

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType

FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
_PROC = Path("/proc")
_PERIOD_S = 0.02


def pss_bytes(pid: int | None = None) -> dict[str, int]:
    """Sum of the proportional set sizes of a process (None: this one) and its descendants, by kind of memory.

    A page that n processes share counts 1/n in each of them, so shared memory is counted once in the sum.
    """
    total = dict.fromkeys(FIELDS, 0)
    for member in process_tree(os.getpid() if pid is None else pid):
        for name, value in _rollup(member).items():
            total[name] += value
    return total


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants that live now."""
    children = defaultdict(list)
    for stat in _PROC.glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
        children[parent].append(int(stat.parent.name))
    found, unseen = [], [pid]
    while unseen:
        found.append(unseen.pop())
        unseen.extend(children[found[-1]])
    return found


class PeakMemory:
    """Samples the sum of Pss in a thread while a block runs; `peak` is the sample with the largest sum.

    Sampling slows what it watches, so nothing is timed meanwhile.

    Args:
        pid: whose, with its descendants; None: this process.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self.peak = pss_bytes(pid)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._is_over.wait(_PERIOD_S):
            self.peak = larger(self.peak, pss_bytes(self._pid))

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self.peak = larger(self.peak, pss_bytes(self._pid))


def larger(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The sample with the larger sum."""
    return max(one, other, key=lambda sample: sample["Pss"])


def _rollup(pid: int) -> dict[str, int]:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return {}
    fields = (line.split() for line in lines[1:])
    return {name[:-1]: int(kib) * 1024 for name, kib, *_ in fields if name[:-1] in FIELDS}
