"""The kernel with negatives that a chunk's examples share.

    gather the chunk's distinct rows R, once            rows as they were before the chunk
    scores = F R^T (GEMM), accidental hits masked
    scores -> loss, dLoss/dscore C, per example
    feature gradient = C R (GEMM) + positives;  row gradient = C^T F (GEMM) + positives
    write each touched row once, with its merged gradient

The row optimizer sees merged gradients: one per row and chunk, summed over the examples. A row-wise accumulator grows
by the square of the sum, where single gradients (`workers.kernel_private`) would add their squares; so the two kernels
want different learning rates.

Concurrency: gradients belong to the rows as gathered; they are applied to the rows as they are when written, which
other workers may have moved in between (Hogwild). No lock is held, and a lost update costs one gradient. Gradients
that are not finite are found before the first write, so rows stay finite whatever arrives.

Legend: B examples, D dim, K slots of distinct negatives, S slots of all distinct tags (negatives first), P positives
of one example.
"""

# mypy: allow-untyped-defs

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from workers.errors import ChunkError
from workers.jit import inlined_kernel, kernel
from workers.job import Answer, Job, Outcome
from workers.objectives import loss_terms, negative_weight, times
from workers.prefetch import LINE_FLOATS, prefetch_read, prefetch_write
from workers.rounding import NOISE_WORDS, noise_start
from workers.row_blocks import add, bound, dot, write
from workers.row_optimizers import RowUpdate, accumulate, is_safe, step_size
from workers.rows import vector_width
from workers.scratch import Scratch
from workers.slots import FILTER_SIZE, assign_slots, make_table, mask_hits
from workers.tags import BIAS, BIAS_ACC, LOG_Q, ROW_ACC, Tags
from workers.vectors import fma, high, load, low, store, total, values_from, zeros

_AHEAD_ROWS, _AHEAD_POSITIVES = 8, 4  # rows fetched before their turn
_ZERO = np.float32(0)


@np.errstate(over="ignore", invalid="ignore")  # such numbers are looked for
def run_shared(tags: Tags, job: Job, scratch: Scratch, answer: Answer) -> Outcome:
    """Compute a chunk and update its rows if the job says so.

    Raises:
        ChunkError: a loss or gradient is not finite; nothing was written.
    """
    B, D = job.features_BD.shape
    kernels = _compile(D, tags.rows_NS.shape[1])
    capacity = len(job.neg_ids) + len(job.positives.ids)
    table = make_table(scratch, capacity)
    slot_ids = scratch.array("slot_ids", capacity, np.int32)
    multiplicity = scratch.array("multiplicity", capacity, np.float32)
    pos_slots = scratch.array("pos_slots", len(job.positives.ids), np.int32)
    K, S = map(int, assign_slots(table, 0, job.neg_ids, job.positives.ids, slot_ids, multiplicity, pos_slots))
    ids_S, rows_SD = slot_ids[:S], scratch.array("rows", (S, D), np.float32)
    bias_S, weight_K = scratch.array("bias", S, np.float32), scratch.array("neg_weights", K, np.float32)
    kernels.gather(tags.rows_NS, tags.tag_state_N4, *job.loss, ids_S, multiplicity, rows_SD, bias_S, weight_K)
    scores_BK = scratch.array("scores", (B, K), np.float32)
    np.matmul(job.features_BD, rows_SD[:K].T, out=scores_BK)
    filter_bytes = scratch.array("filter", FILTER_SIZE, np.uint8)
    hits = mask_hits(*table, *job.truth, filter_bytes, slot_ids, multiplicity, scores_BK)
    loss_B, feature_grad_BD = answer
    pos_grads = scratch.array("pos_grads", len(pos_slots), np.float32)
    positives = job.features_BD, job.positives.offsets_B1, pos_slots, pos_grads
    if not kernels.differentiate(
        job.loss.objective, *positives, job.positives.weights, rows_SD, bias_S, weight_K, scores_BK, loss_B
    ):
        raise _refusal("a score or loss")
    np.matmul(scores_BK, rows_SD[:K], out=feature_grad_BD)
    if not kernels.add_positive_rows(*positives, rows_SD, feature_grad_BD):
        raise _refusal("the feature gradient")
    if not job.writes:
        return Outcome(loss_B, feature_grad_BD, 0, hits)
    grads_SD = scratch.array("row_grads", (S, D), np.float32)
    bias_grads_S, squares_S = scratch.array("bias_grads", S, np.float32), scratch.array("squares", S, np.float32)
    np.matmul(scores_BK.T, job.features_BD, out=grads_SD[:K])
    kernels.add_positive_features(*positives, scores_BK, grads_SD, bias_grads_S)
    rows_written = kernels.scatter(*tags, *job.update, job.rounding_key, ids_S, grads_SD, bias_grads_S, squares_S)
    if rows_written < 0:
        raise _refusal("a row's gradient")
    return Outcome(loss_B, feature_grad_BD, rows_written, hits)


