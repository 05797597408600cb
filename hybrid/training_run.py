"""One training of a run: from prepared data and running workers to a finished run directory."""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hybrid.augment import Augmentation, Augmenter
from hybrid.checkpoint import open_checkpoint, save_checkpoint
from hybrid.checkpoint_pace import CheckpointPace
from hybrid.data.loader import batches
from hybrid.data.view import View
from hybrid.device import choose_cuda_graphs, choose_device, describe
from hybrid.features import FeatureMaker, resized
from hybrid.head import WideHead
from hybrid.last_save import save_at_last
from hybrid.learned_data import prepare_learned
from hybrid.metrics_log import MetricsLog
from hybrid.order import epoch_order
from hybrid.own_workers import WORKERS_START_S
from hybrid.prefetch import prefetched
from hybrid.reporter import Reporter
from hybrid.rundir import RunDirectory
from hybrid.supervision import Supervision
from hybrid.tag_batch import ItemNumbers
from hybrid.thread_tuner import loader_threads, make_thread_tuner
from hybrid.trainer import Progress, StepReport, Trainer
from hybrid.trunk_trace import TrunkTrace
from hybrid.trunks import build_trunk, prepare_images
from hybrid.upload import Arrival, Upload, arrived
from hybrid.validation import Validation
from launch.config import RunConfig
from workers.cores import available_cores
from workers.errors import DataError, HybridError, RunError, WorkerLost
from workers.matrix import TagMatrix
from workers.phase_clock import warm_up_report
from workers.ring import Ring
from workers.router import Router
from workers.tag_weights import inverse_frequency_weights
from workers.trace import TraceWindow

Batch = tuple[torch.Tensor, ItemNumbers]
"""Input of the trunk, and what it shows."""


