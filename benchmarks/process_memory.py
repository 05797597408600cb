"""Memory of a process and all its descendants, each shared page counted once."""

import os
from collections import defaultdict
from pathlib import Path

from workers.errors import HybridError

FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
_PROC = Path("/proc")
_MARKS = ("VmHWM", "VmRSS")
_RESET_HIGH_WATER_MARK = "5"


class PeakUnknown(HybridError):
    """The kernel does not tell the most memory that a process has taken."""


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
    """The most memory that a process and its descendants have taken since this was made, or since `reset`.

    The kernel keeps each process's high-water mark, so that nothing runs meanwhile and nothing short-lived is missed.
    Of one process `read` is exact; of several it is the sum of each one's own peak, an upper bound, since these need
    not coincide. A process that ended before `read` is not counted.

    Args:
        pid: whose, with its descendants; None: this process.

    Raises:
        PeakUnknown: from all methods, if the kernel keeps no such marks, or keeps them to itself.

    **Source**: VmHWM and clear_refs in the kernel's Documentation/filesystems/proc.rst.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = os.getpid() if pid is None else pid
        self.reset()

    def reset(self) -> None:
        """Begin again with what is taken now."""
        for member in process_tree(self._pid):
            try:
                (_PROC / str(member) / "clear_refs").write_text(_RESET_HIGH_WATER_MARK)
            except OSError as e:
                if member == self._pid or not isinstance(e, FileNotFoundError | ProcessLookupError):
                    raise self._unknown(f"clear_refs: {e.strerror or e}") from e
                # else it ended meanwhile

    def read(self) -> dict[str, int]:
        """The peak by kind, as `pss_bytes`; what was given back since is counted as anonymous memory."""
        total = pss_bytes(self._pid)
        if not total["Pss"]:
            raise self._unknown("smaps_rollup has no Pss")
        if _given_back_bytes(self._pid) is None:
            raise self._unknown(f"status lacks {' or '.join(_MARKS)}")
        given_back = sum(_given_back_bytes(member) or 0 for member in process_tree(self._pid))
        return total | {name: total[name] + given_back for name in ("Pss", "Pss_Anon")}

    def _unknown(self, why: str) -> PeakUnknown:
        return PeakUnknown(f"the kernel does not tell the peak of memory of process {self._pid} ({why}), or it ended")


def _given_back_bytes(pid: int) -> int | None:
    """How far a process is below its high-water mark; None if nobody says, as of one that ended."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return None
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if name in _MARKS}
    return 1024 * (kib["VmHWM"] - kib["VmRSS"]) if len(kib) == len(_MARKS) else None


def _rollup(pid: int) -> dict[str, int]:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return {}
    fields = (line.split() for line in lines[1:])
    return {name[:-1]: int(kib) * 1024 for name, kib, *_ in fields if name[:-1] in FIELDS}
