"""What a training says of itself while it goes on."""

import dataclasses
import time
from typing import Any

import torch

from hybrid.metrics_log import MetricsLog
from hybrid.supervision import Supervision
from hybrid.trainer import StepReport, Trainer
from hybrid.worker_phases import WorkerPhases, mean_shares
from workers.router import Router

SHOW_S = 0.5
"""Between updates of the live view."""
WRITE_S = 2.0
"""Between lines in the log of metrics; the first step has one of its own, where every curve starts."""


class _Sums:
    """Sums over the steps since the last report."""

    def __init__(self) -> None:
        self.start_s = time.monotonic()
        self.steps = self.examples = 0
        self.loss = self.wait_s = 0.0
        self.phase_s: dict[str, float] = {}

    def add(self, report: StepReport) -> None:
        self.steps += 1
        self.examples += report.num_examples
        self.loss += report.loss * report.num_examples
        self.wait_s += report.wait_s
        for name, seconds in report.seconds.items():
            self.phase_s[name] = self.phase_s.get(name, 0.0) + seconds

    @property
    def wait_fraction(self) -> float:
        """Share of the time that the trunk waited for workers; on a card by its own clock."""
        return self.wait_s / self._total_s

    @property
    def phase_fraction(self) -> dict[str, float]:
        """Share of the time by phase of the trunk, on the host's clock."""
        return {name: seconds / self._total_s for name, seconds in self.phase_s.items()}

    @property
    def _total_s(self) -> float:
        return max(sum(self.phase_s.values()), 1e-9)

    @property
    def examples_per_s(self) -> float:
        return self.examples / max(time.monotonic() - self.start_s, 1e-9)

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.examples, 1)


class Reporter:
    """Averages steps: twice a second for the launcher's view, every other second for the log of metrics."""

    def __init__(self, trainer: Trainer, router: Router, supervision: Supervision, metrics: MetricsLog) -> None:
        self._trainer, self._router = trainer, router
        self._supervision, self._metrics = supervision, metrics
        self._shown, self._written = _Sums(), _Sums()
        matrix = trainer.head.matrix
        self._phases_shown, self._phases_written = WorkerPhases(matrix), WorkerPhases(matrix)
        self._last: StepReport | None = None
        self._figures: dict[str, Any] = {}
        """What the launcher was told last."""
        self._num_resent = 0

    def add(self, report: StepReport) -> None:
        """Take one step's report."""
        is_first = self._last is None
        self._last = report
        now_s = time.monotonic()
        self._shown.add(report)
        self._written.add(report)
        if now_s - self._shown.start_s >= SHOW_S or is_first:
            self._show(report, report.fraction)
        self._tell_resent()
        if now_s - self._written.start_s >= WRITE_S or is_first:
            self.flush()

    def finish(self) -> None:
        """Write and show where the training ended: views keep what they are told now."""
        self.flush()
        if self._last is None:
            return
        fraction = self._trainer.fraction
        if self._shown.steps:
            self._show(self._last, fraction)
        else:
            self._tell({**self._figures, **self._place(fraction)})

    def flush(self) -> None:
        """Write what has gathered since the last line."""
        if self._last is None or not self._written.steps:
            return
        sums, counters, workers = self._written, self._router.counters, self._router.workers()
        shares = self._phases_written.take([worker.index for worker in workers])
        tuner = self._trainer.tuner
        self._metrics.write(
            self._trainer.progress.step,
            "train",
            {
                "loss": sums.mean_loss,
                "examples_per_s": sums.examples_per_s,
                "lr": self._last.lr,
                "row_lr": self._last.row_lr,
                "fraction": self._last.fraction,
                "used_s": self._trainer.progress.used_s,
                "wait_fraction": sums.wait_fraction,
                "phase_ms": {name: 1000 * s / sums.steps for name, s in sums.phase_s.items()},
                "threads": torch.get_num_threads(),
                "workers": sum(worker.state == "ready" for worker in workers),
                "worker_phase_fraction": mean_shares(shares),
                "worker_phase_fraction_by_place": {str(place): share for place, share in shares.items()},
                **dataclasses.asdict(counters),
                "negatives": self._trainer.head.num_negatives,
                **({} if tuner is None else tuner.figures()),
            },
        )
        self._written = _Sums()

    def _tell_resent(self) -> None:
        num_resent = self._router.counters.chunks_resent
        if num_new := num_resent - self._num_resent:
            self._num_resent = num_resent
            chunks = "chunk was" if num_new == 1 else "chunks were"
            self._supervision.tell("note", text=f"{num_new} unanswered {chunks} sent again, to other workers")

    def _place(self, fraction: float) -> dict[str, Any]:
        """Where the training is, with this share of its budget used."""
        progress, budget = self._trainer.progress, self._trainer.budget
        remaining_s = budget.remaining_s(progress.num_examples) if fraction < 1 else 0.0
        return {
            "step": progress.step,
            "epoch": budget.epochs(progress.num_examples),
            "fraction": min(fraction, 1.0),
            "eta_s": remaining_s if remaining_s < float("inf") else 0.0,
        }

    def _tell(self, figures: dict[str, Any]) -> None:
        self._figures = figures
        self._supervision.tell("step", **figures)

    def _show(self, report: StepReport, fraction: float) -> None:
        trainer, sums, counters = self._trainer, self._shown, self._router.counters
        workers = self._router.workers()
        shares = self._phases_shown.take([worker.index for worker in workers])
        figures = {
            **self._place(fraction),
            "examples_per_s": sums.examples_per_s,
            "loss": sums.mean_loss,
            "lr": report.lr,
            "row_lr": report.row_lr,
            "in_flight": report.num_chunks,
            "wait_fraction": sums.wait_fraction,
            "phase_fraction": sums.phase_fraction,
            "negatives": trainer.head.num_negatives,
            "staleness_chunks": counters.max_staleness_chunks,
            "chunks_resent": counters.chunks_resent,
            "device": str(trainer.device),
            "threads": torch.get_num_threads(),
            "workers": [
                {
                    "name": w.name,
                    "state": str(w.state),
                    "rows_per_s": w.rows_per_s,
                    "in_flight": w.in_flight,
                    "phase_fraction": shares[w.index],
                }
                for w in workers
            ],
        }
        self._tell(figures)
        self._shown = _Sums()