def _refusal(what: str) -> ChunkError:
    return ChunkError(f"features_BD: {what} is not finite; nothing was written. Lower the learning rates.")


class _Kernels(NamedTuple):
    gather: Callable[..., Any]
    differentiate: Callable[..., Any]
    add_positive_rows: Callable[..., Any]
    add_positive_features: Callable[..., Any]
    scatter: Callable[..., Any]


@functools.cache
def _compile(D: int, words: int) -> _Kernels:
    """The kernels for one dim and form of rows, constants of their code; `words` is the length of a stored row."""
    return _Kernels(
        _gather(D, words),
        _differentiate(D),
        _add_positive_rows(D),
        _add_positive_features(D),
        _scatter(D, words),
    )


def _gather(D: int, words: int) -> Callable[..., Any]:
    half, width = D // 2, vector_width(D)

    @kernel
    def gather(rows_NS, tag_state_N4, objective, w, num_drawn, ids_S, multiplicity_K, rows_SD, bias_S, weight_K):
        """Copy the rows of the tags ids_S, of either form, with their biases, and find the weights of negatives."""
        S, K, like = len(ids_S), len(weight_K), zeros(width)
        for s in range(S):
            if s + _AHEAD_ROWS < S:
                ahead = np.int64(ids_S[s + _AHEAD_ROWS])
                prefetch_read(values_from(tag_state_N4, ahead), 0)
                for j in range(0, words, LINE_FLOATS):
                    prefetch_read(values_from(rows_NS, ahead), j)
            row, out_D = values_from(rows_NS, ids_S[s]), values_from(rows_SD, s)
            for j in range(0, half, width):
                store(out_D, j, low(row, j, like))
                store(out_D, j + half, high(row, j, half, like))
            state = values_from(tag_state_N4, ids_S[s])
            bias_S[s] = state[BIAS]
            if s < K:
                weight = negative_weight(objective, w, num_drawn, state[LOG_Q])
                weight_K[s] = times(objective, weight, multiplicity_K[s])

    return gather


@inlined_kernel
def _fetch_positive(rows_SD, pos_slots, p, D):
    """Ask for the row of a positive that is some places on."""
    if p + _AHEAD_POSITIVES < len(pos_slots):
        row = values_from(rows_SD, pos_slots[p + _AHEAD_POSITIVES])
        for j in range(0, D, LINE_FLOATS):
            prefetch_read(row, j)


def _differentiate(D: int) -> Callable[..., Any]:
    half, width = D // 2, vector_width(D)

    @kernel
    def differentiate(
        objective,
        features_BD,
        pos_offsets_B1,
        pos_slots,
        pos_grads,
        pos_weights,
        rows_SD,
        bias_S,
        weight_K,
        scores_BK,
        loss_B,
    ):
        """scores_BK becomes dLoss/dscore, pos_grads the same of positives; whether all losses are finite."""
        K, like, all_finite = scores_BK.shape[1], zeros(width), True
        for b in range(len(loss_B)):
            scores_K, f = scores_BK[b], values_from(features_BD, b)
            for k in range(K):
                scores_K[k] += bias_S[k]
            start, stop = pos_offsets_B1[b], pos_offsets_B1[b + 1]
            for p in range(start, stop):
                _fetch_positive(rows_SD, pos_slots, p, D)
                slot = np.int64(pos_slots[p])
                pos_grads[p] = dot(values_from(rows_SD, slot), f, half, like, values_from(bias_S, slot)[0])
            loss_B[b] = loss_terms(objective, pos_grads[start:stop], pos_weights[start:stop], scores_K, weight_K)
            all_finite &= loss_B[b] < np.inf
        return all_finite

    return differentiate


