"""The kernel with negatives that a chunk's examples share.

    copy the negatives' distinct rows R, once           rows as they were before the chunk
    scores = R F^T, accidental hits masked
    scores -> loss, dLoss/dscore C                      of negatives
    feature gradient = C^T R
    scores, loss, feature gradient of positives         from their rows in the matrix
    row gradient = C F + positives
    write each touched row once, with its merged gradient

Two buffers change their meaning on the way; s, y and A are those of `workers.objectives`, m is an example's largest y:

    after                      scores_KX                                scale_X
                               negative sampling   sampled softmax      sampled softmax alone
    score_rows, mask_hits      s - bias            s - bias             nothing yet
    differentiate_negatives    dLoss/ds            e^(y - m)            e^m / A
    add_positives              the same            the same             (e^m / A) times what its positives lose
    complete_negatives         the same            dLoss/ds             the same

The three products go by tiles of our own (`workers.shared_products`): the rows come from memory during the first. Rows
of positives go through the caches after what the first two products share, not between them.

The row optimizer sees merged gradients: one per row and chunk, summed over the examples. A row-wise accumulator grows
by the square of the sum, where single gradients (`workers.kernel_private`) would add their squares; so the two kernels
want different learning rates.

Concurrency: a positive's row is read for every example that has it, for the score and again for the feature gradient;
gradients are applied to the rows as they are when written. Other workers may move a row between any two of these
(Hogwild). No lock is held, and a lost update costs one gradient. Gradients that are not finite are found before the
first write, so rows stay finite whatever arrives.

Legend: B examples, D dim, K slots of distinct negatives, S slots of all, A positives of all examples, L lone ones
(`workers.shared_plan`), X columns of scores: those of B examples and, up to whole blocks, masked ones of none.
"""

# mypy: allow-untyped-defs

import functools
from typing import NamedTuple

import numpy as np

from workers.config import NEGATIVE_SAMPLING
from workers.counters import ROUNDING, stream_key_of
from workers.errors import ChunkError
from workers.example_weights import weigh_all
from workers.jit import Entry, kernel
from workers.prepared_chunk import (
    Answer,
    Lookup,
    Loss,
    Positives,
    PreparedChunk,
    Truth,
    look_up,
    lookup_memory,
)
from workers.row_optimizers import RowUpdate
from workers.rows import dim_of
from workers.scratch import Scratch
from workers.shared_losses import complete_negatives, differentiate_negatives
from workers.shared_passes import add_features, add_positives
from workers.shared_plan import SharedPlan, cut_plan, fill_plan, shared_plan
from workers.shared_products import feature_gradients, row_gradients, score_rows, whole_blocks, whole_tiles
from workers.shared_work import SharedWork, WorkSize, cut_work, shared_work
from workers.shared_writes import write_rows
from workers.slots import mask_hits
from workers.tags import Tags
from workers.vectors import zeros
from workers.widths import vector_widths

_BAD_SCORE, _BAD_FEATURE_GRADIENT, _BAD_ROW_GRADIENT = -1, -2, -3
_REFUSALS = {
    _BAD_SCORE: "a score or loss",
    _BAD_FEATURE_GRADIENT: "the feature gradient",
    _BAD_ROW_GRADIENT: "a row's gradient",
}


class _Memory(NamedTuple):
    """For chunks up to one size, with the kernel that works in it."""

    run: Entry
    arguments: tuple[np.ndarray, ...]
    """Put together once, not for each chunk."""


def run_shared(tags: Tags, chunk: PreparedChunk, scratch: Scratch, answer: Answer) -> tuple[int, int]:
    """Compute a chunk and update its rows if it says so.

    Args:
        tags: of one matrix for all chunks that are computed in this scratch memory.
        chunk: what to compute.
        scratch: working memory.
        answer: where the kernel puts it.

    Returns:
        (rows written, accidental hits)

    Raises:
        ChunkError: a loss or gradient is not finite; nothing was written.
    """
    draws, columns = len(chunk.neg_ids), whole_blocks(len(chunk.features_BD))
    copies = whole_tiles(min(draws, len(tags.rows_NS)))  # how many draws are distinct is not known before the plan
    sizes = draws, columns, len(chunk.pos_ids_A), copies, copies * columns
    memory = scratch.grown("shared kernel", sizes, _memory, tags, scratch)
    rows_written, hits = memory.run.call(*tags, *memory.arguments, columns, *chunk, *answer)
    if rows_written < 0:
        what = _REFUSALS[rows_written]
        raise ChunkError(f"features_BD: {what} is not finite; nothing was written. Lower the learning rates.")
    return rows_written, hits


