"""Suite: how long the trunk waits for workers, by how long they need for a micro-batch."""

import statistics
from typing import Any

from benchmarks.measurement import Measurement
from benchmarks.pipeline_rig import BACKWARD_S, FORWARD_S, PipelineRig, Waiting
from benchmarks.progress import Progress
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Turns

TITLE = (
    f"Share of the time that the trunk waits: {1000 * FORWARD_S:g} ms forward, {1000 * BACKWARD_S:g} ms backward per "
    "step, modelled; two micro-batches, one worker"
)
GATED_MS = 5.0
SWEEP_MS = (2.5, GATED_MS, 7.5, 9.0, 10.0, 11.0, 12.5, 15.0, 18.0, 22.0)
"""Worker time per micro-batch that is aimed at, on both sides of the knee."""
_NUM_TAGS = 100_000
_ROUNDS_PER_ROUND = 5
"""A step takes far longer than what other suites measure."""


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """One contestant per worker time, all on the same rig; worker time is set by the number of negatives."""
    progress.stage("workers and calibration")
    with PipelineRig(options.tags(_NUM_TAGS)) as rig:
        negatives = rig.negatives_for(ms / 1000 for ms in SWEEP_MS)
        contestants = {f"{ms:g} ms": Waiting(rig, number) for ms, number in zip(SWEEP_MS, negatives, strict=True)}
        turns = options.take_turns(contestants, progress, times_as_long=_ROUNDS_PER_ROUND)
    return [_measurement(name, waiting, turns) for name, waiting in contestants.items()]


def _measurement(name: str, waiting: Waiting, turns: Turns) -> Measurement:
    worker_ms, work = 1000 * waiting.typical_worker_s, waiting.work
    is_gated = name == f"{GATED_MS:g} ms"
    return Measurement(
        name="pipeline_waiting" if is_gated else f"pipeline_waiting_{name.replace(' ', '_')}",
        what=f"share of time waited; workers need {worker_ms:.1f} ms a micro-batch ({waiting.negatives:,} negatives)",
        unit="",
        values=[1e-9 * share for share in turns.ns_per_unit(name)],
        reason=turns.complaint or _off_target(worker_ms, is_gated),
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


def _off_target(worker_ms: float, is_gated: bool) -> str:
    """A gate on workers of a certain speed says nothing about workers of another."""
    if is_gated and not 0.8 * GATED_MS <= worker_ms <= 1.2 * GATED_MS:
        return f"workers needed {worker_ms:.1f} ms a micro-batch, not {GATED_MS:g} ms"
    return ""
