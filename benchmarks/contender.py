"""A contender: a trainer with its head, the workers' or a rival's, opened from the same settings."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.curve_settings import CurveSettings
from benchmarks.dense_head import DenseHead
from benchmarks.partial_head import PartialHead
from benchmarks.paused_budget import PausedBudget
from benchmarks.rival_head import RivalHead, Setting
from benchmarks.rival_pipeline import RivalPipeline
from benchmarks.sampled_by_hand import SampledByHand
from benchmarks.sampled_head import SampledHead
from benchmarks.softmax_head import SoftmaxHead
from benchmarks.true_tags import TrueTags
from hybrid.data.view import View
from hybrid.device import choose_device, choose_precision
from hybrid.head import WideHead
from hybrid.own_workers import WORKERS_START_S, OwnWorkers
from hybrid.pipeline import Pipeline
from hybrid.score_bias import score_bias_N
from hybrid.thread_tuner import make_thread_tuner
from hybrid.trainer import Trainer
from hybrid.trunks import build_trunk
from workers.matrix import TagMatrix

RIVALS: dict[str, Callable[[Setting], RivalHead]] = {
    "dense": DenseHead,
    "softmax": SoftmaxHead,
    "sampled": SampledHead,
    "partial": PartialHead,
    "gathered": SampledByHand,
}
Ranking = Callable[[], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Gives the rows, and what is added to row . features to rank tags."""


@contextmanager
def open_contender(settings: CurveSettings, view: View) -> Iterator[tuple[Trainer, Ranking, PausedBudget]]:
    """A trainer whose trunk, optimizer, schedule, augmentation and order do not depend on the contender."""
    if settings.kind == "hybrid":
        with _workers_head(settings, view) as head:
            trainer, budget = _trainer(settings, view, head)
            yield trainer, lambda: _live(head), budget
        return
    rival = RIVALS[settings.kind](_setting(settings, view))
    trainer, budget = _trainer(settings, view, cast(WideHead, rival))  # it has what a Trainer uses of a head
    pipeline = RivalPipeline(trainer.trunk, rival, precision=trainer.precision, timer=trainer.timer)
    trainer.pipeline = cast(Pipeline, pipeline)
    yield trainer, rival.for_ranking, budget


def _live(head: WideHead) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return head.matrix.rows_ND, score_bias_N(head.matrix, head.config, "probability")


def training_counts(view: View) -> NDArray[np.int64]:
    """Training items that carry each tag, without reading the tags' names."""
    return np.load(view.folder / "counts.npy", mmap_mode="r")


def _trainer(settings: CurveSettings, view: View, head: WideHead) -> tuple[Trainer, PausedBudget]:
    config = settings.run_config
    torch.manual_seed(settings.seed)
    trunk, num_items = build_trunk(config.trunk, config.data.image_size), len(view.train_items)
    is_on_cpu = choose_device(settings.device).type == "cpu"
    threads = make_thread_tuner(lambda text: print(f"{settings.name}: {text}", file=sys.stderr))
    trainer = Trainer(
        trunk,
        head,
        config.train,
        num_items=num_items,
        device=settings.device,
        threads=threads if is_on_cpu else None,
    )
    budget = PausedBudget(epochs=config.train.epochs, minutes=config.train.minutes, num_items=num_items)
    trainer.budget = budget
    return trainer, budget


@contextmanager
def _workers_head(settings: CurveSettings, view: View) -> Iterator[WideHead]:
    """A head with a pool of workers, on a matrix that holds the data set's true tags, as in `hybrid train`."""
    config = settings.run_config
    matrix = TagMatrix.create(
        len(view.marginal),
        config.trunk.dim,
        config=config.head,
        counts=training_counts(view),
        marginal=view.marginal,
        item_offsets=view.item_offsets,
        item_tags=view.item_tags,
        seed=settings.seed,
    )
    own = OwnWorkers(matrix, settings.workers, config.head, config.transport, None)
    positives, seed = config.train.positives, settings.seed
    with (
        closing(own),
        WideHead.attached(
            matrix, own.endpoint, own.pool, config.head, own.ring, positives=positives, seed=seed
        ) as head,
    ):
        head.router.wait_ready(settings.workers, WORKERS_START_S)
        yield head


def _setting(settings: CurveSettings, view: View) -> Setting:
    config, device = settings.run_config, choose_device(settings.device)
    return Setting(
        config=config.head,
        counts_N=training_counts(view),
        marginal_N=view.marginal,
        num_train_items=len(view.train_items),
        dim=config.trunk.dim,
        positives=config.train.positives,
        seed=settings.seed,
        device=device,
        precision=choose_precision(config.trunk.precision, device),
        true_tags=TrueTags(view.item_offsets, view.item_tags, device),
    )
