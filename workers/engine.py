"""What a worker computes: chunks on a shared tag matrix."""

# mypy: allow-untyped-defs

import time

import numpy as np

from workers.chunk import Chunk, Reply, check_chunk
from workers.config import HeadConfig
from workers.counters import NEGATIVES as NEGATIVES_STREAM
from workers.counters import key_of
from workers.errors import ChunkError
from workers.jit import kernel
from workers.kernel_private import run_private
from workers.kernel_shared import run_shared
from workers.matrix import MAX_WORKERS, TagMatrix
from workers.prepared_chunk import Answer, plain_chunk, prepare_chunk
from workers.rounding import rounding_noise
from workers.sampler import draw_ids
from workers.scratch import Scratch
from workers.tags import Tags
from workers.worker_stats import EXAMPLES, NEGATIVES, SERVED, STALENESS


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

    def check(self, chunk: Chunk) -> None:
        """Refuse what cannot be computed; `apply` does it too.

        Raises:
            ChunkError: names the field.
        """
        self._check(chunk, all_features=True)

    def _check(self, chunk: Chunk, *, all_features: bool) -> bool:
        return check_chunk(
            chunk,
            num_tags=self.matrix.num_tags,
            dim=self.matrix.dim,
            num_items=self.matrix.num_items,
            private_negatives=self.config.private_negatives,
            all_features=all_features,
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
        is_plain = self._check(chunk, all_features=False)
        try:
            answer = answer or self._own_answer(len(chunk.features_BD))
            return self._apply(chunk if is_plain else plain_chunk(chunk, self._scratch), answer)
        except ChunkError:
            self.check(chunk)  # is it the features' fault? Then say so
            raise
        except MemoryError as error:
            work = f"{len(chunk.features_BD)} examples with {chunk.num_negatives} negatives"
            raise ChunkError(
                f"num_negatives: {work} need more memory than there is; lower it, or the chunk's size."
            ) from error

    def _own_answer(self, num_examples: int) -> Answer:
        scratch, dim = self._scratch, self.matrix.dim
        return scratch.kept(
            "answer",
            num_examples,
            lambda: Answer(
                scratch.array("loss", num_examples, np.float32),
                scratch.array("feature_grad", (num_examples, dim), np.float32),
            ),
        )

    def _apply(self, chunk: Chunk, answer: Answer) -> Reply:
        start_ns = time.perf_counter_ns()
        matrix = self.matrix
        num_drawn = chunk.num_negatives * (len(chunk.features_BD) if self.config.private_negatives else 1)
        neg_ids = self._scratch.array("neg_ids", num_drawn, np.int32)
        groups_G4, members_X = matrix.sampler_groups_G4, matrix.sampler_members
        applied_before = _draw(matrix.applied_W, groups_G4, members_X, chunk.seed, chunk.step, chunk.chunk, neg_ids)
        drawn_ns = time.perf_counter_ns()
        prepared = prepare_chunk(chunk, neg_ids, matrix.item_offsets, matrix.item_tags, self.config, self._scratch)
        outcome = self._run(self._tags, prepared, self._scratch, answer)
        end_ns = time.perf_counter_ns()
        num_examples = len(chunk.features_BD)
        staleness = _record(
            matrix.applied_W, self._index, applied_before, self._stats, chunk.update, num_examples, num_drawn
        )
        return Reply(
            loss_B=outcome.loss_B,
            feature_grad_BD=outcome.feature_grad_BD,
            rows_written=int(outcome.rows_written),
            accidental_hits=int(outcome.accidental_hits),
            staleness_chunks=staleness,
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


@kernel
def _draw(applied_W, groups_G4, members_X, seed, step, chunk, neg_ids):
    """Draw a chunk's negatives; returns how many chunks were applied before. The key's parts are not below 0."""
    key = key_of(np.uint64(seed), np.uint64(step), np.uint64(chunk), np.uint64(NEGATIVES_STREAM))
    draw_ids(groups_G4, members_X, key, neg_ids)
    return _count_applied(applied_W)


@kernel
def _record(applied_W, index, applied_before, stats, update, num_examples, num_drawn):
    """Add a chunk to a worker's statistics; returns how many others were applied since `applied_before`."""
    staleness = _count_applied(applied_W) - applied_before
    applied_W[index] += update
    stats[SERVED] += 1
    stats[EXAMPLES] += num_examples
    stats[NEGATIVES] += num_drawn
    stats[STALENESS] += staleness
    return staleness


@kernel
def _count_applied(applied_W):
    """Chunks that all workers together have applied."""
    total = 0
    for w in range(len(applied_W)):
        total += applied_W[w]
    return total
