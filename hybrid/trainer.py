"""The training loop: batches through the pipeline, the trunk's optimizer, schedules, a budget."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hybrid.cuda_graphs import GraphedPasses
from hybrid.device import choose_precision, trunk_device
from hybrid.device_spans import DeviceSpans
from hybrid.head import WideHead
from hybrid.micro_batch import MicroBatch, as_batch, cut_batch
from hybrid.negatives_tuner import NegativesTuner
from hybrid.optimizer_step import OptimizerStep, make_optimizer
from hybrid.phases import PhaseTimer
from hybrid.pipeline import Pipeline
from hybrid.schedule import Budget, warmup_cosine
from hybrid.thread_tuner import ThreadTuner
from hybrid.trunk_inputs import Inputs, moved
from hybrid.trunk_trace import TrunkTrace
from launch.config import TrainConfig
from workers.errors import DataError
from workers.settings import check

logger = logging.getLogger(__name__)

_END = object()  # of batches: None is what a collate function may give for one that it could not make


@dataclass(slots=True)
class Progress:
    """Where a training is; saved with every checkpoint."""

    step: int = 0
    num_examples: int = 0
    epoch: int = 0
    num_examples_of_epoch: int = 0
    last_item: int | None = None
    """The last item of this epoch that was trained on (`hybrid train` only). A resumed run continues after this item,
    not after a count, so unreadable pictures do not shift it."""
    used_s: float = 0.0
    num_negatives: int | None = None
    """Where `train.auto_negatives` is; None where the number is fixed."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did."""

    loss: float
    num_examples: int
    lr: float
    row_lr: float
    fraction: float
    num_chunks: int
    """Chunks that were in flight between trunk and workers at the same time."""
    wait_s: float = 0.0
    """Seconds that the trunk waited for workers. On a card: that it idled for them, whatever its host did, in
    the step before."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds by phase since the last report: load, augment, forward, ship, wait, backward, optimizer, what
    the caller does between steps by its own names, and `other`. They add up to the time that went by."""
    loss_B: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    """Loss of each example, as `Pipeline.loss_B` has them; `loss` is their mean."""


