"""One training with its measurements: `python -m benchmarks.curve SETTINGS` prints the result as JSON."""

import contextlib
import itertools
import json
import os
import statistics
import sys
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.command_line import run_program
from benchmarks.contender import Ranking, TaggedItems, open_contender, training_counts
from benchmarks.curve_settings import CurveSettings
from benchmarks.paused_budget import PausedBudget
from benchmarks.process_memory import PeakMemory
from benchmarks.rivals.tuned_memory import MEMORY_TUNING
from hybrid.augment import Augmentation, Augmenter
from hybrid.data.loader import batches
from hybrid.data.prepare import prepare
from hybrid.data.view import View
from hybrid.device import describe
from hybrid.evaluation import evaluate
from hybrid.features import FeatureMaker
from hybrid.graph_place import WARM_UPS
from hybrid.order import epoch_order
from hybrid.prefetch import prefetched
from hybrid.ranking import LiveRows
from hybrid.tag_batch import ItemNumbers
from hybrid.thread_tuner import loader_threads
from hybrid.trainer import StepReport, Trainer
from hybrid.truths import select_truths
from hybrid.upload import Arrival, Upload, arrived
from workers.cores import available_cores
from workers.settings import from_plain, to_plain

WARM_UP_STEPS = 2 * WARM_UPS + 1
"""Steps at learning rate 0 before the clock runs: kernels are compiled or loaded; on a card passes are recorded, then
the optimizer's step.

Weights and rows stay as they are; the optimizers' states see these steps' gradients, for every contender alike.
"""
MEMORY = (
    "the sum of the peaks of all processes of the training, until P@5 was measured for the first time: a process keeps "
    "some of what it takes for that. Pages that several share are counted once, file pages of the data included. Peaks "
    "of trunk and workers need not coincide: for the hybrid it is an upper bound, for a single process exact."
)
MEASURE = "measure"
"""The phase of measurements, which cost no training time."""


