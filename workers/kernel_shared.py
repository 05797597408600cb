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
from workers.jit import kernel
from workers.job import Answer, Job, Outcome
from workers.objectives import loss_terms, negative_weight, times
from workers.prefetch import LINE_FLOATS, prefetch_read, prefetch_write
from workers.rounding import NOISE_WORDS, noise_start
from workers.row_blocks import bound, write
from workers.row_optimizers import accumulate, is_safe, step_size
from workers.rows import vector_width
from workers.scratch import Scratch
from workers.slots import FILTER_SIZE, assign_slots, make_table, mask_hits
from workers.tags import BIAS, BIAS_ACC, LOG_Q, ROW_ACC, Tags
from workers.vectors import high, low, store, values_from, zeros

_AHEAD_ROWS = 8  # rows fetched before their turn
_ZERO = np.float32(0)


class Gathered(NamedTuple):
    """The chunk's distinct tags and their parameters."""

    slot_ids_S: np.ndarray
    rows_SD: np.ndarray
    bias_S: np.ndarray
    weight_K: np.ndarray
    """float32, multiplicity on entry of `gather`, then the weight in the loss."""
    pos_slots: np.ndarray


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
    rows_SD = scratch.array("rows", (S, D), np.float32)
    weight_K = scratch.array("neg_weights", K, np.float32)
    gathered = Gathered(slot_ids[:S], rows_SD, scratch.array("bias", S, np.float32), weight_K, pos_slots)
    kernels.gather(tags, job.loss, multiplicity, gathered)
    scores_BK = scratch.array("scores", (B, K), np.float32)
    np.matmul(job.features_BD, rows_SD[:K].T, out=scores_BK)
    filter_bytes = scratch.array("filter", FILTER_SIZE, np.uint8)
    hits = mask_hits(table, job.truth, filter_bytes, slot_ids, multiplicity, scores_BK)
    loss_B, feature_grad_BD = answer
    pos_grads = scratch.array("pos_grads", len(pos_slots), np.float32)
    kernels.differentiate(job, gathered, scores_BK, pos_grads, loss_B)
    if not np.isfinite(loss_B).all():
        raise _refusal("a score or loss")
    np.matmul(scores_BK, rows_SD[:K], out=feature_grad_BD)
    kernels.add_positive_rows(job, gathered, pos_grads, feature_grad_BD)
    if not np.isfinite(feature_grad_BD).all():
        raise _refusal("the feature gradient")
    if not job.writes:
        return Outcome(loss_B, feature_grad_BD, 0, hits)
    grads_SD = scratch.array("row_grads", (S, D), np.float32)
    bias_grads_S = scratch.array("bias_grads", S, np.float32)
    np.matmul(scores_BK.T, job.features_BD, out=grads_SD[:K])
    kernels.add_positive_features(job, gathered, scores_BK, pos_grads, grads_SD, bias_grads_S)
    squares_S = scratch.array("squares", S, np.float32)
    rows_written = kernels.scatter(
        tags, job.update, job.rounding_key, gathered.slot_ids_S, grads_SD, bias_grads_S, squares_S
    )
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
    def gather(tags, loss, multiplicity_K, gathered):
        ids_S, like = gathered.slot_ids_S, zeros(width)
        S, K = len(ids_S), len(gathered.weight_K)
        for s in range(S):
            if s + _AHEAD_ROWS < S:
                ahead = np.uint64(ids_S[s + _AHEAD_ROWS])
                prefetch_read(values_from(tags.tag_state_N4, ahead), 0)
                for j in range(0, words, LINE_FLOATS):
                    prefetch_read(values_from(tags.rows_NS, ahead), j)
            row, out_D = tags.rows_NS[np.uint64(ids_S[s])], gathered.rows_SD[s]
            for j in range(0, half, width):
                store(out_D, j, low(row, j, like))
                store(out_D, j + half, high(row, j, half, like))
            state = tags.tag_state_N4[np.uint64(ids_S[s])]
            gathered.bias_S[s] = state[BIAS]
            if s < K:
                weight = negative_weight(loss.objective, loss.negative_weight, loss.num_drawn, state[LOG_Q])
                gathered.weight_K[s] = times(loss.objective, weight, multiplicity_K[s])

    return gather


