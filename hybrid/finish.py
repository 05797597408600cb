"""The last part of a run: what was learned is measured, indexed and shown."""

from typing import Any

import numpy as np
import torch

from hybrid.data.view import View
from hybrid.gallery import choose_queries, write_gallery
from hybrid.image_index import ImageIndex
from hybrid.measured import save_measured
from hybrid.metrics_log import MetricsLog, read_metrics
from hybrid.ranking import Rows
from hybrid.rundir import RunDirectory
from hybrid.score_bias import score_bias_N
from hybrid.split_tables import measure_splits
from hybrid.supervision import Supervision
from hybrid.trainer import Trainer
from launch.config import RunConfig
from workers.cores import available_cores
from workers.disk import write_whole

EXAMPLE_PIXELS = 256


def finish_run(
    run: RunDirectory,
    config: RunConfig,
    view: View,
    trainer: Trainer,
    loss_weight_N: np.ndarray | None,
    supervision: Supervision,
    metrics: MetricsLog,
) -> None:
    """Evaluate the held-out items, save the index of their pictures, write the gallery; report all to the launcher.

    A wish to stop ends it where it is: the training is saved, and `--resume` comes back to this part.
    """

    def show(text: str, done: int, total: int) -> None:
        supervision.progress("evaluate", text, done, total)
        supervision.poll()
        if supervision.stop_asked:
            raise _Stopped

    torch.set_num_threads(available_cores())  # the workers rest
    head, step = trainer.head, trainer.progress.step
    try:
        tables, index = measure_splits(
            trainer.trunk,
            head.matrix,
            score_bias_N(head.matrix, head.config, "probability", loss_weight_N),
            view,
            score="probability",
            step=step,
            image_size=config.data.image_size,
            device=trainer.device,
            precision=trainer.precision,
            processes=config.data.loader_processes,
            progress=show,
        )
    except _Stopped:
        supervision.tell("note", text="stopped before everything was measured")
        return
    save_measured(run, tables, index, step)
    for name, table in tables.items():
        metrics.write(step, name, table)
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
    _draw_gallery(run, config, view, index, head.matrix, tables)
    supervision.tell("done", outputs={"gallery": str(run.gallery), **_files(run), **_examples(run, view, index)})


class _Stopped(Exception):
    """The launcher asked for it."""


def _draw_gallery(
    run: RunDirectory, config: RunConfig, view: View, index: ImageIndex, rows: Rows, tables: dict[str, dict[str, Any]]
) -> None:
    write_gallery(
        run.gallery,
        name=run.path.name,
        config=config,
        pictures=view,
        index=index,
        rows=rows,
        tables=tables,
        lines=read_metrics(run.metrics_file),
    )


def _files(run: RunDirectory) -> dict[str, Any]:
    files = {"checkpoint": run.checkpoints, "metrics": run.metrics_file, "tensorboard": run.tensorboard}
    return {name: str(path) for name, path in files.items()}


def _examples(run: RunDirectory, view: View, index: ImageIndex) -> dict[str, str]:
    """A query and a picture for the commands to try next."""
    write_whole(run.example_image, view.png(int(index.items_I[0]), EXAMPLE_PIXELS))
    examples = {"example_image": str(run.example_image)}
    queries = choose_queries(view, index.items_I)
    return {**examples, "example_tag": queries[0]} if queries else examples