class Trainer:
    """Trains a trunk with a wide head.

    Each step puts the trunk in training mode: a module that must stay in evaluation mode, a frozen BatchNorm say,
    overrides its own `train`.

    Args:
        trunk: any module that maps prepared inputs to features `[B, D]`.
        head: the wide head; its rows learn with `head.row_lr`, as it was set or loaded, on the trunk's schedule.
        config: of it `microbatches`, `auto_negatives` with its target and bounds, `epochs` or `minutes`, `lr`,
            `weight_decay`, `warmup_fraction` and `clip_norm` are used. The rest is for `hybrid train` alone: batches
            are as large as they are given (the largest so far counts as full), `positives` and the seed of draws belong
            to the head, `pos_weights` replaces `tag_loss_weight`; augmentation and checkpoints are the caller's.
        prepare: makes the trunk's inputs of what a batch has in their place; tensors and arrays among it are tensors on
            the device by then. None passes them on.
        device: `auto` (the card that the trunk is on, else CUDA if there is one), `cpu`, `cuda`, or one of several,
            `cuda:1`.
        precision: `auto`, `float32` or `bfloat16`, or torch's constant for one of these.
        num_items: items in an epoch, at least 1: what a budget in epochs, and `progress` told in epochs, count by.
        pos_weights: `[N]` weight of each tag's positive terms, as `WideHead.forward` takes them, or None.
        progress: of a training that goes on; None starts one.
        tell: takes remarks for people; they are logged if nobody else wants them.
        trace: gets the phases of each step; None traces nothing.
        threads: chooses torch's number of CPU threads step by step; None leaves it alone.
        cores: that trunk and workers may use, all together; None: those of this process.
        cuda_graphs: on a card, record the trunk's passes and the optimizer's step, and replay them: see `GraphedPasses`
            for what a trunk must keep to. Where a weight that learns gets no gradient, the latter is queued singly.

    Raises:
        ConfigError: a setting breaks its rule, or the head has no workers.

    Example:
        >>> from hybrid import TrainConfig
        >>> trunk = nn.Linear(6, 8)
        >>> batch = (torch.randn(4, 6), [[1], [2, 3], [0], [9]])
        >>> with WideHead(num_tags=10, dim=8, workers=1, negatives=4) as head:
        ...     trainer = Trainer(trunk, head, TrainConfig(batch_size=4, epochs=3), num_items=4, device="cpu")
        ...     trainer.fit([batch])
        >>> trainer.progress.step, trainer.fraction
        (3, 1.0)
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: WideHead,
        config: TrainConfig,
        *,
        num_items: int,
        prepare: Callable[[Any], Inputs] | None = None,
        device: str = "auto",
        precision: str | torch.dtype = "auto",
        pos_weights: npt.NDArray[np.float32] | None = None,
        progress: Progress | None = None,
        tell: Callable[[str], None] = logger.info,
        trace: TrunkTrace | None = None,
        threads: ThreadTuner | None = None,
        cores: int | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        check(isinstance(config, TrainConfig), "config", config, "a TrainConfig")
        head.check_serves()
        self.progress = progress or Progress()
        self.budget = Budget(
            epochs=config.epochs, minutes=config.minutes, num_items=num_items, used_s=self.progress.used_s
        )
        self.device = trunk_device(device, trunk)
        self.precision = choose_precision(precision, self.device)
        self.trunk, self.head, self.config = trunk.to(self.device), head, config
        self.prepare = prepare or (lambda inputs: inputs)
        self._full_size = 0
        self.timer = PhaseTimer(trace)
        self.threads = threads
        self.optimizer_step = OptimizerStep(make_optimizer(self.trunk, config), config.clip_norm, tell)
        self.tuner = self._make_tuner(tell, cores) if config.auto_negatives else None
        spans = DeviceSpans(self.device) if self.device.type == "cuda" else None
        self.pipeline = Pipeline(
            self.trunk,
            head,
            precision=self.precision,
            timer=self.timer,
            pos_weights=pos_weights,
            spans=spans,
            cuda_graphs=cuda_graphs,
            tell=tell,
        )

    def fit(
        self,
        batches: Iterable[tuple[Any, ...]],
        on_step: Callable[[StepReport], None] = lambda report: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train until the budget is spent, or `should_stop` says so after a step.

        Afterwards `head.row_lr` is what it was before, and the clock of the budget stands still; `step` leaves the rate
        where the schedule is, and the clock running.

        Args:
            batches: (inputs, tags) or (inputs, tags, example_weights), see `step`. A DataLoader, a list, all that can
                be read again, is read in round after round; each is an epoch of `progress`. An iterator or a generator
                can be read once and ends `fit`.
            on_step: called after every step.
            should_stop: asked before every step.

        Raises:
            DataError: a round has no batch, a batch is neither, or see `step`.
            ChunkError, ConfigError, WorkerLost: see `step`.
        """
        try:
            source, first_step = iter(batches), self.progress.step
            while self.fraction < 1 and not should_stop():
                with self.timer.phase("load"):
                    batch = next(source, _END)
                if batch is not _END:
                    on_step(self.step(*as_batch(batch)))
                elif isinstance(batches, Iterator):
                    return
                else:
                    self._end_round(first_step)
                    source, first_step = iter(batches), self.progress.step
        finally:
            self.budget.stop()
            self.head.row_lr_factor = 1.0  # the schedule ends near 0: a loop after it would teach no row

    def _end_round(self, first_step: int) -> None:
        if self.progress.step == first_step:
            raise DataError(
                f"batches gave none after step {first_step}, with {self.fraction:.0%} of the budget used; expected one "
                "at least. Give an iterable that can be read again, or an iterator, which ends the training."
            )
        self.progress.epoch += 1
        self.progress.num_examples_of_epoch = 0

    @property
    def optimizer(self) -> torch.optim.AdamW:
        """Of the trunk's weights."""
        return self.optimizer_step.optimizer

    @property
    def uses_cuda_graphs(self) -> bool:
        """Whether the trunk's passes, and the optimizer's step, are to be recorded and replayed."""
        return isinstance(self.pipeline.passes, GraphedPasses)

    @property
    def fraction(self) -> float:
        """Share of the budget that is used."""
        return self.budget.fraction(self.progress.num_examples)

    def step(self, inputs: Any, tags: Any, example_weights: Any = None) -> StepReport:
        """One optimizer step on one batch, cut into `config.microbatches` parts, or fewer so that none has one example.

        Where it raises, no weight of the trunk has moved, but rows of some micro-batches may have learned.

        Args:
            inputs: `[B, ...]`, what `prepare`, or else the trunk, takes; for several arguments a tuple of them, or a
                dict by their names. NumPy arrays will do; all are moved to the trunk's device.
            tags: the true tags of each example, in any form that `WideHead.forward` takes.
            example_weights: as of `WideHead.forward`.

        Raises:
            DataError: inputs are none, or they, tags and weights are not equally many; or as `WideHead.forward`.
            ChunkError: features or gradients are not finite.
            ConfigError: the trunk's passes cannot be recorded as CUDA graphs.
            WorkerLost: no worker answered in time.
        """
        self.budget.start()
        if self.threads is not None:
            self.threads.begin_step()
        if self.tuner is not None:
            self.tuner.begin_step()
        fraction = self.fraction
        self.trunk.train()
        self.head.train()
        with self.timer.phase("optimizer"):
            self.optimizer.zero_grad(set_to_none=True)
        parts = self._cut(inputs, tags, example_weights)
        size = sum(map(len, parts))
        factor = self._set_learning_rates(size)
        loss = self.pipeline.accumulate(parts)
        with self.timer.phase("optimizer"):
            self.optimizer_step(self.pipeline.passes.totals)
        seconds = self.timer.take(self.progress.step)
        self._full_size = max(self._full_size, size)
        is_full = size == self._full_size
        spans = self.pipeline.spans
        device_s = None if spans is None else spans.end_step(seconds.get("wait", 0.0))
        if self.tuner is not None:
            self.tuner.end_step(seconds, device_s, self.pipeline.chunk_s, parts=len(parts), is_full=is_full)
            self.progress.num_negatives = self.head.num_negatives
        if self.threads is not None:
            self.threads.end_step(load_s=seconds.get("load", 0.0), is_full=is_full)
        self._advance(size)
        return StepReport(
            loss,
            size,
            self.config.lr * factor,
            self.head.row_lr,
            fraction,
            sum(-(-len(part) // self.head.config.chunk_size) for part in parts),
            wait_s=(seconds if device_s is None else device_s).get("wait", 0.0),
            seconds=seconds,
            loss_B=self.pipeline.loss_B,
        )

    def _make_tuner(self, tell: Callable[[str], None], cores: int | None) -> NegativesTuner:
        if self.progress.num_negatives is not None:
            self.head.num_negatives = self.progress.num_negatives
        return NegativesTuner(self.head, self.config, tell, cores)

    def _cut(self, inputs: Any, tags: Any, example_weights: Any) -> list[MicroBatch]:
        with self.timer.phase("augment"):
            inputs = self.prepare(moved(inputs, self.device))
        return cut_batch(inputs, tags, self.head.num_tags, self.config.microbatches, example_weights)

    def _set_learning_rates(self, num_examples: int) -> float:
        """Those of the middle of a step of so many examples: at its start a budget of one step has a rate of 0."""
        middle = self.budget.fraction(self.progress.num_examples + num_examples / 2)
        factor = warmup_cosine(middle, self.config.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor
        self.head.row_lr_factor = factor
        return factor

    def _advance(self, num_examples: int) -> None:
        self.progress.step += 1
        self.progress.num_examples += num_examples
        self.progress.num_examples_of_epoch += num_examples
        self.progress.used_s = self.budget.used_s
