"""Suite: what a second worker gains where one is too slow for the trunk, which has a device of its own."""

import statistics
from contextlib import ExitStack

from benchmarks.measurement import Measurement
from benchmarks.pipeline_model import MICROBATCHES
from benchmarks.pipeline_rig import BACKWARD_S, FORWARD_S, NUM_TAGS, TIMES_AS_LONG, PipelineRig, Waiting
from benchmarks.progress import Progress
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Sample, Turns
from hybrid.shadow import waiting_s
from workers.cores import available_cores

TITLE = (
    f"A second worker beside a trunk that takes {1000 * FORWARD_S:g} ms forward and {1000 * BACKWARD_S:g} ms backward "
    "per step, modelled; two micro-batches"
)
WORKER_MS = 25.0
"""What one worker needs for a micro-batch, where 10 hide behind the trunk and 12.5 remain to each of two."""


class Stepping:
    """A contestant whose units are steps."""

    is_always_busy = False

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self._steps = 0

    def begin(self, seconds: float) -> None:
        """Make steps until the time is over, one at least."""
        before = len(self.waiting.phases)
        self.waiting.begin(seconds)
        self._steps = len(self.waiting.phases) - before

    def end(self) -> Sample:
        """What came of it."""
        return Sample(self.waiting.end().units, self._steps, 1.0)


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """One worker and two, on as many negatives as keep one of them busy for `WORKER_MS`."""
    if available_cores() < 2:
        return [Measurement.missing("pipeline_scaling", "one core only may be used", _what(0))]
    progress.stage("one worker and two, and calibration")
    with ExitStack() as stack:
        rigs = [stack.enter_context(PipelineRig(options.tags(NUM_TAGS), workers)) for workers in (1, 2)]
        (negatives,) = rigs[0].negatives_for([WORKER_MS / 1000])
        contestants = {name_of(rig.workers): Stepping(Waiting(rig, negatives)) for rig in rigs}
        turns = options.take_turns(contestants, progress, times_as_long=TIMES_AS_LONG)
    return measurements(contestants, turns)


def measurements(contestants: dict[str, Stepping], turns: Turns) -> list[Measurement]:
    """The ratio of steps a second, and for each contestant the step's time beside that of the model."""
    alone, together = contestants
    ratio = Measurement.ratio(
        "pipeline_scaling", turns, over=alone, under=together, what=_what(contestants[alone].waiting.negatives)
    )
    return [ratio, *(_step(name, stepping.waiting, turns) for name, stepping in contestants.items())]


def name_of(workers: int) -> str:
    """Of the contestant with so many workers."""
    return "1 worker" if workers == 1 else f"{workers} workers"


def modelled_step_s(waiting: Waiting) -> float:
    """What a step takes if a micro-batch takes workers what it did, and nothing else delays it."""
    work = waiting.work
    busy_s = MICROBATCHES * (work.forward_s + work.ship_s + work.backward_s)
    return busy_s + waiting_s(waiting.typical_worker_s, work, MICROBATCHES)


def _what(negatives: int) -> str:
    return f"steps a second with 2 workers over 1's; {negatives:,} negatives"


def _step(name: str, waiting: Waiting, turns: Turns) -> Measurement:
    worker_ms, step_ms = 1000 * waiting.typical_worker_s, 1000 * modelled_step_s(waiting)
    waited = statistics.median(phases["wait"] / sum(phases.values()) for phases in waiting.phases)
    return Measurement(
        name=f"pipeline_scaling_{name.replace(' ', '_')}",
        what=f"a step; {name}: {worker_ms:.1f} ms a micro-batch, {100 * waited:.0f}% of it waited; "
        f"the model says {step_ms:.0f} ms",
        unit="ms",
        values=[1e-6 * step_ns for step_ns in turns.ns_per_unit(name)],
        reason=turns.complaint,
        samples={
            "negatives": waiting.negatives,
            "worker_ms": worker_ms,
            "modelled_step_ms": step_ms,
            "worker_ms_of_steps": [round(1000 * seconds, 3) for seconds in waiting.worker_s],
            "wait_ms_of_steps": [round(1000 * phases["wait"], 3) for phases in waiting.phases],
        },
    )
