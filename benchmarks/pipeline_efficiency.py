"""Suite: how long the trunk waits for workers, by how long they need for a micro-batch."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.gates import GATES, Gate
from benchmarks.measurement import Measurement
from benchmarks.pipeline_rig import BACKWARD_S, FORWARD_S, NUM_TAGS, TIMES_AS_LONG, PipelineRig, Waiting
from benchmarks.progress import Progress
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Turns

TITLE = (
    f"Share of the time that the trunk waits: {1000 * FORWARD_S:g} ms forward, {1000 * BACKWARD_S:g} ms backward per "
    "step, modelled; two micro-batches, one worker"
)
GATE = GATES["pipeline_waiting"]
GATED_MS = 5.5
"""Worker time per micro-batch that is aimed at for the gate, in the middle of what it allows."""
SWEEP_MS = (2.5, 4.0, 7.5, 9.0, 10.0, 11.0, 12.5, 15.0, 18.0, 22.0)
"""The same for figures beside it, on both sides of the knee; they are called by the time that was measured."""
_TRIES = 3
"""For the gate: workers may have become faster or slower since their number of negatives was found."""


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """The gate's worker time, then others in turns, all on one rig; worker time is set by the number of negatives."""
    progress.stage("workers and calibration")
    with PipelineRig(options.tags(NUM_TAGS)) as rig:
        measured = [gated(rig, options, progress)]
        progress.stage("calibration of other times of workers")
        measured += take_turns_on(rig, SWEEP_MS, options, progress)
    return measured


def gated(rig: PipelineRig, options: SuiteOptions, progress: Progress) -> Measurement:
    """What the gate judges: tried again while workers were of another speed than it speaks of."""
    for _ in range(_TRIES):
        (measured,) = take_turns_on(rig, [GATED_MS], options, progress, GATE)
        if not GATE.off_target(measured.samples["worker_ms"]):
            break
    return measured


def take_turns_on(
    rig: PipelineRig, worker_ms: Sequence[float], options: SuiteOptions, progress: Progress, gate: Gate | None = None
) -> list[Measurement]:
    """One contestant for each worker time that is aimed at."""
    negatives = rig.negatives_for([ms / 1000 for ms in worker_ms])
    contestants = {f"{number:,} negatives": Waiting(rig, number) for number in negatives}
    turns = options.take_turns(contestants, progress, times_as_long=TIMES_AS_LONG)
    return [_measurement(name, waiting, turns, gate) for name, waiting in contestants.items()]


def _measurement(name: str, waiting: Waiting, turns: Turns, gate: Gate | None = None) -> Measurement:
    worker_ms, work = 1000 * waiting.typical_worker_s, waiting.work
    return Measurement(
        name=gate.name if gate else f"pipeline_waiting_{worker_ms:.2f}_ms",
        what=f"share of time waited; workers need {worker_ms:.1f} ms a micro-batch ({waiting.negatives:,} negatives)",
        unit="",
        values=[1e-9 * share for share in turns.ns_per_unit(name)],
        reason=turns.complaint or (gate.off_target(worker_ms) if gate else ""),
        samples={
            "negatives": waiting.negatives,
            "worker_ms": worker_ms,
            "trunk_ms": {
                "forward": 1000 * work.forward_s,
                "ship": 1000 * work.ship_s,
                "backward": 1000 * work.backward_s,
            },
            "step_ms": 1000 * statistics.median(sum(phases.values()) for phases in waiting.phases),
            "worker_ms_of_steps": [round(1000 * seconds, 3) for seconds in waiting.worker_s],
            "wait_ms_of_steps": [round(1000 * phases["wait"], 3) for phases in waiting.phases],
            **_rounds_of(name, turns),
        },
    )


def _rounds_of(name: str, turns: Turns) -> dict[str, Any]:
    """All rounds, with the samples of one contestant."""
    whole = turns.as_json()
    return whole | {"rounds": [one | {"samples": {name: one["samples"][name]}} for one in whole["rounds"]]}
