"""Which cores trunk and workers keep to."""

import os
from dataclasses import dataclass, replace

from launch.config import RunConfig
from launch.topology import Cpu, Topology
from launch.trunk_threads import exported_wish, plan_threads
from workers.cores import as_text, available_cores

_MANY_TO_A_CORE = 4


@dataclass(frozen=True, slots=True)
class Placement:
    """Which logical CPUs each process keeps to; no CPUs at all: wherever the system likes."""

    threads: int
    """CPU threads of the trunk."""
    trunk: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    """The worker in place i, and whoever replaces it, keeps to CPU `workers[i % len(workers)]`."""
    memory: tuple[int, ...] = ()
    """Where to fill the tag matrix: the kernel puts a page on the node of whoever touches it first."""
    remarks: tuple[str, ...] = ()
    """What to tell the user."""
    are_threads_fixed: bool = False
    """Whether the user wants that many, by a setting or an exported variable: they are not tuned then."""


def place(topology: Topology, threads: int, workers: int) -> Placement:
    """Give the trunk and each worker cores of their own, as far as there are enough.

    Physical cores come first, their second hyperthreads last. The trunk takes the first ones; workers take what is
    left in turn, beginning on the NUMA node that has most of it. On a single core all share it.

    Args:
        topology: what may be used.
        threads: CPU threads of the trunk.
        workers: worker processes.

    Example:
        >>> cpus = tuple(Cpu(number, physical=number % 4, node=0) for number in range(8))
        >>> place(Topology(cpus, num_usable=8), threads=2, workers=3)
        Placement(threads=2, trunk=(0, 1), workers=(2, 3, 4, 5, 6, 7), memory=(),
                  remarks=('pinned: trunk to cores 0-1, workers to 2-4',), are_threads_fixed=False)
    """
    turns = _turns(topology.cpus)
    usable = sorted(topology.cpus, key=lambda cpu: (turns[cpu], cpu.node, cpu.number))[: topology.num_usable]
    trunk = usable[: min(threads, max(1, len(usable) - 1))]
    rest = usable[len(trunk) :] or usable
    nodes = [cpu.node for cpu in rest]
    home = max(sorted(set(nodes)), key=nodes.count)
    rest.sort(key=lambda cpu: (turns[cpu], cpu.node != home, cpu.node, cpu.number))
    return Placement(
        threads,
        tuple(cpu.number for cpu in trunk),
        tuple(cpu.number for cpu in rest),
        tuple(cpu.number for cpu in topology.cpus if cpu.node == home) if len(topology.nodes) > 1 else (),
        _remarks(topology, trunk, rest[:workers], threads, workers),
    )


def place_run(config: RunConfig, topology: Topology) -> Placement:
    """Threads and cores of a run as its settings want them; threads that they leave open, as the environment does."""
    variable, wish = exported_wish(os.environ)
    asked = config.trunk.threads or wish
    threads = plan_threads(topology.num_usable, config.workers, config.trunk.device, asked)
    placement = place(topology, threads, config.workers) if config.pin else _unpinned(topology, threads)
    remarks = placement.remarks
    if asked != config.trunk.threads:
        remarks += (f"trunk threads: {threads}, as {variable} says; --trunk-threads would come first",)
    if idle := _idle_remark(config.workers, config.chunks_per_step):
        remarks += (idle,)
    return replace(placement, are_threads_fixed=asked > 0, remarks=remarks)


def scale_remark(workers: int, own: tuple[int, ...], chunks: int) -> str:
    """What to say of so many workers; empty: nothing.

    Args:
        workers: wanted.
        own: cores that they are bound to, if any.
        chunks: of a step; each is one worker's.
    """
    return "; ".join(filter(None, [_crowd_remark(workers, own), _idle_remark(workers, chunks)]))


def _idle_remark(workers: int, chunks: int) -> str:
    if workers <= chunks:
        return ""
    return (
        f"{workers - chunks} of {workers} workers have nothing to do: a step has {chunks} chunks, each of which is one "
        "worker's. Larger batches, or a smaller head.chunk_size, give work to more."
    )


def _crowd_remark(workers: int, own: tuple[int, ...]) -> str:
    num_cores = len(own) or available_cores()
    if workers <= num_cores:
        return ""
    crowd = f"they share cores {as_text(own)}" if own else f"more than the {num_cores} cores here"
    times = workers / num_cores
    return f"{crowd}, {times:.0f} to a core: steps will take many times as long" if times >= _MANY_TO_A_CORE else crowd


def _unpinned(topology: Topology, threads: int) -> Placement:
    if len(topology.nodes) < 2:
        return Placement(threads)
    counts = ", ".join(f"{node}: {count} cores" for node, count in topology.nodes.items())
    remark = (
        f"NUMA nodes: {counts}. A page of the tag matrix lies where the launcher ran when it filled it; "
        "--pin fills it on the workers' node"
    )
    return Placement(threads, remarks=(remark,))


def _remarks(topology: Topology, trunk: list[Cpu], own: list[Cpu], threads: int, workers: int) -> tuple[str, ...]:
    remarks = [f"pinned: trunk to cores {_text(trunk)}, workers to {_text(own)}"]
    if threads + workers > topology.num_usable:
        remarks.append(
            f"trunk threads ({threads}) and workers ({workers}) share {topology.num_usable} cores: "
            "fewer --workers or --trunk-threads would give each its own"
        )
    if len(topology.nodes) > 1:
        nodes = as_text({cpu.node for cpu in own})
        remarks.append(f"NUMA: the tag matrix is filled, hence lies, on node {own[0].node}; workers are on {nodes}")
    return tuple(remarks)


def _turns(cpus: tuple[Cpu, ...]) -> dict[Cpu, int]:
    """0 for one logical CPU of each physical core, 1 for the second of each, and so on."""
    turns: dict[Cpu, int] = {}
    on_core: dict[int, int] = {}
    for cpu in sorted(cpus):
        turns[cpu] = on_core.get(cpu.physical, 0)
        on_core[cpu.physical] = turns[cpu] + 1
    return turns


def _text(cpus: list[Cpu]) -> str:
    return as_text([cpu.number for cpu in cpus])
