"""Suite: what the wire between trunk and worker adds to the engine, on one host."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.contestant_process import LocalContestant
from benchmarks.engine_work import PRIVATE, make_matrix
from benchmarks.gates import PAIR
from benchmarks.id_streams import make_stream
from benchmarks.kernel_work import KernelWork
from benchmarks.measurement import Measurement
from benchmarks.progress import Progress
from benchmarks.scaling import NUM_TAGS, worker_process
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Contestant, Turns
from benchmarks.wire import IN_FLIGHT, Wire
from workers.config import DEFAULT_TRANSPORT, TRANSPORTS
from workers.matrix import TagMatrix

TITLE = (
    "Engine and wire against the engine alone (checks, draws, plan, kernel): 256 examples of D = 256, 5 positives, "
    "20 private negatives, one worker"
)
GATE, _ENGINE, _KERNEL = "wire_over_kernel", "engine", "kernel"

_PHASES = {
    "wait": "the worker waits for it, and takes its header",
    "receive": "checks the header, and finds the arrays",
    "draw": "checks the arrays, and draws negatives",
    "kernel": "plans, computes and updates",
    "reply": "writes the answer's header, and sends it, which wakes a thread",
}
"""Of `workers.phase_clock`, in words."""

_FEW_STARTS, _STARTS = 3, 5
"""How often processes are started anew, quick or not: what their memory happens to lie on stays with each."""


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Transports and the bare engine take turns on one matrix, after several starts; the gate judges the default."""
    starts = _FEW_STARTS if options.is_quick else _STARTS
    with closing(make_matrix(options.tags(NUM_TAGS), PRIVATE)) as matrix:
        chunk_us: list[dict[str, float]] = []
        turns = Turns.joined([_take_turns(matrix, options, progress, start + 1, chunk_us) for start in range(starts)])
        facts = {"memory": matrix.huge_pages, "chunks in flight": IN_FLIGHT, "starts": starts}
    return measurements(turns, facts, chunk_us)


def measurements(turns: Turns, facts: Mapping[str, Any], chunk_us: Sequence[Mapping[str, float]]) -> list[Measurement]:
    """The default transport, which is judged; the others beside it; and where a worker's time goes behind the default.

    Args:
        turns: of all starts.
        facts: that stand beside the ratios.
        chunk_us: `Wire.chunk_us` of the default transport, of all starts.
    """
    others = [name for name in TRANSPORTS if name != DEFAULT_TRANSPORT]
    return [
        Measurement.ratio(GATE, turns, DEFAULT_TRANSPORT, _ENGINE, facts={**facts, "transport": DEFAULT_TRANSPORT}),
        *(
            Measurement.ratio(
                f"{GATE}_{name}", turns, name, _ENGINE, f"engine and {name}: time over the engine's alone", facts
            )
            for name in others
        ),
        *(
            Measurement.ratio(
                f"{name}_over_{DEFAULT_TRANSPORT}",
                turns,
                name,
                DEFAULT_TRANSPORT,
                f"engine and {name}: time over that of engine and {DEFAULT_TRANSPORT}, the default",
                facts,
            )
            for name in others
        ),
        Measurement.ratio(
            f"{GATE}_alone",
            turns,
            DEFAULT_TRANSPORT,
            _KERNEL,
            "engine and wire, the default transport: time over the bare kernel's",
            facts,
        ),
        Measurement.times("wire_engine", turns, _ENGINE, f"{PAIR} by the engine alone"),
        *(
            Measurement(f"wire_{phase}", f"of a chunk, default transport: {what}", "us", values, turns.complaint)
            for phase, what in _PHASES.items()
            if (values := [us[phase] for us in chunk_us])
        ),
    ]


def _take_turns(
    matrix: TagMatrix, options: SuiteOptions, progress: Progress, start: int, chunk_us: list[dict[str, float]]
) -> Turns:
    """The rounds of one start; adds what they say of the default transport's worker."""
    with ExitStack() as stack:
        stream = make_stream(matrix.num_tags, batch=PRIVATE.chunk_size)
        contestants: dict[str, Contestant] = {
            _KERNEL: LocalContestant(KernelWork(matrix, PRIVATE, stream).step),
            _ENGINE: stack.enter_context(worker_process(matrix, index=1)),
        }
        wires: dict[str, Wire] = {}
        for transport in TRANSPORTS:
            progress.stage(f"a worker behind {transport}, start {start}")
            contestants[transport] = wires[transport] = stack.enter_context(Wire(matrix, transport))
        runs_more = {DEFAULT_TRANSPORT: _ENGINE}
        turns = options.take_turns(contestants, progress, starts=_FEW_STARTS, runs_more=runs_more)
        chunk_us += wires[DEFAULT_TRANSPORT].chunk_us
        return turns
