"""A pipeline around a trunk of modelled latency, whose workers can be given more or less to do."""

import statistics
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch

from benchmarks.calibration import Calibration
from benchmarks.latency_trunk import LatencyTrunk
from benchmarks.pipeline_model import MICROBATCHES
from benchmarks.synthetic_tags import SyntheticTags
from benchmarks.turns import Sample
from hybrid.head import WideHead
from hybrid.micro_batch import MicroBatch
from hybrid.phases import PhaseTimer
from hybrid.pipeline import Pipeline
from hybrid.shadow import TrunkWork
from launch.config import TrainConfig

FORWARD_S, BACKWARD_S = 0.020, 0.040
"""Of a step: a trunk on an accelerator, say."""
DIM = 256
NUM_TAGS = 100_000
TIMES_AS_LONG = 5
"""As rounds of other suites: a step takes far longer than what they measure."""
_BATCHES = 16
"""Made in advance and used in turn, so that making them is not timed."""
_CALIBRATION_STEPS = 12


class PipelineRig:
    """A trunk that only waits, beside workers that compute.

    Args:
        num_tags: N.
        workers: processes; with one, nobody else's speed matters on a small machine.
    """

    def __init__(self, num_tags: int, workers: int = 1) -> None:
        positives = TrainConfig().positives
        tags = SyntheticTags(num_tags, seed=0)
        self.workers = workers
        self.head = WideHead(num_tags, DIM, workers, tag_counts=tags.counts_N, positives=positives)
        trunk = LatencyTrunk(DIM, FORWARD_S / MICROBATCHES, BACKWARD_S / MICROBATCHES)
        self.timer = PhaseTimer()
        self.pipeline = Pipeline(trunk, self.head, precision=torch.float32, timer=self.timer)
        size = TrainConfig().batch_size // MICROBATCHES
        made = [[tags.batch(size, DIM, positives) for _ in range(MICROBATCHES)] for _ in range(_BATCHES)]
        self._batches = [[MicroBatch(torch.from_numpy(features), ids) for features, ids in parts] for parts in made]

    def step(self, negatives: int) -> tuple[dict[str, float], float]:
        """Seconds by phase of one step, and those that workers computed on each micro-batch."""
        self.head.num_negatives = negatives
        self.pipeline.accumulate(self._batches[self.head.step % _BATCHES])
        return self.timer.take(self.head.step), sum(self.pipeline.chunk_s) / (MICROBATCHES * self.workers)

    def negatives_for(self, worker_s: Sequence[float]) -> list[int]:
        """Numbers of negatives with which workers need about so long per micro-batch, in ascending order."""
        return Calibration(self._typical_s).negatives_for(worker_s)

    def _typical_s(self, negatives: int) -> float:
        return statistics.median(self.step(negatives)[1] for _ in range(_CALIBRATION_STEPS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.head.close()


class Waiting:
    """A contestant that makes steps with a fixed number of negatives: its seconds are waited, its units elapsed.

    So its time per unit is the share of the time that the trunk waits.
    """

    is_always_busy = False

    def __init__(self, rig: PipelineRig, negatives: int) -> None:
        self.rig, self.negatives = rig, negatives
        self.phases: list[dict[str, float]] = []
        """Of every step."""
        self.worker_s: list[float] = []
        """The same, per micro-batch."""
        self._sample = Sample(0.0, 1.0, 1.0)

    def begin(self, seconds: float) -> None:
        """Make steps until the time is over, one at least."""
        start_s, waited_s, elapsed_s = time.perf_counter(), 0.0, 0.0
        while not elapsed_s or elapsed_s < seconds:
            phases, worker_s = self.rig.step(self.negatives)
            self.phases.append(phases)
            self.worker_s.append(worker_s)
            waited_s += phases["wait"]
            elapsed_s = time.perf_counter() - start_s
        self._sample = Sample(waited_s, elapsed_s, 1.0)

    def end(self) -> Sample:
        """What came of it."""
        return self._sample

    @property
    def typical_worker_s(self) -> float:
        """Median over the steps."""
        return statistics.median(self.worker_s)

    @property
    def work(self) -> TrunkWork:
        """What the trunk did per micro-batch, medians over the steps."""
        forward_s, ship_s, backward_s = (
            statistics.median(phases[name] for phases in self.phases) / MICROBATCHES
            for name in ("forward", "ship", "backward")
        )
        return TrunkWork(forward_s=forward_s, ship_s=ship_s, backward_s=backward_s)
