"""The kernel with negatives that a chunk's examples share.

    copy the negatives' distinct rows R, once           rows as they were before the chunk
    scores = R F^T, accidental hits masked
    scores -> loss, dLoss/dscore C                      of negatives
    feature gradient = C^T R
    scores, loss, feature gradient of positives         from their rows in the matrix
    row gradient = C F + positives
    write each touched row once, with its merged gradient

The three products go by tiles of our own (`workers.shared_products`): the rows come from memory during the first. Rows
of positives go through the caches after what the first two products share, not between them.

The row optimizer sees merged gradients: one per row and chunk, summed over the examples. A row-wise accumulator grows
by the square of the sum, where single gradients (`workers.kernel_private`) would add their squares; so the two kernels
want different learning rates.

Concurrency: a positive's row is read for every example that has it, for the score and again for the feature gradient;
gradients are applied to the rows as they are when written. Other workers may move a row between any two of these
(Hogwild). No lock is held, and a lost update costs one gradient. Gradients that are not finite are found before the
first write, so rows stay finite whatever arrives.

Legend: B examples, D dim, K slots of distinct negatives, S slots (`workers.shared_plan`), X columns of scores: those of
B examples and, up to whole blocks, masked ones of none.
"""

# mypy: allow-untyped-defs

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from workers.errors import ChunkError
from workers.jit import kernel
from workers.job import Answer, Job, Loss, Outcome, Positives
from workers.row_optimizers import RowUpdate
from workers.rows import dim_of, vector_width
from workers.scratch import Scratch, roomy
from workers.shared_losses import complete_negatives, differentiate_negatives
from workers.shared_passes import add_features, add_positives
from workers.shared_plan import SharedPlan, fill_plan, shared_plan
from workers.shared_products import feature_gradients, row_gradients, score_rows, whole_blocks, whole_tiles
from workers.shared_writes import write_rows
from workers.slots import FILTER_WORDS, mask_hits
from workers.tags import Tags
from workers.vectors import zeros

_BAD_SCORE, _BAD_FEATURE_GRADIENT, _BAD_ROW_GRADIENT = -1, -2, -3
_REFUSALS = {
    _BAD_SCORE: "a score or loss",
    _BAD_FEATURE_GRADIENT: "the feature gradient",
    _BAD_ROW_GRADIENT: "a row's gradient",
}


class Work(NamedTuple):
    """Memory, float32 if nothing else is said, at least as long as a chunk needs; with arbitrary contents."""

    rows: np.ndarray
    """`[most, D]`, of which the first K become the copies; K is not known before it is drawn."""
    scores: np.ndarray
    """Of whole tiles of copies, for X columns."""
    packed: np.ndarray
    bias_K: np.ndarray
    weight_K: np.ndarray
    filter_words: np.ndarray
    """uint64."""
    loss_X: np.ndarray
    log_a_X: np.ndarray
    scale_X: np.ndarray
    pos_grads_A: np.ndarray
    squares_B: np.ndarray
    row_grads_SD: np.ndarray
    bias_grads_S: np.ndarray
    squares_S: np.ndarray


class _Size(NamedTuple):
    """What a chunk needs, rounded up so that chunks which are nearly alike fit into the memory of the first."""

    columns: int
    draws: int
    positives: int
    copies: int
    """Rows of whole tiles for the distinct draws."""
    scores: int


def run_shared(tags: Tags, job: Job, scratch: Scratch, answer: Answer) -> Outcome:
    """Compute a chunk and update its rows if the job says so.

    Raises:
        ChunkError: a loss or gradient is not finite; nothing was written.
    """
    D, words = dim_of(tags.rows_NS), tags.rows_NS.shape[1]
    size = _size(job, len(tags.rows_NS))
    plan, work = scratch.grown("shared kernel", size, lambda sizes: _memory(_Size(*sizes), D, scratch))
    rows_written, hits = _compile(D, words)(
        *(*tags, job.features_BD, job.neg_ids, *job.positives, *job.truth, *job.loss),
        *(*job.update, job.writes, job.rounding_key, size.columns, *plan, *work, *answer),
    )
    if rows_written < 0:
        what = _REFUSALS[rows_written]
        raise ChunkError(f"features_BD: {what} is not finite; nothing was written. Lower the learning rates.")
    return Outcome(*answer, rows_written, hits)


def _size(job: Job, num_tags: int) -> _Size:
    columns, draws = whole_blocks(len(job.features_BD)), len(job.neg_ids)
    copies = whole_tiles(min(draws, num_tags))
    return _Size(columns, draws, roomy(len(job.positives.ids)), copies, copies * columns)


