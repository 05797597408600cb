"""Suite: whether cutting a batch pays where a trunk on the CPU shares its cores with workers."""

import statistics
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from benchmarks.contender import open_contender
from benchmarks.curve_settings import CurveSettings, default_run
from benchmarks.measurement import Measurement
from benchmarks.progress import Progress
from benchmarks.step_scaling import NUM_ITEMS, made_up_items
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Sample, Turns
from hybrid.tag_batch import ItemNumbers
from hybrid.trainer import Trainer
from launch.config import TrainConfig
from workers.cores import available_cores

TITLE = (
    "Batches that are cut in two, and whole ones: the default trunk on all cores of a CPU, beside the default workers"
)
NAME = "whole_batches"
TIMES_AS_LONG = 10
"""As rounds of other suites: a step takes a tenth of a second."""
_NUM_TAGS = 600_000
_WARM_UP_STEPS = 3
_WHOLE, _HALVES = "whole", "halves"
_PARTS = {_WHOLE: 1, _HALVES: 2}


class Steps:
    """A trainer as a contestant whose units are steps, all on the same made-up pictures.

    Args:
        trainer: of a trunk on the CPU; its number of threads is left alone.
        batch_size: examples of a step.
        side: of a picture, in pixels.
    """

    is_always_busy = False

    def __init__(self, trainer: Trainer, batch_size: int, side: int) -> None:
        self._trainer, self._batch_size = trainer, batch_size
        self._rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        images = torch.randn(batch_size, 3, side, side, generator=generator)
        self._images = images.contiguous(memory_format=torch.channels_last)
        self.wait_ms: list[float] = []
        """For how long the trunk waited for workers, in each step."""
        self._sample = Sample(0.0, 1.0, 1.0)
        trainer.threads = None  # its trials would be among the steps that are timed
        trainer.budget.start()

    def step(self) -> None:
        """One optimizer step."""
        items_B = self._rng.integers(0, NUM_ITEMS, self._batch_size)
        self.wait_ms.append(1000 * self._trainer.step(self._images, ItemNumbers(items_B)).wait_s)

    def begin(self, seconds: float) -> None:
        """Make steps until the time is over, one at least."""
        before, start_s, elapsed_s = len(self.wait_ms), time.perf_counter(), 0.0
        while not elapsed_s or elapsed_s < seconds:
            self.step()
            elapsed_s = time.perf_counter() - start_s
        self._sample = Sample(elapsed_s, len(self.wait_ms) - before, 1.0)

    def end(self) -> Sample:
        """What came of it."""
        return self._sample


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Two trainings that differ in the parts of their batches alone take turns."""
    config = default_run("cpu", TrainConfig().batch_size)
    items = made_up_items(options.tags(_NUM_TAGS), config.train.positives)
    threads = available_cores()
    with ExitStack() as stack:
        contestants = {}
        for name, parts in _PARTS.items():
            progress.stage(f"workers and a trunk for batches in {parts} part{'s' if parts > 1 else ''}")
            settings = CurveSettings(
                kind="hybrid", workers=config.workers, epochs=1e6, device="cpu", microbatches=parts
            )
            trainer, _, _ = stack.enter_context(open_contender(settings, items))
            contestants[name] = Steps(trainer, config.train.batch_size, config.data.image_size)
        torch.set_num_threads(threads)
        for steps in contestants.values():
            for _ in range(_WARM_UP_STEPS):
                steps.step()
        turns = options.take_turns(contestants, progress, times_as_long=TIMES_AS_LONG)
    facts = {"trunk's threads": threads, "workers": config.workers, "tags": len(items.counts_N)}
    return measurements(turns, {name: steps.wait_ms for name, steps in contestants.items()}, facts)


def measurements(turns: Turns, wait_ms: dict[str, list[float]], facts: dict[str, Any]) -> list[Measurement]:
    """How much sooner a step is over with whole batches; of each, a step's time, and how much of it was waited."""
    what = "a step whose batch is cut in two: time over that of a whole batch's"
    ratio = Measurement.ratio(NAME, turns, over=_HALVES, under=_WHOLE, what=what, facts=facts)
    return [ratio, *(_step_of(name, turns, wait_ms[name]) for name in _PARTS)]


def _step_of(name: str, turns: Turns, wait_ms: list[float]) -> Measurement:
    return Measurement(
        name=f"{NAME}_{name}",
        what=f"a step, {name}; of it the trunk waited {statistics.median(wait_ms):.1f} ms for workers",
        unit="ms",
        values=[1e-6 * step_ns for step_ns in turns.ns_per_unit(name)],
        reason=turns.complaint,
        samples={"wait_ms_of_steps": [round(ms, 3) for ms in wait_ms]},
    )
