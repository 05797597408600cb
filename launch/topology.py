"""The logical CPUs that this process may use: which of them share a physical core, on which NUMA node they lie."""

import os
from dataclasses import dataclass
from pathlib import Path

from workers.control_groups import ROOT
from workers.cores import available_cores, of_text


@dataclass(frozen=True, slots=True, order=True)
class Cpu:
    """One logical CPU."""

    number: int
    physical: int
    """The lowest number among the hyperthreads of its physical core."""
    node: int
    """NUMA node; 0 where the kernel tells none."""


@dataclass(frozen=True, slots=True)
class Topology:
    """What a run may use."""

    cpus: tuple[Cpu, ...]
    """By number; at least one."""
    num_usable: int
    """How many of them may be busy at once; a container's quota may be smaller than their number."""

    @property
    def nodes(self) -> dict[int, int]:
        """NUMA node -> logical CPUs on it that this process may use."""
        counts: dict[int, int] = {}
        for cpu in sorted(self.cpus, key=lambda cpu: cpu.node):
            counts[cpu.node] = counts.get(cpu.node, 0) + 1
        return counts


def read_topology(root: Path = ROOT) -> Topology:
    """Read it from /sys and /proc; what is not told there counts as one core each, all on node 0.

    Args:
        root: where /proc and /sys are found.
    """
    node_of = _nodes(root)
    cpus = []
    for number in sorted(os.sched_getaffinity(0)):
        siblings = _numbers(root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        cpus.append(Cpu(number, min(siblings, default=number), node_of.get(number, 0)))
    return Topology(tuple(cpus), available_cores(root))


def _nodes(root: Path) -> dict[int, int]:
    """Logical CPU -> NUMA node."""
    folders = (root / "sys/devices/system/node").glob("node[0-9]*")
    return {cpu: int(folder.name[4:]) for folder in folders for cpu in _numbers(folder / "cpulist")}


def _numbers(file: Path) -> list[int]:
    try:
        return of_text(file.read_text())
    except (OSError, ValueError):
        return []
