"""Measures on validation items while a training goes on."""

from collections.abc import Callable

import numpy as np

from hybrid.data.view import View
from hybrid.evaluation import evaluate
from hybrid.features import FeatureMaker
from hybrid.metrics_log import MetricsLog
from hybrid.ranking import WatchedRows
from hybrid.score_bias import score_bias_N
from hybrid.trainer import Trainer
from hybrid.truths import select_truths

TIMES = 6
"""Measurements in a run, evenly over its budget."""
MAX_ITEMS = 256
"""Validation items measured each time, spread evenly."""


class Validation:
    """Measures a slice of the validation items whenever another part of the budget is used.

    Args:
        trainer: whose rows are measured.
        features: makes them with its trunk.
        view: the data.
        metrics: gets the tables.
        tell: takes remarks for people.
    """

    def __init__(
        self,
        trainer: Trainer,
        features: FeatureMaker,
        view: View,
        metrics: MetricsLog,
        tell: Callable[[str], None],
    ) -> None:
        self._trainer, self._features, self._view, self._metrics, self._tell = trainer, features, view, metrics, tell
        items = np.asarray(view.valid_items)
        self._items = (
            items[np.linspace(0, len(items) - 1, min(MAX_ITEMS, len(items))).astype(int)] if len(items) else items
        )
        self._done = int(trainer.fraction * TIMES)

    def after_step(self) -> None:
        """Measure if it is time to; without a picture that can be read now, say so and go on."""
        due = int(self._trainer.fraction * TIMES)
        if self._done < due < TIMES and len(self._items):  # at the end, `finish_run` measures all of them
            self._done = due
            step, table = self._trainer.progress.step, self.measure()
            if table is None:
                self._tell(f"step {step:,} is not measured: no validation picture can be read; the log names them")
            else:
                self._metrics.write(step, "valid", table)

    def measure(self) -> dict[str, object] | None:
        """The table of measures on the chosen validation items; None if no picture of theirs can be read."""
        trainer, view = self._trainer, self._view
        items, features_ID = self._features.of_items(view, self._items, trainer.head.dim)
        if not len(items):
            return None
        matrix, head, router = trainer.head.matrix, trainer.head.config, trainer.head.router
        return evaluate(
            features_ID,
            WatchedRows(matrix, lambda done, total: router.service()),  # a worker that is scaled away is let go
            score_bias_N(matrix, head, "probability", trainer.pipeline.pos_weights),
            select_truths(view.item_offsets, view.item_tags, view.num_unseen_tags, items),
            view.vocabulary.counts,
            len(view.train_items),
            trainer.device,
        )
