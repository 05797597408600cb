"""Shipping examples to workers, and collecting what they return, in two steps."""

# Shapes: B examples, D dim.

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.chunking import ChunkRules, DrawnChunks, check_items, read_batch
from hybrid.head_result import HeadResult
from hybrid.head_workers import HeadWorkers
from hybrid.loss_weights import checked_example_weights, read_tag_weights
from hybrid.open_head import check_open
from hybrid.own_workers import WORKERS_START_S, check_alone
from hybrid.row_rate import RowRate
from hybrid.sole_use import in_turn
from hybrid.tag_batch import ItemNumbers, TagBatch
from workers.config import HeadConfig, changed
from workers.flights import Ticket
from workers.matrix import TagMatrix

logger = logging.getLogger(__name__)

COLLECT_TIMEOUT_S = 120.0
_SILENT_S = 5.0
"""How long the first call waits without a word: longer than workers take to load kernels that are compiled."""


class HeadTickets(HeadWorkers, RowRate):
    """Part of `WideHead`, which says what is drawn."""

    matrix: TagMatrix
    config: HeadConfig
    num_tags: int
    dim: int
    positives: int
    seed: int
    step: int
    _has_warned_of_unseen = False
    _num_negatives: int

    @property
    def num_negatives(self) -> int:
        """Drawn from the next call on, per chunk or per example as the configuration says.

        Raises:
            ConfigError: what is set is no number that the configuration would take.
        """
        return self._num_negatives

    @num_negatives.setter
    def num_negatives(self, number: int) -> None:
        self._num_negatives = changed(self.config, {"negatives": number}).negatives

    @in_turn
    def submit(
        self,
        features_BD: npt.NDArray[np.float32],
        tags: Any,
        *,
        update: bool,
        pos_weights: npt.NDArray[np.float32] | None = None,
        example_weights: Any = None,
        first_chunk: int = 0,
    ) -> Ticket:
        """Ship examples in chunks of `config.chunk_size` without waiting.

        Args:
            features_BD: float32 `[B, D]`; must not change until the ticket is collected.
            tags: as for `forward`.
            update: whether rows learn.
            pos_weights: as for `forward`, as are `example_weights`.
            first_chunk: number of the first chunk within this step; it seeds the draws, so micro-batches differ.

        Raises:
            DataError, ChunkError, ConfigError, HeadClosed: as `forward`; nothing was sent.
            WorkerLost: as `forward`; nothing is in flight.
        """
        drawn = self.draw(
            features_BD.shape,
            tags,
            update=update,
            pos_weights=pos_weights,
            example_weights=example_weights,
            first_chunk=first_chunk,
        )
        return self.ship(drawn, features_BD)

    @in_turn
    def draw(
        self,
        shape: Sequence[int],
        tags: Any,
        *,
        update: bool,
        pos_weights: npt.NDArray[np.float32] | None = None,
        example_weights: Any = None,
        first_chunk: int = 0,
    ) -> DrawnChunks:
        """The part of `submit` that needs no features, of which the shape is known: while a device computes them.

        Raises:
            DataError, ChunkError, ConfigError, HeadClosed, WorkerLost: as `submit`.
        """
        batch = read_batch(tags, shape, self.num_tags, self.dim)
        self.check_serves()
        check_items(batch, self.matrix.num_items)
        if update and not self._has_warned_of_unseen:
            self._warn_of_unseen(batch)
        rules = ChunkRules(
            self.matrix,
            seed=self.seed,
            step=self.step,
            size=self.config.chunk_size,
            num_positives=self.positives,
            num_negatives=self.num_negatives,
            row_lr=self.row_lr,
            update=update,
            pos_weights=read_tag_weights(pos_weights, self.num_tags),
        )
        return rules.draw(batch, first_chunk, checked_example_weights(example_weights, len(batch)))

    @in_turn
    def ship(self, drawn: DrawnChunks, features_BD: npt.NDArray[np.float32]) -> Ticket:
        """The other part of `submit`.

        Raises:
            ChunkError, ConfigError, HeadClosed, WorkerLost: as `submit`.
        """
        self.check_serves()
        if self._own is not None:
            check_alone()  # again: a process group may have come after the head
        return self.router.submit(drawn.of(features_BD))

    @in_turn
    def collect(self, ticket: Ticket, timeout_s: float = COLLECT_TIMEOUT_S) -> HeadResult:
        """Wait for a ticket's replies, the first time for a ready worker too; in the order of the examples.

        Raises:
            ChunkError: a worker refused a chunk.
            ConfigError: this process is a fork of the one that made the head.
            WorkerLost: replies are missing after `timeout_s` and the time that the chunks' arithmetic may take.
            HeadClosed: the head was closed; what its workers had is lost.
        """
        check_open(self)
        if self._router is None and ticket.is_done and ticket.error is None:  # answered before its workers left
            return HeadResult.of(ticket, self.dim)
        try:
            if self._own is not None and not self._was_ready:
                self._wait_ready()
            self.router.collect(ticket, timeout_s)
        except BaseException:  # Ctrl-C while kernels are compiled, say: nobody will collect it again
            self.router.give_up(ticket)
            raise
        return HeadResult.of(ticket, self.dim)

    def _wait_ready(self) -> None:
        """For the first call, which is told what it waits for."""
        start_s, is_told = time.monotonic(), False

        def tell() -> bool:
            nonlocal is_told
            if not is_told and time.monotonic() - start_s > _SILENT_S:
                logger.warning(
                    "The first call waits for workers, which compile kernels for heads of this kind once, and for the "
                    "matrix to be filled."
                )
                is_told = True
            return False

        self.router.wait_ready(1, WORKERS_START_S + self.matrix.fill_limit_s, tell)
        self._was_ready = True

    def _warn_of_unseen(self, batch: TagBatch | ItemNumbers) -> None:
        """Tags that `tag_counts` calls unseen are never drawn as negatives, so no score of theirs can be ranked."""
        if isinstance(batch, ItemNumbers):
            return
        unseen = batch.ids[self.matrix.counts_N[batch.ids] == 0]
        if len(unseen):
            logger.warning(
                "Tag %d is learned, but tag_counts says that it never occurs: such tags are left out of the negatives, "
                "and of rankings for good. Count tags that training will have as 1 at least.",
                unseen[0],
            )
            self._has_warned_of_unseen = True
