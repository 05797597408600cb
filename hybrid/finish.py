"""The last part of a run: what was learned is measured, indexed and shown."""

from typing import Any, Protocol

import numpy as np
import torch

from hybrid.data.view import View
from hybrid.features import FeatureMaker
from hybrid.gallery import choose_queries, write_gallery
from hybrid.image_index import ImageIndex
from hybrid.measured import save_measured
from hybrid.metrics_log import MetricsLog, read_metrics
from hybrid.rundir import RunDirectory
from hybrid.score_bias import score_bias_N
from hybrid.split_tables import measure_splits
from hybrid.supervision import Supervision
from hybrid.trainer import Trainer
from launch.config import RunConfig
from workers.cores import available_cores
from workers.disk import write_whole

EXAMPLE_PIXELS = 256


class Training(Protocol):
    """What is needed of a `TrainingRun`."""

    run: RunDirectory
    config: RunConfig
    view: View
    supervision: Supervision
    trainer: Trainer
    features: FeatureMaker
    metrics: MetricsLog

    @property
    def loss_weight_N(self) -> np.ndarray | None: ...


def finish_run(training: Training) -> None:
    """Evaluate the held-out items, save the index of their pictures, write the gallery; report all to the launcher.

    A wish to stop ends it where it is: the training is saved, and `--resume` comes back to this part.
    """
    run, view, supervision = training.run, training.view, training.supervision
    head, step = training.trainer.head, training.trainer.progress.step

    def show(text: str, done: int, total: int) -> None:
        supervision.progress("evaluate", text, done, total)
        supervision.poll()
        if supervision.stop_asked:
            raise _Stopped

    torch.set_num_threads(available_cores())  # the workers rest
    try:
        tables, index = measure_splits(
            training.features,
            head.matrix,
            score_bias_N(head.matrix, head.config, "probability", training.loss_weight_N),
            view,
            score="probability",
            step=step,
            progress=show,
        )
    except _Stopped:
        supervision.tell("note", text="stopped before everything was measured")
        return
    save_measured(run, tables, index, step)
    for name, table in tables.items():
        training.metrics.write(step, name, table)
    if tables:
        shown = {name: table for name, table in tables.items() if name != "valid"} or tables
        further = {name: table for name, table in shown.items() if name != "test"}
        supervision.tell("metrics", table={**shown.get("test", {}), **further})
    if not len(index.items_I):
        why = "no test pictures: nothing to show" if tables else "no held-out pictures: nothing to measure or to show"
        supervision.tell("note", text=why)
        supervision.tell("done", outputs=_files(run))
        return
    supervision.progress("gallery", "drawing the gallery")
    write_gallery(
        run.gallery,
        name=run.path.name,
        config=training.config,
        pictures=view,
        index=index,
        rows=head.matrix,
        tables=tables,
        lines=read_metrics(run.metrics_file),
    )
    supervision.tell("done", outputs={"gallery": str(run.gallery), **_files(run), **_examples(run, view, index)})


class _Stopped(Exception):
    """The launcher asked for it."""


def _files(run: RunDirectory) -> dict[str, Any]:
    files = {"checkpoint": run.checkpoints, "metrics": run.metrics_file, "tensorboard": run.tensorboard}
    return {name: str(path) for name, path in files.items()}


def _examples(run: RunDirectory, view: View, index: ImageIndex) -> dict[str, str]:
    """A query and a picture for the commands to try next."""
    write_whole(run.example_image, view.png(int(index.items_I[0]), EXAMPLE_PIXELS))
    examples = {"example_image": str(run.example_image)}
    queries = choose_queries(view, index.items_I)
    return {**examples, "example_tag": queries[0]} if queries else examples
