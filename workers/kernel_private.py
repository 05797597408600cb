"""The kernel with negatives drawn for each example alone, as word2vec does it: two passes over one example at a time.

    for each example:  all dots;  loss and dLoss/dscore;  all updates

Two passes break the chain dot -> sigmoid -> update -> next dot, and while one example is updated, the rows of the
next are fetched.

The row optimizer sees, per row and example, one gradient: duplicates within the example are merged, examples are not.
The rows that an example's dots, feature gradient and row gradients use are the rows as they were before it.

Concurrency: rows are read and written without locks (Hogwild); between an example's dots and its updates another
worker may move a row, and the update then adds to what is there. An example whose gradient is not finite is found
before its first write: rows stay finite, but earlier examples of a refused chunk remain applied.

Legend: B examples, D dim, K negatives drawn per example, S slots (distinct tags) of one example, negatives first.
"""

# mypy: allow-untyped-defs

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from workers.errors import ChunkError
from workers.jit import kernel
from workers.job import Job, Outcome, Tags
from workers.matrix import BIAS, BIAS_ACC, LOG_Q, ROW_ACC
from workers.objectives import MASKED, loss_terms, negative_weight, times
from workers.prefetch import LINE_FLOATS, prefetch_read, prefetch_write
from workers.row_optimizers import accumulate, bound_norm, is_safe, step_size
from workers.scratch import Scratch
from workers.slots import assign_slots, is_among, make_table

_ZERO = np.float32(0)


class Plan(NamedTuple):
    """The distinct tags of every example, one after the other, made before the first row is touched."""

    offsets_B1: np.ndarray
    """int64, where each example's slots start."""
    num_negatives_B: np.ndarray
    """int32, slots of distinct negatives."""
    slot_ids: np.ndarray
    multiplicity: np.ndarray
    """float32, draws of a negative; 0 if it is an accidental hit."""
    pos_slots: np.ndarray
    """int32, within the example."""


class Work(NamedTuple):
    """Memory for one example."""

    scores_S: np.ndarray
    weights_S: np.ndarray
    pos_scores_P: np.ndarray


def run_private(tags: Tags, job: Job, scratch: Scratch) -> Outcome:
    """Compute a chunk, updating rows after each example if the job says so.

    Raises:
        ChunkError: a loss or gradient is not finite; neither that example nor later ones were applied.
    """
    B, D = job.features_BD.shape
    K, num_pos = job.loss.num_drawn, len(job.positives.ids)
    most_pos = int(np.diff(job.positives.offsets_B1).max())
    capacity = B * K + num_pos
    plan = Plan(
        scratch.array("slot_offsets", B + 1, np.int64),
        scratch.array("num_negative_slots", B, np.int32),
        scratch.array("slot_ids", capacity, np.int32),
        scratch.array("multiplicity", capacity, np.float32),
        scratch.array("pos_slots", num_pos, np.int32),
    )
    hits = _make_plan(make_table(scratch, K + most_pos), job, plan)
    work = Work(
        scratch.array("scores", K + most_pos, np.float32),
        scratch.array("neg_weights", K + most_pos, np.float32),
        scratch.array("pos_grads", most_pos, np.float32),
    )
    loss_B = scratch.array("loss", B, np.float32)
    feature_grad_BD = scratch.array("feature_grad", (B, D), np.float32)
    rows_written = _compile(D)(tags, job, plan, work, loss_B, feature_grad_BD)
    if rows_written < 0:
        b = -1 - rows_written
        raise ChunkError(
            f"features_BD: example {b} gives a loss or gradient that is not finite. Lower the learning rates."
        )
    return Outcome(loss_B, feature_grad_BD, rows_written, hits)


@kernel
def _make_plan(table, job, plan):
    """Fill the plan; returns the number of accidental hits."""
    K, hits = job.loss.num_drawn, np.int64(0)
    plan.offsets_B1[0] = 0
    for b in range(len(job.features_BD)):
        start = plan.offsets_B1[b]
        pos_start, pos_stop = job.positives.offsets_B1[b], job.positives.offsets_B1[b + 1]
        ids_S, multiplicity_S = plan.slot_ids[start:], plan.multiplicity[start:]
        neg_ids_K, pos_ids = job.neg_ids[b * K : (b + 1) * K], job.positives.ids[pos_start:pos_stop]
        num_negatives, num_slots = assign_slots(
            table, b, neg_ids_K, pos_ids, ids_S, multiplicity_S, plan.pos_slots[pos_start:pos_stop]
        )
        for s in range(num_negatives):
            if is_among(job.truth.tags, job.truth.starts_B[b], job.truth.stops_B[b], ids_S[s]):
                hits += np.int64(multiplicity_S[s])
                multiplicity_S[s] = _ZERO
        plan.num_negatives_B[b] = num_negatives
        plan.offsets_B1[b + 1] = start + num_slots
    return hits


