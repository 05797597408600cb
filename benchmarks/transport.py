"""Suite: what the wire between trunk and worker adds to the kernel, on one host."""

from contextlib import ExitStack, closing

from benchmarks.engine_work import PRIVATE, make_matrix
from benchmarks.measurement import Measurement
from benchmarks.progress import Progress
from benchmarks.scaling import NUM_TAGS, worker_process
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Contestant, take_turns
from benchmarks.wire import IN_FLIGHT, Wire
from workers.ring import TRANSPORTS

TITLE = (
    "Kernel and wire against the kernel alone: 256 examples of D = 256, 5 positives, 20 private negatives, one worker"
)
GATE = "wire_over_kernel"


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """All transports and the bare engine take turns on one matrix; the gate judges the fastest."""
    with ExitStack() as stack:
        matrix = stack.enter_context(closing(make_matrix(options.tags(NUM_TAGS), PRIVATE)))
        contestants: dict[str, Contestant] = {"kernel": stack.enter_context(worker_process(matrix, index=1))}
        for transport in TRANSPORTS:
            progress.stage(f"a worker behind {transport}")
            contestants[transport] = stack.enter_context(Wire(matrix, transport))
        turns = take_turns(
            contestants, rounds=options.rounds, round_s=options.round_s, progress=progress, reduction=options.reduction
        )
        facts = {"memory": matrix.huge_pages, "chunks in flight": IN_FLIGHT}
    measured = [
        Measurement.ratio(f"{GATE}_{name}", turns, name, "kernel", f"kernel and {name}: time over the kernel's", facts)
        for name in TRANSPORTS
    ]
    fastest = min(TRANSPORTS, key=lambda name: sum(turns.ns_per_unit(name)))
    return [
        Measurement.ratio(GATE, turns, fastest, "kernel", facts=facts | {"transport": fastest}),
        *measured,
        Measurement.times("wire_kernel", turns, "kernel", "a row-update by the engine alone"),
    ]
