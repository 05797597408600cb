"""What a worker computes: chunks on a shared tag matrix."""

# mypy: allow-untyped-defs

import time

import numpy as np

from workers.admission import REFUSED, admission, chunks_applied
from workers.chunk import Chunk, Reply, check_chunk
from workers.config import MAX_DRAWS, MAX_WORKERS, HeadConfig
from workers.errors import ChunkError
from workers.jit import kernel
from workers.kernel_private import run_private
from workers.kernel_shared import run_shared
from workers.matrix import TagMatrix
from workers.prepared_chunk import NUM_ADMITTED, Answer, PreparedChunk, plain_chunk, prepare_chunk, rules_of
from workers.rounding import rounding_noise
from workers.scratch import Scratch
from workers.tags import Tags
from workers.worker_stats import EXAMPLES, NEGATIVES, SERVED, STALENESS

_IS_NOT_PLAIN = (TypeError, ValueError, AttributeError, OverflowError)
"""How compiled code and what prepares its arguments refuse a chunk, without saying why."""


class WideEngine:
    """Serves chunks, one after the other, on a matrix that other engines may write at the same time.

    Args:
        matrix: the shared matrix.
        config: equal in all engines of a run.
        worker_index: in [0, MAX_WORKERS); which row of the statistics is this engine's.

    Concurrency: rows are written without locks, see the kernels and `workers.matrix` for what survives it.
    """

    def __init__(self, matrix: TagMatrix, config: HeadConfig, worker_index: int = 0) -> None:
        if not 0 <= worker_index < MAX_WORKERS:
            raise ValueError(f"worker_index = {worker_index}, but it must be in [0, {MAX_WORKERS})")
        self.matrix, self.config = matrix, config
        self._tags = Tags(matrix.rows_NS, matrix.tag_state_N4, rounding_noise(matrix.dim))
        self._index, self._stats = worker_index, matrix.worker_stats_WS[worker_index]
        self._run = run_private if config.private_negatives else run_shared
        self._scratch = Scratch()
        self._rules, self._ruled = rules_of(config, config.negatives, config.row_lr), (config.negatives, config.row_lr)
        self._matrix_arguments = (
            matrix.num_tags,
            matrix.dim,
            matrix.num_items,
            matrix.applied_W,
            matrix.sampler_groups_G4,
            matrix.sampler_members,
        )

    def check(self, chunk: Chunk) -> None:
        """Refuse what cannot be computed; `apply` does it too.

        Raises:
            ChunkError: names the field.
        """
        check_chunk(
            chunk,
            num_tags=self.matrix.num_tags,
            dim=self.matrix.dim,
            num_items=self.matrix.num_items,
            private_negatives=self.config.private_negatives,
        )

    def apply(self, chunk: Chunk, answer: Answer | None = None) -> Reply:
        """Draw negatives, compute loss and feature gradient, update the rows if the chunk says so.

        Args:
            chunk: what is asked.
            answer: float32 `[B]` and `[B, D]`, where loss and feature gradient are wanted; None: in scratch memory.

        Returns:
            A reply whose arrays are those of `answer`, or else the next call overwrites them.

        Raises:
            ChunkError: the chunk breaks a rule, needs too much memory, or leads to numbers that are not finite. Rows
                stay finite in any case. Nothing was written, except with private negatives, where the examples before
                the bad one stay applied.
        """
        start_ns = time.perf_counter_ns()
        try:
            prepared, applied_before = self._admitted(chunk)
            return self._compute(chunk, prepared, applied_before, answer or self._own_answer(prepared), start_ns)
        except MemoryError as error:
            work = f"{len(chunk.features_BD)} examples with {chunk.num_negatives} negatives"
            raise ChunkError(
                f"num_negatives: {work} need more memory than there is; lower it, or the chunk's size."
            ) from error

    def _admitted(self, chunk: Chunk) -> tuple[PreparedChunk, int]:
        """The chunk with its negatives, and how many chunks were applied before; or ChunkError."""
        try:
            return self._admit(chunk)
        except _IS_NOT_PLAIN:
            self.check(chunk)
        return self._admit(plain_chunk(chunk, self._scratch))

    def _admit(self, chunk: Chunk) -> tuple[PreparedChunk, int]:
        """The same for a chunk that needs no copies.

        Raises:
            _IS_NOT_PLAIN: it breaks a rule, or is not laid out as compiled code takes it.
        """
        matrix, scratch, num_drawn = self.matrix, self._scratch, chunk.num_negatives
        if not (type(num_drawn) is type(chunk.step) is type(chunk.chunk) is type(chunk.seed) is int):
            raise TypeError("a number is not whole")
        if self.config.private_negatives:
            num_drawn *= len(chunk.features_BD)
        if not 1 <= num_drawn <= MAX_DRAWS:
            raise ValueError("too many draws, or none")
        neg_ids = scratch.array("neg_ids", num_drawn, np.int32)
        if self._ruled != (chunk.num_negatives, chunk.row_lr):
            self._rules = rules_of(self.config, chunk.num_negatives, chunk.row_lr)
            self._ruled = chunk.num_negatives, chunk.row_lr
        prepared = prepare_chunk(chunk, neg_ids, matrix.item_offsets, matrix.item_tags, self._rules)
        applied_before = admission.call(*prepared[:NUM_ADMITTED], *self._matrix_arguments)
        if applied_before == REFUSED:
            raise ValueError("the chunk breaks a rule")
        return prepared, applied_before

    def _own_answer(self, chunk: PreparedChunk) -> Answer:
        shape = chunk.features_BD.shape
        return self._scratch.kept("answer", shape, _answer, self._scratch, shape)

    def _compute(
        self, chunk: Chunk, prepared: PreparedChunk, applied_before: int, answer: Answer, start_ns: int
    ) -> Reply:
        drawn_ns = time.perf_counter_ns()
        try:
            rows_written, accidental_hits = self._run(self._tags, prepared, self._scratch, answer)
        except ChunkError:
            self.check(chunk)  # is it the features' fault? Then say so
            raise
        end_ns = time.perf_counter_ns()
        return Reply(
            loss_B=answer.loss_B,
            feature_grad_BD=answer.feature_grad_BD,
            rows_written=rows_written,
            accidental_hits=accidental_hits,
            staleness_chunks=_record(
                self.matrix.applied_W,
                self._index,
                applied_before,
                self._stats,
                prepared.writes,
                len(answer.loss_B),
                len(prepared.neg_ids),
            ),
            draw_ns=drawn_ns - start_ns,
            kernel_ns=end_ns - drawn_ns,
        )

    def warm_up(self) -> None:
        """Compile the kernels, or load them from the disk cache, by serving a chunk on a matrix of one tag."""
        none = np.zeros(0, np.int32)
        chunk = Chunk(
            step=0,
            chunk=0,
            seed=0,
            features_BD=np.zeros((1, self.matrix.dim), np.float32),
            pos_ids=np.zeros(1, np.int32),
            pos_offsets=np.array([0, 1], np.int32),
            pos_weights=None,
            items_B=None,
            true_ids=none,
            true_offsets=np.zeros(2, np.int32),
            num_negatives=1,
            row_lr=0.0,
            update=True,
        )
        matrix = TagMatrix.create(1, self.matrix.dim, config=self.config)
        try:
            WideEngine(matrix, self.config).apply(chunk)
        finally:
            matrix.close()


def _answer(scratch: Scratch, shape: tuple[int, ...]) -> Answer:
    return Answer(scratch.array("loss", shape[0], np.float32), scratch.array("feature_grad", shape, np.float32))


@kernel
def _record(applied_W, index, applied_before, stats, update, num_examples, num_drawn):
    """Add a chunk to a worker's statistics; returns how many others were applied since `applied_before`."""
    staleness = chunks_applied(applied_W) - applied_before
    applied_W[index] += update
    stats[SERVED] += 1
    stats[EXAMPLES] += num_examples
    stats[NEGATIVES] += num_drawn
    stats[STALENESS] += staleness
    return staleness