@kernel
def _to_gradients(tags, job, plan, b, work):
    """Turn the dots of example b into dLoss/dscore of its slots; returns its loss."""
    start, K = plan.offsets_B1[b], plan.num_negatives_B[b]
    S = plan.offsets_B1[b + 1] - start
    for s in range(S):
        state = tags.tag_state_N4[np.uint64(plan.slot_ids[start + s])]
        work.scores_S[s] += state[BIAS]
        if s < K:
            weight = negative_weight(job.loss.objective, job.loss.negative_weight, job.loss.num_drawn, state[LOG_Q])
            multiplicity = plan.multiplicity[start + s]
            work.weights_S[s] = _ZERO if multiplicity == _ZERO else times(job.loss.objective, weight, multiplicity)
    pos_start = job.positives.offsets_B1[b]
    P = np.int64(job.positives.offsets_B1[b + 1] - pos_start)
    for p in range(P):
        work.pos_scores_P[p] = work.scores_S[plan.pos_slots[pos_start + p]]
    for s in range(S):
        if s < K and plan.multiplicity[start + s] == _ZERO:
            work.scores_S[s] = MASKED
        elif s >= K:
            work.scores_S[s] = _ZERO
    weights_P = job.positives.weights[pos_start : pos_start + P]
    loss = loss_terms(job.loss.objective, work.pos_scores_P[:P], weights_P, work.scores_S[:K], work.weights_S[:K])
    for p in range(P):
        work.scores_S[plan.pos_slots[pos_start + p]] += work.pos_scores_P[p]
    return loss


@kernel
def _all_safe(update, grads_S, S, square, D):
    """Whether every row gradient, grads_S[s] times features of that mean square, may be written."""
    for s in range(S):
        grad_square = grads_S[s] * grads_S[s]
        if not (is_safe(update, grad_square * square, D) and is_safe(update, grad_square, 1)):
            return False
    return True


@kernel
def _write_state(state, update, grad, square):
    """Move a row's bias and accumulators; returns the step size of the row."""
    state[ROW_ACC] = accumulate(update.optimizer, state[ROW_ACC], grad * grad * square)
    state[BIAS_ACC] = accumulate(update.optimizer, state[BIAS_ACC], grad * grad)
    state[BIAS] -= step_size(update, state[BIAS_ACC]) * grad
    return step_size(update, state[ROW_ACC])


@functools.cache
def _compile(D: int) -> Callable[..., int]:
    """The kernel for one dim, a constant of the code, so that LLVM turns plain loops into the widest vectors."""

    @kernel
    def run(tags, job, plan, work, loss_B, feature_grad_BD):
        """Rows written, or -1 - b if example b is not finite."""
        B, written, update = len(loss_B), 0, job.update
        for s in range(plan.offsets_B1[1]):
            for j in range(0, D, LINE_FLOATS):
                prefetch_read(tags.rows_ND, np.uint64(plan.slot_ids[s]), j)
        for b in range(B):
            features_D, grad_D = job.features_BD[b], feature_grad_BD[b]
            start, stop = plan.offsets_B1[b], plan.offsets_B1[b + 1]
            ahead, ahead_stop = stop, plan.offsets_B1[b + 2] if b + 1 < B else stop
            square = _ZERO
            for j in range(D):
                square += features_D[j] * features_D[j]
                grad_D[j] = _ZERO
            square /= np.float32(D)
            for i in range(start, stop):
                row_D, dot = tags.rows_ND[np.uint64(plan.slot_ids[i])], _ZERO
                for j in range(D):
                    dot += row_D[j] * features_D[j]
                work.scores_S[i - start] = dot
            for i in range(ahead, ahead_stop):  # start the next example's page walks before these sigmoids
                prefetch_read(tags.rows_ND, np.uint64(plan.slot_ids[i]), 0)
                prefetch_write(tags.tag_state_N4, np.uint64(plan.slot_ids[i]), 0)
            loss_B[b] = _to_gradients(tags, job, plan, b, work)
            if not (loss_B[b] < np.inf and _all_safe(update, work.scores_S, stop - start, square, D)):
                return -1 - b
            for i in range(start, stop):
                next_row = ahead + (i - start)
                if next_row < ahead_stop:
                    for j in range(0, D, LINE_FLOATS):
                        prefetch_write(tags.rows_ND, np.uint64(plan.slot_ids[next_row]), j)
                grad, row_D = work.scores_S[i - start], tags.rows_ND[np.uint64(plan.slot_ids[i])]
                if grad == _ZERO or not job.writes:
                    for j in range(D):
                        grad_D[j] += grad * row_D[j]
                    continue
                written += 1
                move = -grad * _write_state(tags.tag_state_N4[np.uint64(plan.slot_ids[i])], update, grad, square)
                for j in range(D):
                    old = row_D[j]
                    grad_D[j] += grad * old
                    row_D[j] = old + move * features_D[j]
                if update.max_norm > _ZERO:
                    bound_norm(row_D, update.max_norm)
        return written

    return run