class TrainingRun:
    """Trains in a run directory, with workers and matrix that the launcher owns.

    Args:
        run: the directory; its settings say everything else.
        matrix: the shared matrix, freshly made or as the checkpoint to resume from holds it.
        ring: through which arrays pass to the workers; None: all of them go over ZeroMQ.
        endpoint: where the workers connect.
        supervision: the link to the launcher.
        resume: the checkpoint to go on from, or None.
        window: which steps to trace; None traces nothing.
        cores: that trunk and workers may use together, whatever this process is bound to; None: those it is bound to.
        are_threads_fixed: whether torch's present number of threads is wanted, though the settings leave it open.
    """

    _before_batch: tuple[int, int | None] = (0, None)
    """`step` and `last_item` of the progress before the present batch: where its step fails, it was not trained on."""
    _saved: tuple[int, bool] | None = None
    """Step of the newest checkpoint of this process, and whether it says that the budget is spent."""
    _are_settings_kept = False

    def __init__(
        self,
        run: RunDirectory,
        matrix: TagMatrix,
        ring: Ring | None,
        endpoint: str,
        supervision: Supervision,
        *,
        resume: Path | None = None,
        window: TraceWindow | None = None,
        cores: int | None = None,
        are_threads_fixed: bool = False,
    ) -> None:
        self.run, self.supervision, self._cores = run, supervision, cores
        self._are_threads_fixed = are_threads_fixed
        self.config: RunConfig = run.launched_config()
        # Files may have come since the launcher read it.
        self.view: View = prepare_learned(run, self.config.data, partial(supervision.progress, "data"))
        train = self.config.train
        torch.manual_seed(train.seed)
        router = Router(endpoint, head=self.config.head, matrix=matrix, membership=supervision, ring=ring)
        self.head = WideHead.attached(matrix, router, self.config.head, positives=train.positives, seed=train.seed)
        supervision.serve(router)
        self.trainer = self._make_trainer(resume, None if window is None else TrunkTrace(window))
        self.metrics = MetricsLog(run.metrics_file, run.tensorboard, self.trainer.progress.step, self._note)
        self.reporter = Reporter(self.trainer, router, supervision, self.metrics)
        data = self.config.data
        self.features = FeatureMaker(
            self.trainer.trunk, data.image_size, self.trainer.device, self.trainer.precision, data.loader_processes
        )
        self.validation = Validation(self.trainer, self.features, self.view, self.metrics, self._note)
        self.pace = CheckpointPace(matrix.nbytes, 60 * train.checkpoint_minutes)

    def _make_trainer(self, resume: Path | None, trace: TrunkTrace | None) -> Trainer:
        config, train = self.config, self.config.train
        checkpoint = None if resume is None else open_checkpoint(resume)
        progress = Progress() if checkpoint is None else Progress(**checkpoint.progress)
        are_free = config.trunk.threads == 0 and not self._are_threads_fixed
        is_tuned = are_free and choose_device(config.trunk.device).type == "cpu"
        trainer = Trainer(
            build_trunk(config.trunk, config.data.image_size),
            self.head,
            train,
            num_items=len(self.view.train_items),
            device=config.trunk.device,
            precision=config.trunk.precision,
            pos_weights=self.loss_weight_N,
            progress=progress,
            tell=self._note,
            trace=trace,
            threads=make_thread_tuner(self._note) if is_tuned else None,
            cores=self._cores,
            cuda_graphs=choose_cuda_graphs(config.trunk),
        )
        self.upload = Upload(trainer.device, self._inputs)
        self.augmenter = Augmenter(Augmentation(), config.data.image_size, train.seed, trainer.device)
        if trainer.uses_cuda_graphs and train.augment:
            self.augmenter.record(self.view.images, train.batch_size, self._note)
        self.head.step = progress.step
        if checkpoint is not None:
            checkpoint.load_trunk(trainer.trunk)
            checkpoint.load_optimizer(trainer.optimizer)
            checkpoint.load_generators(trainer.device)
        return trainer

    @property
    def loss_weight_N(self) -> np.ndarray | None:
        """Weight of each tag's positive terms in the loss, or None for 1."""
        if self.config.train.tag_loss_weight == "none":
            return None
        return inverse_frequency_weights(self.view.vocabulary.counts, len(self.view.train_items))

    def train(self) -> bool:
        """Train until the budget is spent or the launcher asks to stop; saves at the end, if there was a step.

        Returns:
            Whether the budget was spent.

        Raises:
            DataError: no picture can be read, or what reads them has died.
            WorkerLost: no worker answers. After both the steps before are saved, as the message says.
        """
        trainer, router, first_step = self.trainer, self.head.router, self.trainer.progress.step
        if trainer.fraction >= 1:
            self._note("the budget is spent: nothing more is learned. To go on, resume with more --minutes or --epochs")
            return True
        router.wait_ready(1, WORKERS_START_S + self.head.matrix.fill_limit_s, self._should_not_wait)
        if ready := [w.index for w in router.workers() if w.state == "ready"]:
            self._note(warm_up_report(self.head.matrix.worker_stats_WS[ready]))
        threads = "measured first" if trainer.threads else torch.get_num_threads()
        graphs = ", as CUDA graphs" if trainer.uses_cuda_graphs else ""
        self._note(f"trunk on {describe(trainer.device)}, {trainer.precision}{graphs}, CPU threads: {threads}")
        try:
            self._learn()
        except (DataError, WorkerLost) as e:
            if trainer.progress.step == first_step:
                raise
            raise type(e)(f"{e} {self._save_after_failure()}") from e
        self.reporter.finish()
        if trainer.progress.step > first_step:
            if not self._is_saved():
                save_at_last(self.save, router.service, self.supervision)
        else:  # an untrained checkpoint would make this run the `last` one, before those that learned something
            self._note("stopped before a step: nothing new was learned, so nothing is saved")
        return trainer.fraction >= 1

    def _learn(self) -> None:
        """Epoch after epoch, until the budget is spent or the launcher asks to stop."""
        trainer = self.trainer
        while trainer.fraction < 1 and not self._should_stop():
            with contextlib.closing(arrived(prefetched(self._epoch()))) as epoch:
                trainer.fit(self._followed(epoch), self._after_step, self._should_stop)
            if not self._should_stop() and trainer.fraction < 1:
                if trainer.progress.num_examples_of_epoch == 0:
                    raise DataError("no training picture can be read now; the log names them. Is the folder there?")
                trainer.budget.start()  # from one epoch to the next it is training, too
                trainer.progress.epoch += 1
                trainer.progress.num_examples_of_epoch, trainer.progress.last_item = 0, None

    def _save_after_failure(self) -> str:
        """Save once what was learned until a step that failed; returns what came of it, for people.

        The trunk's weights are those of the last whole step, whose batch was the last that counts. The step that failed
        may have moved statistics of BatchNorm, and rows; chunks that were given up may still be computed while rows are
        written: like any that Hogwild reads, a row of theirs is as old or as new as it happens to be.
        """
        progress = self.trainer.progress
        step, last_item = self._before_batch
        if progress.step == step:
            progress.last_item = last_item
        try:
            if not self._is_saved():
                self.save()
        except HybridError as e:
            return f"What was learned since the last checkpoint is lost: {e}"
        return f"What was learned up to step {progress.step:,} is saved."

    def save(self) -> None:
        """Write a checkpoint; between steps nothing is in flight, see `_save_after_failure` for others."""
        self.supervision.progress("save", "saving a checkpoint")
        progress, start_s = self.trainer.progress, time.monotonic()
        is_spent = self.trainer.fraction >= 1  # asked before the clock is read for good: what is saved says so, too
        progress.used_s = self.trainer.budget.used_s
        save_checkpoint(
            self.run.checkpoints,
            step=progress.step,
            trunk=self.trainer.trunk,
            optimizer=self.trainer.optimizer,
            matrix=self.head.matrix,
            head=self.config.head,
            progress=dataclasses.asdict(progress),
            device=self.trainer.device,
            tell=self._while_saving,
        )
        self._saved = progress.step, is_spent
        self.pace.saved(time.monotonic() - start_s)

    def _is_saved(self) -> bool:
        """Whether the newest checkpoint says all that one would now: not if the budget ran out while it was written."""
        return self._saved == (self.trainer.progress.step, self.trainer.fraction >= 1)

    def _while_saving(self, done: int, total: int) -> None:
        """A large matrix takes minutes, in which workers that are scaled away wait to be let go."""
        self.supervision.progress("save", "saving a checkpoint", done, total)
        self.head.router.service()

    def close(self) -> None:
        """Close what was opened here; workers and matrix stay with their owner."""
        self.metrics.close()
        self.head.close()

    def _epoch(self) -> Iterator[tuple[Arrival, ItemNumbers]]:
        """The rest of the current epoch, ready for the trunk; runs ahead of it in a thread."""
        done, train = dataclasses.replace(self.trainer.progress), self.config.train
        order = epoch_order(np.asarray(self.view.train_items), train.seed, done.epoch, done.last_item)
        if self.trainer.device.type == "cpu":
            torch.set_num_threads(loader_threads(available_cores()))  # of this thread alone
        processes = self.config.data.loader_processes
        for items, images in batches(self.view, order, train.batch_size, processes, self.upload.empty):
            if len(items) == 1 < train.batch_size and done.last_item is not None:
                return  # all that a resumed epoch has left: BatchNorm cannot learn from it, the next epoch has it again
            if train.augment:
                self.augmenter.reseed(train.seed, done.epoch, int(items[0]))
            yield self.upload.send(images), ItemNumbers(items)

    def _followed(self, epoch: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, each noted when the trainer asks for it: it is trained on before anything is saved."""
        for images, tags in epoch:
            progress = self.trainer.progress
            self._before_batch = progress.step, progress.last_item
            progress.last_item = int(tags.items_B[-1])
            yield images, tags

    def _note(self, text: str) -> None:
        self.supervision.tell("note", text=text)

    def _inputs(self, images_BHWC: torch.Tensor) -> torch.Tensor:
        if self.config.train.augment:
            return self.augmenter(images_BHWC)
        return resized(prepare_images(images_BHWC), self.config.data.image_size)

    def _after_step(self, report: StepReport) -> None:
        if not self._are_settings_kept:
            self.run.keep_settings()
            self._are_settings_kept = True
        self.reporter.add(report)
        with self.trainer.timer.phase("validate"):
            self.validation.after_step()
        if self.pace.is_due():
            with self.trainer.timer.phase("save"):
                self._save_if_possible()

    def _save_if_possible(self) -> None:
        """A checkpoint that cannot be written (a full disk, a server that is away) is no reason to stop training."""
        try:
            self.save()
        except RunError as e:
            self.pace.failed()
            minutes = self.config.train.checkpoint_minutes
            self._note(f"{e} Training goes on, and tries again in {minutes:g} minutes.")

    def _should_not_wait(self) -> bool:
        """Whether to give up waiting for workers; says that we wait."""
        self.supervision.progress("workers", "waiting for workers, which load kernels or compile them")
        return self._should_stop()

    def _should_stop(self) -> bool:
        return self.supervision.stop_asked
