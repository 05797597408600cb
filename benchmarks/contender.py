"""A contender: a trainer with its head, the workers' or a rival's, opened from the same settings."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
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
from hybrid.device import choose_cuda_graphs, choose_device, choose_precision
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedItems:
    """What an output layer is made from: which tags there are, and which are true of which item."""

    counts_N: NDArray[np.int64]
    """Training items that carry each tag."""
    marginal_N: NDArray
    """Distribution of the positive draws."""
    item_offsets: NDArray
    """int64 `[items + 1]`."""
    item_tags: NDArray
    """int32, ascending within each item."""
    num_train_items: int

    @classmethod
    def of(cls, view: View) -> "TaggedItems":
        """Those of a data set."""
        return cls(
            counts_N=training_counts(view),
            marginal_N=view.marginal,
            item_offsets=view.item_offsets,
            item_tags=view.item_tags,
            num_train_items=len(view.train_items),
        )


@contextmanager
def open_contender(settings: CurveSettings, items: TaggedItems) -> Iterator[tuple[Trainer, Ranking, PausedBudget]]:
    """A trainer whose trunk, optimizer, schedule, augmentation and order do not depend on the contender."""
    if settings.kind == "hybrid":
        with _workers_head(settings, items) as head:
            trainer, budget = _trainer(settings, items, head)
            yield trainer, lambda: _live(head), budget
        return
    rival = RIVALS[settings.kind](_setting(settings, items))
    trainer, budget = _trainer(settings, items, cast(WideHead, rival))  # it has what a Trainer uses of a head
    pipeline = RivalPipeline(trainer.pipeline.passes, rival, timer=trainer.timer)
    trainer.pipeline = cast(Pipeline, pipeline)
    yield trainer, rival.for_ranking, budget


def _live(head: WideHead) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return head.matrix.rows_ND, score_bias_N(head.matrix, head.config, "probability")


def training_counts(view: View) -> NDArray[np.int64]:
    """Training items that carry each tag, without reading the tags' names."""
    return np.load(view.folder / "counts.npy", mmap_mode="r")


def _trainer(settings: CurveSettings, items: TaggedItems, head: WideHead) -> tuple[Trainer, PausedBudget]:
    config = settings.run_config
    torch.manual_seed(settings.seed)
    trunk = build_trunk(config.trunk, config.data.image_size)
    is_on_cpu = choose_device(settings.device).type == "cpu"
    threads = make_thread_tuner(lambda text: print(f"{settings.name}: {text}", file=sys.stderr))
    trainer = Trainer(
        trunk,
        head,
        config.train,
        num_items=items.num_train_items,
        device=settings.device,
        threads=threads if is_on_cpu else None,
        cuda_graphs=choose_cuda_graphs(config.trunk),
    )
    train = config.train
    budget = PausedBudget(epochs=train.epochs, minutes=train.minutes, num_items=items.num_train_items)
    trainer.budget = budget
    return trainer, budget


@contextmanager
def _workers_head(settings: CurveSettings, items: TaggedItems) -> Iterator[WideHead]:
    """A head with a pool of workers, on a matrix that holds the data set's true tags, as in `hybrid train`."""
    config = settings.run_config
    matrix = TagMatrix.create(
        len(items.marginal_N),
        config.trunk.dim,
        config=config.head,
        counts=items.counts_N,
        marginal=items.marginal_N,
        item_offsets=items.item_offsets,
        item_tags=items.item_tags,
        seed=settings.seed,
    )
    own = OwnWorkers(lambda: matrix, settings.workers, config.head, config.transport, None)
    positives, seed = config.train.positives, settings.seed
    with (
        closing(own),
        WideHead.attached(matrix, own.serve(settings.workers), config.head, positives=positives, seed=seed) as head,
    ):
        head.router.wait_ready(settings.workers, WORKERS_START_S)
        yield head


def _setting(settings: CurveSettings, items: TaggedItems) -> Setting:
    config, device = settings.run_config, choose_device(settings.device)
    return Setting(
        config=config.head,
        counts_N=items.counts_N,
        marginal_N=items.marginal_N,
        num_train_items=items.num_train_items,
        dim=config.trunk.dim,
        positives=config.train.positives,
        seed=settings.seed,
        device=device,
        precision=choose_precision(config.trunk.precision, device),
        true_tags=TrueTags(items.item_offsets, items.item_tags, device),
    )