def _differentiate(D: int) -> Callable[..., Any]:
    @kernel
    def differentiate(job, gathered, scores_BK, pos_grads, loss_B):
        """scores_BK becomes dLoss/dscore; pos_grads the same of positives."""
        K = scores_BK.shape[1]
        for b in range(len(loss_B)):
            scores_K, features_D = scores_BK[b], job.features_BD[b]
            for k in range(K):
                scores_K[k] += gathered.bias_S[k]
            start, stop = job.positives.offsets_B1[b], job.positives.offsets_B1[b + 1]
            for p in range(start, stop):
                slot = np.uint64(gathered.pos_slots[p])
                row_D, score = gathered.rows_SD[slot], _ZERO
                for j in range(D):
                    score += row_D[j] * features_D[j]
                pos_grads[p] = score + gathered.bias_S[slot]
            weights_P = job.positives.weights[start:stop]
            loss_B[b] = loss_terms(job.loss.objective, pos_grads[start:stop], weights_P, scores_K, gathered.weight_K)

    return differentiate


def _add_positive_rows(D: int) -> Callable[..., Any]:
    @kernel
    def add_positive_rows(job, gathered, pos_grads, feature_grad_BD):
        for b in range(len(feature_grad_BD)):
            grad_D = feature_grad_BD[b]
            for p in range(job.positives.offsets_B1[b], job.positives.offsets_B1[b + 1]):
                row_D, grad = gathered.rows_SD[np.uint64(gathered.pos_slots[p])], pos_grads[p]
                for j in range(D):
                    grad_D[j] += grad * row_D[j]

    return add_positive_rows


def _add_positive_features(D: int) -> Callable[..., Any]:
    @kernel
    def add_positive_features(job, gathered, scores_BK, pos_grads, grads_SD, bias_grads_S):
        """Complete the row gradients, whose negative slots hold C^T F, and make the biases'."""
        B, K = scores_BK.shape
        grads_SD[K:] = _ZERO
        bias_grads_S[:] = _ZERO
        for b in range(B):
            scores_K, features_D = scores_BK[b], job.features_BD[b]
            for k in range(K):
                bias_grads_S[k] += scores_K[k]
            for p in range(job.positives.offsets_B1[b], job.positives.offsets_B1[b + 1]):
                slot, grad = np.uint64(gathered.pos_slots[p]), pos_grads[p]
                bias_grads_S[slot] += grad
                grad_D = grads_SD[slot]
                for j in range(D):
                    grad_D[j] += grad * features_D[j]

    return add_positive_features


def _scatter(D: int, words: int) -> Callable[..., Any]:
    half, width, rounds = D // 2, vector_width(D), words < D

    @kernel
    def scatter(tags, update, rounding_key, ids_S, grads_SD, bias_grads_S, squares_S):
        """Write the rows; returns how many, or -1 if a gradient is not finite and nothing was written."""
        S, like = len(ids_S), zeros(width)
        for s in range(S):
            grad_D, square = grads_SD[s], _ZERO
            for j in range(D):
                square += grad_D[j] * grad_D[j]
            squares_S[s] = square / np.float32(D)
            bias_square = bias_grads_S[s] * bias_grads_S[s]
            if not (is_safe(update, squares_S[s], D) and is_safe(update, bias_square, 1)):
                return -1
        written = 0
        for s in range(S):
            if s + _AHEAD_ROWS < S:
                ahead = np.uint64(ids_S[s + _AHEAD_ROWS])
                prefetch_write(values_from(tags.tag_state_N4, ahead), 0)
                for j in range(0, words, LINE_FLOATS):
                    prefetch_write(values_from(tags.rows_NS, ahead), j)
            bias_grad = bias_grads_S[s]
            if squares_S[s] == _ZERO and bias_grad == _ZERO:
                continue  # masked everywhere: not a write at all
            written += 1
            state = tags.tag_state_N4[np.uint64(ids_S[s])]
            state[ROW_ACC] = accumulate(update.optimizer, state[ROW_ACC], squares_S[s])
            state[BIAS_ACC] = accumulate(update.optimizer, state[BIAS_ACC], bias_grad * bias_grad)
            state[BIAS] -= step_size(update, state[BIAS_ACC]) * bias_grad
            row, move = tags.rows_NS[np.uint64(ids_S[s])], -step_size(update, state[ROW_ACC])
            at = noise_start(rounding_key, s) if rounds else 0
            write(row, grads_SD[s], half, like, move, update.keep, tags.noise, at)
            if update.max_norm > _ZERO:
                at = (at + NOISE_WORDS // 2) & (NOISE_WORDS - 1)
                bound(row, half, like, update.max_norm, tags.noise, at)
        return written

    return scatter
