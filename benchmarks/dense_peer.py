"""A worker's step against the whole layer in torch: time of a step, and memory."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.contestant_process import ContestantLost, ProcessContestant
from benchmarks.engine_work import DIM
from benchmarks.id_streams import NEGATIVE_EXPONENT, POSITIVES
from benchmarks.measurement import Measurement
from benchmarks.peer import NUM_TAGS, OURS, lost, same_head
from benchmarks.process_memory import PeakMemory, PeakUnknown
from benchmarks.progress import Progress
from benchmarks.rivals.forms import ALL_LOGITS, CHUNKS, STEPPED_CHUNKS
from benchmarks.suite_options import SuiteOptions
from workers.config import HeadConfig

STEP, MEMORY = "dense_bce_step", "dense_bce_memory"
_RIVAL = "benchmarks.rivals.torch_dense"
_MEMORY_BATCH, _MEMORY_S = 64, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """Settings of `torch_dense`."""

    form: str
    num_tags: int
    batch: int = _MEMORY_BATCH
    threads: int = 1
    optimizer: str = "sgd"
    units: int = 1
    dim: int = DIM


def measure_step(head: HeadConfig, options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """The same examples on both sides: torch on all cores, all tags; a worker on one core, the tags that it draws.

    Both step by SGD, the cheapest there is: with Adagrad torch would go through its state of all tags, too. Of torch's
    threads one has to have its core all the time; the others must wait where torch has nothing for them to do.
    """
    progress.stage(STEP)
    units, cores = head.chunk_size * (POSITIVES + head.negatives), len(os.sched_getaffinity(0))
    num_tags = options.tags(NUM_TAGS)
    layer = _Layer(form=ALL_LOGITS, num_tags=num_tags, batch=head.chunk_size, threads=cores, units=units)
    try:
        with (
            ProcessContestant("benchmarks.engine_contestant", _ours(head, num_tags)) as ours,
            ProcessContestant(_RIVAL, asdict(layer), threads=cores, busy_threads=1) as dense,
        ):
            turns = options.take_turns({OURS: ours, "dense": dense}, progress)
            facts = {OURS: ours.facts, "dense": dense.facts}
    except ContestantLost as error:
        return [lost(STEP, error)]
    seconds = [units * ns / 1e9 for ns in turns.ns_per_unit("dense")]
    what = f"torch dense BCE, {cores} cores: a step of {head.chunk_size} examples"
    return [
        Measurement.ratio(STEP, turns, over="dense", under=OURS, facts=facts),
        Measurement(f"{STEP}_s", what, "s", seconds, turns.complaint),
    ]


def measure_memory(head: HeadConfig, options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Peak of a process that holds the layer and takes steps; a worker's has matrix and optimizer state too.

    Judged is what a user of torch has who keeps Adagrad's state, as our default does: gradients of all chunks wait for
    one step of an element-wise Adagrad, so it holds three matrices (rows, gradients, state) by construction. Leaner
    rivals are shown below it, and every table of verdicts names those against which the gate would be missed
    (`rival_forms`): SGD, the optimizer of the step's rival, which has no state to hold; and row-wise Adagrad by hand,
    the optimizer nearest to ours, which steps each chunk at once and keeps no gradient beyond it.
    """
    num_tags = options.tags(NUM_TAGS)
    theirs = {
        "torch in chunks, Adagrad": _Layer(form=CHUNKS, num_tags=num_tags, optimizer="adagrad"),
        "torch in chunks, SGD": _Layer(form=CHUNKS, num_tags=num_tags),
        "torch in chunks, each stepped at once by hand (row-wise Adagrad)": _Layer(
            form=STEPPED_CHUNKS, num_tags=num_tags
        ),
    }
    peaks = {}
    try:
        progress.stage(f"{MEMORY}, {OURS}")
        peaks[OURS] = peak_bytes("benchmarks.engine_contestant", _ours(head, num_tags))
        for form, layer in theirs.items():
            progress.stage(f"{MEMORY}, {form}")
            peaks[form] = peak_bytes(_RIVAL, asdict(layer))
    except ContestantLost as error:
        return [lost(MEMORY, error)]
    except PeakUnknown as error:
        return [Measurement.missing(MEMORY, str(error))]
    judged, *others = theirs
    ratios = [
        Measurement.value(MEMORY, peaks[judged] / peaks[OURS], "x", samples={"peak_pss_bytes": peaks}),
        *(
            Measurement.value(f"{MEMORY}, {form}", peaks[form] / peaks[OURS], "x", f"{form}: peak memory over ours")
            for form in others
        ),
        Measurement.value(f"{MEMORY}_mib", peaks[OURS] / 2**20, "MiB", "a worker with its matrix: peak memory"),
    ]
    return [replace(ratio, reason=options.reduction) for ratio in ratios]


def peak_bytes(module: str, settings: Mapping[str, Any]) -> int:
    """The peak of memory, over a process and its descendants, while it takes a step or more.

    Raises:
        PeakUnknown: the kernel does not tell it.
        ContestantLost: the process failed.
    """
    with ProcessContestant(module, settings) as contestant:
        memory = PeakMemory(contestant.process.pid)
        contestant.begin(_MEMORY_S)
        contestant.end()
        return memory.read()["Pss"]


def _ours(head: HeadConfig, num_tags: int) -> dict[str, Any]:
    return {"head": same_head(head), "num_tags": num_tags, "exponent": NEGATIVE_EXPONENT}