def _memory(sizes: tuple[int, ...], tags: Tags, scratch: Scratch) -> _Memory:
    draws, size = sizes[0], WorkSize(*sizes[1:])
    D, words = dim_of(tags.rows_NS), tags.rows_NS.shape[1]
    lookup = lookup_memory(size.columns, size.positives, scratch)
    plan = shared_plan(size.columns, draws, size.positives, scratch)
    return _Memory(_compile(D, words), (*lookup, *plan, *shared_work(size, D, scratch)))


@functools.cache
def _compile(D: int, words: int) -> Entry:
    """The kernel for one dim and form of rows, constants of its code; `words` is the length of a stored row."""
    wide, narrow = vector_widths(D)

    @kernel
    def run(
        rows_NS, tag_state_N4, noise,
        weights_A, true_starts_B, true_stops_B,
        table, ids_S, multiplicity_K, pos_ids_A, pos_weights_A, pos_slots_A, num_lone_B, lone_ids_L, new_slots,
        old_slots_A,
        rows_KD, scores_KX, packed, stripe, bias_K, weight_K, filter_words, loss_X, log_a_X, scale_X, pos_grads_A,
        pos_losses_A, squares_B, row_grads_SD, bias_grads_S, squares_S, X,
        features_BD, neg_ids, ids_A, offsets_B1, factors_A, example_weights_B, items_B, true_offsets_B1, true_tags,
        step, chunk, seed, item_offsets, objective, w, num_drawn, optimizer, lr, keep, max_norm, decays, writes,
        loss_B, feature_grad_BD,
    ):  # fmt: skip
        """(Rows written, or what is not finite; accidental hits). Arguments lie flat, see `workers.jit`."""
        tags, loss = Tags(rows_NS, tag_state_N4, noise), Loss(objective, w, num_drawn)
        positives = Positives(ids_A, offsets_B1, factors_A)
        truth = Truth(items_B, item_offsets, true_offsets_B1, true_tags)
        update, answer = RowUpdate(optimizer, lr, keep, max_norm, decays), Answer(loss_B, feature_grad_BD)
        lookup = Lookup(weights_A, true_starts_B, true_stops_B)
        plan = SharedPlan(
            table, ids_S, multiplicity_K, pos_ids_A, pos_weights_A, pos_slots_A, num_lone_B, lone_ids_L, new_slots,
            old_slots_A,
        )  # fmt: skip
        work = SharedWork(
            rows_KD, scores_KX, packed, stripe, bias_K, weight_K, filter_words, loss_X, log_a_X, scale_X, pos_grads_A,
            pos_losses_A, squares_B, row_grads_SD, bias_grads_S, squares_S,
        )  # fmt: skip
        B, A, likes = len(loss_B), len(ids_A), (zeros(wide), zeros(narrow))
        look_up(positives, truth, lookup)
        K, S, L = fill_plan(plan, neg_ids, ids_A, offsets_B1, weights_A)
        plan, work = cut_plan(plan, B, A, K, S, L), cut_work(work, B, A, K, S, X)
        score_rows(tags, loss, features_BD, plan, work, D, words, likes)
        hits = mask_hits(
            plan.table, len(neg_ids) + A, lookup.starts_B[:B], lookup.stops_B, true_tags, work.filter_words,
            plan.ids_S, plan.multiplicity_K, work.scores_KX,
        )  # fmt: skip
        scores_are_sane = differentiate_negatives(
            objective, work.bias_K, work.weight_K, work.scores_KX, work.loss_X, work.log_a_X, work.scale_X,
            work.bias_grads_S[:K],
        )  # fmt: skip
        if not scores_are_sane:
            return _BAD_SCORE, hits
        feature_gradients(work.scores_KX, work.rows_KD, feature_grad_BD, work.stripe, D)
        losses_finite, gradient_finite = add_positives(
            tags, objective, features_BD, offsets_B1, plan, work, answer, D, words, likes
        )
        is_scaled = objective != NEGATIVE_SAMPLING
        if len(example_weights_B) > 0:
            weighed_finite = weigh_all(is_scaled, example_weights_B, offsets_B1, work, answer, D, likes)
            gradient_finite, is_scaled = gradient_finite and weighed_finite, True
        if not (losses_finite and gradient_finite):
            return _BAD_FEATURE_GRADIENT if losses_finite else _BAD_SCORE, hits
        if not writes:
            return 0, hits
        complete_negatives(is_scaled, work.scores_KX, work.scale_X, work.bias_grads_S[:K])
        row_gradients(work.scores_KX, features_BD, work.packed, work.row_grads_SD, D)
        add_features(features_BD, offsets_B1, plan, work, D, likes)
        rounding_key = stream_key_of(seed, step, chunk, ROUNDING)
        written = write_rows(tags, update, rounding_key, features_BD, offsets_B1, plan, work, D, words, likes)
        return written if written >= 0 else _BAD_ROW_GRADIENT, hits

    return Entry(run)
