"""The last part of a run: what was learned is measured, indexed and shown."""

from typing import Any

import numpy as np

from hybrid.data.view import View
from hybrid.evaluation import evaluate
from hybrid.features import item_features
from hybrid.gallery import write_gallery
from hybrid.head import WideHead, score_bias
from hybrid.image_index import ImageIndex
from hybrid.metrics_log import MetricsLog, read_metrics
from hybrid.ranking import LiveRows
from hybrid.rundir import RunDirectory
from hybrid.supervision import Supervision
from hybrid.trainer import Trainer
from hybrid.truths import select_truths
from launch.config import RunConfig


def finish_run(
    run: RunDirectory,
    config: RunConfig,
    view: View,
    trainer: Trainer,
    head: WideHead,
    loss_weight_N: np.ndarray | None,
    supervision: Supervision,
    metrics: MetricsLog,
) -> None:
    """Evaluate the test sets, save the index of their pictures, write the gallery; report all to the launcher."""
    rows = LiveRows(head.matrix.rows_ND)
    bias_N = score_bias(head.matrix, head.config, "probability", loss_weight_N)
    tables: dict[str, Any] = {}
    indexed: list[tuple[np.ndarray, np.ndarray]] = []
    splits = {"valid": view.valid_items, "test": view.test_items, **view.extra_test}
    for name, wanted in splits.items():
        if not len(wanted):
            continue
        items, features_ID = item_features(
            trainer.trunk,
            view,
            np.asarray(wanted),
            image_size=config.data.image_size,
            device=trainer.device,
            precision=trainer.precision,
            progress=lambda done, total, name=name: supervision.progress("features", f"{name} pictures", done, total),
        )
        supervision.progress("evaluate", f"ranking {head.num_tags:,} tags for {len(items):,} {name} pictures")
        truths = select_truths(view.item_offsets, view.item_tags, view.num_unseen_tags, items)
        counts_N, num_train = view.vocabulary.counts, len(view.train_items)
        tables[name] = evaluate(features_ID, rows, bias_N, truths, counts_N, num_train, trainer.device)
        metrics.write(trainer.progress.step, name, tables[name])
        if name != "valid":
            indexed.append((items, features_ID))
    if tables:
        run.write_results(tables)
        index = ImageIndex(
            np.concatenate([items for items, _ in indexed]), np.concatenate([f for _, f in indexed]), view.fingerprint
        )
        index.save(run.index)
        supervision.progress("gallery", "drawing the gallery")
        write_gallery(
            run.gallery,
            name=run.path.name,
            config=config,
            pictures=view,
            index=index,
            rows=rows,
            tables={name: table for name, table in tables.items() if name != "valid"},
            lines=read_metrics(run.metrics_file),
        )
        first = tables.get("test") or next(iter(tables.values()))
        supervision.tell("metrics", table=first)
    supervision.tell("done", outputs=_outputs(run, tables))


def _outputs(run: RunDirectory, tables: dict[str, Any]) -> dict[str, str]:
    outputs = {"checkpoint": str(run.checkpoints), "metrics": str(run.metrics_file), "tensorboard": str(run.tensorboard)}
    return {"gallery": str(run.gallery), **outputs} if tables else outputs