def _memory(size: _Size, D: int, scratch: Scratch) -> tuple[SharedPlan, Work]:
    def floats(*shape: int) -> np.ndarray:
        return scratch.empty(shape, np.float32)

    slots = size.copies + size.positives
    work = Work(
        rows=floats(size.copies, D),
        scores=floats(size.scores),
        packed=floats(size.columns * D),
        bias_K=floats(size.copies),
        weight_K=floats(size.copies),
        filter_words=scratch.empty(FILTER_WORDS, np.uint64),
        loss_X=floats(size.columns),
        log_a_X=floats(size.columns),
        scale_X=floats(size.columns),
        pos_grads_A=floats(size.positives),
        squares_B=floats(size.columns),
        row_grads_SD=floats(slots, D),
        bias_grads_S=floats(slots),
        squares_S=floats(slots),
    )
    return shared_plan(size.draws, size.positives, size.columns, scratch), work


@functools.cache
def _compile(D: int, words: int) -> Callable[..., tuple[int, int]]:
    """The kernel for one dim and form of rows, constants of its code; `words` is the length of a stored row."""
    width = vector_width(D)

    @kernel
    def run(
        rows_NS, tag_state_N4, noise, features_BD, neg_ids, pos_ids, offsets_B1, pos_weights, most_positives,
        true_starts_B, true_stops_B, true_tags, objective, w, num_drawn,
        optimizer, lr, keep, max_norm, decays, writes, rounding_key, X,
        table, ids_S, multiplicity_K, pos_ids_A, pos_weights_A, pos_slots_A, num_lone_B, lone_ids_L, new_slots,
        old_slots_A, rows, scores, packed, bias_K, weight_K, filter_words, loss_X, log_a_X, scale_X, pos_grads_A,
        squares_B, row_grads_SD, bias_grads_S, squares_S, loss_B, feature_grad_BD,
    ):  # fmt: skip
        """(Rows written, or what is not finite; accidental hits). Arguments lie flat, see `workers.jit`."""
        tags, loss = Tags(rows_NS, tag_state_N4, noise), Loss(objective, w, num_drawn)
        positives = Positives(pos_ids, offsets_B1, pos_weights, most_positives)
        update = RowUpdate(optimizer, lr, keep, max_norm, decays)
        plan = SharedPlan(
            table, ids_S, multiplicity_K, pos_ids_A, pos_weights_A, pos_slots_A, num_lone_B, lone_ids_L, new_slots,
            old_slots_A,
        )  # fmt: skip
        K, S, L = fill_plan(plan, neg_ids, positives)
        B, A, like = len(loss_B), len(pos_ids), zeros(width)
        ids_S, multiplicity_K, lone_ids_L = ids_S[:S], multiplicity_K[:K], lone_ids_L[:L]
        pos_ids_A, pos_weights_A, pos_grads_A = pos_ids_A[:A], pos_weights_A[:A], pos_grads_A[:A]
        loss_X, log_a_X, scale_X, squares_B = loss_X[:X], log_a_X[:X], scale_X[:X], squares_B[:B]
        rows_KD, scores_KX, bias_K, weight_K = rows[:K], scores[: K * X].reshape(K, X), bias_K[:K], weight_K[:K]
        row_grads_SD, bias_grads_S, squares_S = row_grads_SD[:S], bias_grads_S[:S], squares_S[:S]
        score_rows(
            tags, loss, ids_S, multiplicity_K, features_BD, packed, rows_KD, bias_K, weight_K, scores_KX,
            D, words, like,
        )  # fmt: skip
        hits = mask_hits(
            table, len(neg_ids) + A, true_starts_B, true_stops_B, true_tags, filter_words, ids_S, multiplicity_K,
            scores_KX,
        )  # fmt: skip
        if not differentiate_negatives(
            objective, bias_K, weight_K, scores_KX, loss_X, log_a_X, scale_X, bias_grads_S[:K]
        ):
            return _BAD_SCORE, hits
        feature_gradients(scores_KX, rows_KD, feature_grad_BD, D)
        losses_finite, gradient_finite = add_positives(
            tags, objective, features_BD, offsets_B1, pos_ids_A, pos_weights_A, pos_grads_A,
            loss_X, log_a_X, scale_X, loss_B, squares_B, feature_grad_BD, D, words, like,
        )  # fmt: skip
        if not (losses_finite and gradient_finite):
            return _BAD_FEATURE_GRADIENT if losses_finite else _BAD_SCORE, hits
        if not writes:
            return 0, hits
        complete_negatives(objective, scores_KX, scale_X, bias_grads_S[:K])
        row_gradients(scores_KX, features_BD, row_grads_SD, D)
        add_features(features_BD, offsets_B1, plan, pos_grads_A, K, row_grads_SD, bias_grads_S, D, like)
        written = write_rows(
            tags, update, rounding_key, features_BD, squares_B, offsets_B1, pos_ids_A, num_lone_B, lone_ids_L,
            pos_grads_A, ids_S, row_grads_SD, bias_grads_S, squares_S, D, words, like,
        )  # fmt: skip
        return written if written >= 0 else _BAD_ROW_GRADIENT, hits

    return run