def _add_positive_rows(D: int) -> Callable[..., Any]:
    half, width = D // 2, vector_width(D)

    @kernel
    def add_positive_rows(features_BD, pos_offsets_B1, pos_slots, pos_grads, rows_SD, feature_grad_BD):
        """Complete the feature gradient, which holds that of the negatives; whether all of it is finite."""
        like = zeros(width)
        nothing = like
        for b in range(len(feature_grad_BD)):
            g = values_from(feature_grad_BD, b)
            for p in range(pos_offsets_B1[b], pos_offsets_B1[b + 1]):
                _fetch_positive(rows_SD, pos_slots, p, D)
                add(values_from(rows_SD, pos_slots[p]), g, half, like, pos_grads[p])
            for j in range(0, D, width):
                nothing = fma(_ZERO, load(g, j, like), nothing)  # 0 x is 0, unless x is NaN or infinite
        return total(nothing) == _ZERO

    return add_positive_rows


def _add_positive_features(D: int) -> Callable[..., Any]:
    half, width = D // 2, vector_width(D)

    @kernel
    def add_positive_features(features_BD, pos_offsets_B1, pos_slots, pos_grads, scores_BK, grads_SD, bias_grads_S):
        """Complete the row gradients, whose negative slots hold C^T F, and make the biases'."""
        K, like = scores_BK.shape[1], zeros(width)
        grads_SD[K:] = _ZERO
        bias_grads_S[:] = _ZERO
        for b in range(len(features_BD)):
            scores_K, f = scores_BK[b], values_from(features_BD, b)
            for k in range(K):
                bias_grads_S[k] += scores_K[k]
            for p in range(pos_offsets_B1[b], pos_offsets_B1[b + 1]):
                _fetch_positive(grads_SD, pos_slots, p, D)
                add(f, values_from(grads_SD, pos_slots[p]), half, like, pos_grads[p])
                bias_grads_S[np.uint64(pos_slots[p])] += pos_grads[p]

    return add_positive_features


def _scatter(D: int, words: int) -> Callable[..., Any]:
    half, width, rounds = D // 2, vector_width(D), words < D

    @kernel
    def scatter(
        rows_NS,
        tag_state_N4,
        noise,
        optimizer,
        lr,
        keep,
        max_norm,
        decays,
        key,
        ids_S,
        grads_SD,
        bias_grads_S,
        squares_S,
    ):
        """Write the rows; returns how many, or -1 if a gradient is not finite and nothing was written."""
        S, like, update = len(ids_S), zeros(width), RowUpdate(optimizer, lr, keep, max_norm, decays)
        for s in range(S):
            grad = values_from(grads_SD, s)
            squares = like
            for j in range(0, D, width):
                squares = fma(load(grad, j, like), load(grad, j, like), squares)
            squares_S[s] = total(squares) / np.float32(D)
            bias_square = bias_grads_S[s] * bias_grads_S[s]
            if not (is_safe(update, squares_S[s], D) and is_safe(update, bias_square, 1)):
                return -1
        written = 0
        for s in range(S):
            if s + _AHEAD_ROWS < S:
                ahead = np.int64(ids_S[s + _AHEAD_ROWS])
                prefetch_write(values_from(tag_state_N4, ahead), 0)
                for j in range(0, words, LINE_FLOATS):
                    prefetch_write(values_from(rows_NS, ahead), j)
            bias_grad = bias_grads_S[s]
            if squares_S[s] == _ZERO and bias_grad == _ZERO:
                continue  # masked everywhere: not a write at all
            written += 1
            state = values_from(tag_state_N4, ids_S[s])
            state[ROW_ACC] = accumulate(update.optimizer, state[ROW_ACC], squares_S[s])
            state[BIAS_ACC] = accumulate(update.optimizer, state[BIAS_ACC], bias_grad * bias_grad)
            state[BIAS] -= step_size(update, state[BIAS_ACC]) * bias_grad
            row, move = values_from(rows_NS, ids_S[s]), -step_size(update, state[ROW_ACC])
            at = noise_start(key, s) if rounds else 0
            write(row, values_from(grads_SD, s), half, like, move, update.keep, noise, at)
            if update.max_norm > _ZERO:
                at = (at + NOISE_WORDS // 2) & (NOISE_WORDS - 1)
                bound(row, half, like, update.max_norm, noise, at)
        return written

    return scatter