class Curve:
    """Trains a contender and gathers what it does.

    Args:
        settings: of this training.
        view: the data.
        trainer: of the contender.
        ranking: its rows for the evaluation.
        budget: the trainer's.
    """

    def __init__(
        self, settings: CurveSettings, view: View, trainer: Trainer, ranking: Ranking, budget: PausedBudget
    ) -> None:
        self.settings, self.view, self.trainer = settings, view, trainer
        self._ranking, self._budget = ranking, budget
        self._config = settings.run_config
        self._augmenter = Augmenter(Augmentation(), self._config.data.image_size, settings.seed, trainer.device)
        if trainer.uses_cuda_graphs:
            size = self._config.train.batch_size
            self._augmenter.record(view.images, size, lambda text: print(f"{settings.name}: {text}", file=sys.stderr))
        self._upload = Upload(trainer.device, self._augmenter)
        self._points: list[dict[str, float]] = []
        self._step_s: list[float] = []
        self._phase_s: dict[str, float] = {}
        self._last_s = 0.0
        self._peak = PeakMemory()
        self._memory: dict[str, int] = {}
        self._table: dict[str, Any] = {}

    def train(self) -> dict[str, Any]:
        """Warm up, train until the budget is spent, measure on the way; returns the result."""
        self._warm_up()
        with self._budget.running():
            while self.trainer.fraction < 1:
                with contextlib.closing(self._epoch()) as epoch:
                    self.trainer.fit(epoch, self._after_step)
                self.trainer.progress.epoch += 1
        if len(self._points) < self.settings.measurements:
            self._measure(self._last_report)
        return self._result()

    def _warm_up(self) -> None:
        threads, self.trainer.threads = self.trainer.threads, None  # these steps are not to be timed
        endless = (batch for _ in itertools.count() for batch in self._batches(epoch=0))  # a tiny set ends too soon
        with contextlib.closing(arrived(prefetched(endless))) as prepared:
            for _ in range(WARM_UP_STEPS):
                self.trainer.step(*next(prepared))
        progress = self.trainer.progress
        progress.step = progress.num_examples = 0
        self.trainer.threads = threads
        self.trainer.timer.take(step=0)

    def _epoch(self) -> Generator[tuple[torch.Tensor, ItemNumbers], None, None]:
        """Batches prepared ahead in a thread, for every contender as in `hybrid train`."""
        return arrived(prefetched(self._batches(self.trainer.progress.epoch)))

    def _batches(self, epoch: int) -> Iterator[tuple[Arrival, ItemNumbers]]:
        seed, device = self.settings.seed, self.trainer.device
        if device.type == "cpu":
            torch.set_num_threads(loader_threads(available_cores()))  # of this thread alone
        order = epoch_order(np.asarray(self.view.train_items), seed, epoch)
        for items, images in batches(self.view, order, self._config.train.batch_size, 0, self._upload.empty):
            self._augmenter.reseed(seed, epoch, int(items[0]))
            yield self._upload.send(images), ItemNumbers(items)

    def _after_step(self, report: StepReport) -> None:
        self._last_report = report
        used_s = self._budget.used_s
        self._step_s.append(used_s - self._last_s)
        self._last_s = used_s
        for name, seconds in report.seconds.items():
            if name == MEASURE:
                continue
            self._phase_s[name] = self._phase_s.get(name, 0.0) + seconds
        if int(self.trainer.fraction * self.settings.measurements) > len(self._points):
            with self._budget.paused(), self.trainer.timer.phase(MEASURE):
                self._measure(report)

    def _measure(self, report: StepReport) -> None:
        if not self._points:
            self._memory = self._peak.read()
        trainer, view = self.trainer, self.view
        features = FeatureMaker(trainer.trunk, self._config.data.image_size, trainer.device, trainer.precision)
        items, features_ID = features.of_items(view, np.asarray(view.valid_items), trainer.head.dim)
        rows_ND, score_bias_N = self._ranking()
        truths = select_truths(view.item_offsets, view.item_tags, view.num_unseen_tags, items)
        self._table = evaluate(
            features_ID,
            LiveRows(rows_ND),
            score_bias_N,
            truths,
            training_counts(view),
            len(view.train_items),
            trainer.device,
        )
        point = {"seconds": self._last_s, "examples": trainer.progress.num_examples, "loss": report.loss}
        self._points.append(point | {name: self._table[name] for name in ("P@1", "P@5", "PSP@5", "mAP")})
        print(f"{self.settings.name}: {point} P@5 {self._table['P@5']:.3f}", file=sys.stderr, flush=True)

    def _result(self) -> dict[str, Any]:
        gpu_bytes = torch.cuda.max_memory_allocated() if self.trainer.device.type == "cuda" else None
        return {
            "contender": self.settings.name,
            "settings": to_plain(self.settings),
            "run_config": to_plain(self._config),
            "device": describe(self.trainer.device),
            "precision": str(self.trainer.precision),
            "trunk_threads": self.trainer.threads.threads if self.trainer.threads else torch.get_num_threads(),
            "batches": "ahead in a thread",
            "memory": MEMORY,
            "memory_tuning": {name: os.environ.get(name) for name in MEMORY_TUNING},
            "num_tags": len(self.view.marginal),
            "num_train_items": len(self.view.train_items),
            "data_fingerprint": self.view.fingerprint,
            "examples_per_s": self.trainer.progress.num_examples / self._last_s,
            "step_ms": {
                "median": 1000 * statistics.median(self._step_s),
                "p90": 1000 * float(np.percentile(self._step_s, 90)),
            },
            "phase_ms": {name: 1000 * s / len(self._step_s) for name, s in self._phase_s.items()},
            "memory_bytes": self._memory,
            "gpu_memory_bytes": gpu_bytes,
            "points": self._points,
            "final": self._table,
            "samples": {"step_s": [round(s, 6) for s in self._step_s]},
        }


def run_curve(settings: CurveSettings) -> dict[str, Any]:
    """Open the data and the contender, train, close."""
    view = prepare(settings.run_config.data)
    with open_contender(settings, TaggedItems.of(view)) as (trainer, ranking, budget):
        return Curve(settings, view, trainer, ranking, budget).train()


def main() -> None:
    """Run the curve of the settings that the command line holds."""
    print(json.dumps(run_curve(from_plain(CurveSettings, json.loads(sys.argv[1])))))


if __name__ == "__main__":
    run_program(main)
