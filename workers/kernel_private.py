"""The kernel with negatives drawn for each example alone, as word2vec does it: two passes over one example at a time.

    for each example:  all dots;  loss and dLoss/dscore;  all updates

Two passes break the chain dot -> sigmoid -> update -> next dot. What limits them is memory, so each pass fetches its
part of the next example's rows, evenly spread over its own work. Everything else that the next example reads is fetched
ahead, too: one line that is not costs as much as two rows. Rows are taken four at a time, see `workers.row_blocks`.
Indexes are those of pointers (`vectors.values_from`), since an array's may be negative for all the compiler knows.

The row optimizer sees, per row and example, one gradient: duplicates within the example are merged, examples are not.
The rows that an example's dots, feature gradient and row gradients use are the rows as they were before it. Rows that
the chunk updates often are updated in private copies (`workers.hot_rows`).

Concurrency: rows are read and written without locks (Hogwild); between an example's dots and its updates another
worker may move a row, and the update then adds to what was there. An example whose gradient is not finite is found
before its first write: rows stay finite, but earlier examples of a refused chunk remain applied. Accidental hits, and
positives or examples of weight 0, are not written, unless they have a private copy. Other rows are, though their
gradient be exactly 0, as where a score is beyond 87: among examples without repeats they are not looked for.

Legend: B examples, D dim, K negatives drawn per example, S slots (distinct tags) of one example, negatives first.
"""

# mypy: allow-untyped-defs

import functools
from typing import Any, NamedTuple

import numpy as np

from workers.config import NEGATIVE_SAMPLING
from workers.counters import ROUNDING, stream_key_of
from workers.errors import ChunkError
from workers.example_weights import weigh
from workers.feature_blocks import clear
from workers.fetching import (
    FAR_BYTES,
    SHORT_ROW,
    early_words,
    fetch_features,
    fetch_next_features,
    fetch_plan,
    fetch_rows,
    touch_rows,
)
from workers.hot_rows import HotRows, hot_rows, merge_hot, take_hot
from workers.jit import Entry, inlined_kernel, kernel
from workers.objectives import loss_terms, negative_weight, softplus_terms, times
from workers.prepared_chunk import Answer, Loss, PreparedChunk
from workers.private_plan import Plan, PlanMemory, PlanSize, fill_plan, make_plan, plan_memory
from workers.row_blocks import add
from workers.row_optimizers import RowUpdate, is_safe
from workers.row_passes import bound_rows, move_four, move_rest, move_state, score_rows
from workers.rows import dim_of
from workers.scratch import Scratch
from workers.slots import MASKED
from workers.tags import LOG_Q, Tags
from workers.vectors import row_of, values_from, zeros
from workers.widths import vector_widths

_ZERO, _ONE = np.float32(0), np.float32(1)


class Work(NamedTuple):
    """Memory for one example."""

    scores_S: np.ndarray
    """Dots, then dLoss/dscore."""
    weights_S: np.ndarray
    pos_scores_P: np.ndarray
    pos_weights_P: np.ndarray
    places_A: np.ndarray
    """int32, places of the A slots that have a gradient; the next two run parallel to it."""
    grads_A: np.ndarray
    moves_A: np.ndarray


_WORK = (np.float32, np.float32, np.float32, np.float32, np.int32, np.float32, np.float32)
"""Types of `Work`."""


class _Memory(NamedTuple):
    """For chunks up to one size, with the kernel that works in it."""

    planning: PlanMemory
    hot: HotRows
    run: Entry
    row_arguments: tuple[np.ndarray, ...]
    """Of the shared rows and of copies; put together once, not for each chunk, as are the next."""
    work_arguments: tuple[Any, ...]
    """The plan, working memory, and whether the rows are far."""


class Planned(NamedTuple):
    """A chunk of which everything is known but what its rows hold."""

    memory: _Memory
    num_hot: int
    answer: Answer


_NOT_PLANNED = -1
"""In place of the number of hot rows."""


def run_private(tags: Tags, chunk: PreparedChunk, scratch: Scratch, answer: Answer) -> tuple[int, int]:
    """Compute a chunk, updating rows after each example if it says so.

    Args:
        tags: of one matrix; it and the row optimizer are the same for all chunks that share this scratch memory.
        chunk: what to compute.
        scratch: working memory.
        answer: where the kernel puts it.

    Returns:
        (row writes, accidental hits)

    Raises:
        ChunkError: a loss or gradient is not finite; neither that example nor later ones were applied.
    """
    return run_planned(chunk, Planned(_memory_for(tags, chunk, scratch), _NOT_PLANNED, answer))


def plan_chunk(tags: Tags, chunk: PreparedChunk, scratch: Scratch, answer: Answer) -> Planned:
    """Make the plan alone, for whoever wants to time what follows; see `run_private`."""
    memory = _memory_for(tags, chunk, scratch)
    return Planned(memory, make_plan(chunk, memory.planning, memory.hot.ids_H)[0], answer)


def _memory_for(tags: Tags, chunk: PreparedChunk, scratch: Scratch) -> _Memory:
    sizes = len(chunk.features_BD), len(chunk.pos_ids_A), len(chunk.neg_ids), chunk.num_drawn
    return scratch.grown("private kernel", sizes, _memory, tags, chunk, scratch)


def _memory(sizes: tuple[int, ...], tags: Tags, chunk: PreparedChunk, scratch: Scratch) -> _Memory:
    size, words = PlanSize(*sizes), tags.rows_NS.shape[1]
    planning, hot = plan_memory(size, scratch), scratch.kept("hot rows", words, hot_rows, tags, scratch)
    work = (scratch.empty(size.most_slots, of) for of in _WORK)
    run = _compile(dim_of(tags.rows_NS), words, chunk.optimizer, chunk.decays)
    arguments = (*planning.plan, *planning.tables, *work, tags.rows_NS.nbytes > FAR_BYTES)
    return _Memory(planning, hot, run, (*tags, *hot), arguments)


def run_planned(chunk: PreparedChunk, planned: Planned) -> tuple[int, int]:
    """The kernel itself, see `run_private`; without accidental hits if the plan was made before."""
    memory, num_hot, answer = planned
    rows_written, hits = memory.run.call(*memory.row_arguments, num_hot, *memory.work_arguments, *chunk, *answer)
    if rows_written < 0:
        what = f"example {-1 - rows_written} gives a loss or gradient that is not finite"
        raise ChunkError(f"features_BD: {what}. Lower the learning rates.")
    return rows_written, hits


@inlined_kernel
def _differentiate(tags, hot, loss, pos_offsets_B1, plan, b, work):
    """Turn the scores of example b into dLoss/dscore of its slots, simple or not; returns its loss."""
    start, stop, objective = plan.offsets_B2[b], plan.offsets_B2[b + 1], loss.objective
    places_S, multiplicity_S = plan.places[start:stop], plan.multiplicity[start:stop]
    pos_start, pos_stop = pos_offsets_B1[b], pos_offsets_B1[b + 1]
    pos_slots_P, pos_weights_P = plan.pos_slots_A[pos_start:pos_stop], plan.pos_weights_A[pos_start:pos_stop]
    K, P, S = np.int64(plan.num_negatives_B[b]), len(pos_slots_P), len(places_S)
    for p in range(P):
        work.pos_scores_P[p] = work.scores_S[np.uint64(pos_slots_P[p])]
        work.pos_weights_P[p] = pos_weights_P[p]
    weight = negative_weight(objective, loss.negative_weight, loss.num_drawn, _ZERO)
    for k in range(K):  # a multiplicity of 0 is an accidental hit
        work.weights_S[k] = weight * multiplicity_S[k]
        work.scores_S[k] = work.scores_S[k] if multiplicity_S[k] > _ZERO else MASKED
    if objective != NEGATIVE_SAMPLING:
        for k in range(K):
            log_q = row_of(tags.tag_state_N4, hot.state_H4, places_S[k], 4)[LOG_Q]
            is_hit = multiplicity_S[k] == _ZERO
            work.weights_S[k] = _ZERO if is_hit else times(objective, weight - log_q, multiplicity_S[k])
    loss = loss_terms(
        objective,
        work.pos_scores_P[:P],
        work.pos_weights_P[:P],
        work.scores_S[:K],
        work.weights_S[:K],
    )
    for s in range(K, S):
        work.scores_S[s] = _ZERO
    for p in range(P):
        work.scores_S[np.uint64(pos_slots_P[p])] += work.pos_scores_P[p]
    return loss


@inlined_kernel
def _list_gradients(plan, b, work):
    """List the places and gradients of the slots that have one; returns (A, the sum of the gradients' squares)."""
    start, A, square = plan.offsets_B2[b], 0, _ZERO
    for s in range(plan.offsets_B2[b + 1] - start):
        grad = work.scores_S[s]
        work.places_A[A], work.grads_A[A] = plan.places[start + s], grad
        square += grad * grad
        A += grad != _ZERO
    return A, square


@functools.cache
def _compile(D: int, words: int, optimizer: int, decays: bool) -> Entry:
    """The kernel for one dim, form of rows, optimizer, with decay or without: constants of its code.

    Args:
        D: columns of a row.
        words: length of a stored row.
        optimizer: a code of `workers.row_optimizers`.
        decays: a product with 1 is left out, a third of the arithmetic of an update.
    """
    # Longer than a function should be: with the second pass in a function of its own, inlined again, LLVM orders the
    # code otherwise, and it is slower.
    half, (wide, narrow) = D // 2, vector_widths(D)
    early = early_words(words)

    @kernel
    def run(
        rows_NS, tag_state_N4, noise,
        ids_H, rows_HS, state_H4, rows_before_HS, state_before_H4, num_hot,
        offsets_B2, num_negatives_B, is_simple_B, plan_places, plan_weights, multiplicity, pos_slots_A,
        plan_pos_weights_A, slots, sightings, suspects_S, hot_table,
        scores_S, weights_S, pos_scores_P, pos_weights_P, places_A, grads_A, moves_A, are_far,
        features_BD, neg_ids, pos_ids_A, pos_offsets_B1, pos_factors_A, example_weights_B, items_B, true_offsets_B1,
        true_tags, step, chunk, seed, item_offsets, objective, w, num_drawn, _optimizer, lr, keep, max_norm, _decays,
        writes, loss_B, feature_grad_BD,
    ):  # fmt: skip
        """(Rows written, or -1 - b if example b is not finite; accidental hits). Arguments lie flat, see `workers.jit`.

        A chunk with fewer than 0 hot rows is planned first.
        """
        hits, rounding_key = 0, stream_key_of(seed, step, chunk, ROUNDING)
        if num_hot < 0:
            copies_hot = writes and not decays and max_norm == _ZERO  # see `workers.hot_rows`
            num_hot, hits = fill_plan(
                slots, sightings, suspects_S, hot_table, ids_H, neg_ids, pos_ids_A, pos_offsets_B1, pos_factors_A,
                items_B, item_offsets, true_offsets_B1, true_tags, objective, w, num_drawn, copies_hot, offsets_B2,
                num_negatives_B, is_simple_B, plan_places, plan_weights, multiplicity, pos_slots_A, plan_pos_weights_A,
            )  # fmt: skip
        tags = Tags(rows_NS, tag_state_N4, noise)
        hot = HotRows(ids_H, rows_HS, state_H4, rows_before_HS, state_before_H4)
        plan = Plan(
            offsets_B2, num_negatives_B, is_simple_B, plan_places, plan_weights, multiplicity, pos_slots_A,
            plan_pos_weights_A,
        )  # fmt: skip
        work = Work(scores_S, weights_S, pos_scores_P, pos_weights_P, places_A, grads_A, moves_A)
        loss = Loss(objective, w, num_drawn)
        rule = RowUpdate(optimizer, lr, keep if decays else _ONE, max_norm, decays)
        B, written, bad, likes = len(loss_B), 0, -1, (zeros(wide), zeros(narrow))
        moves = values_from(work.moves_A, 0)
        take_hot(tags, hot, num_hot)
        fetch_rows(tags, hot, words, values_from(plan.places, 0), 0, plan.offsets_B2[1], 0, words)
        for b in range(B):
            f, g = values_from(features_BD, b), values_from(feature_grad_BD, b)
            start, stop = plan.offsets_B2[b], plan.offsets_B2[b + 1]
            next_places, num_next = values_from(plan.places, stop), plan.offsets_B2[b + 2] - stop
            places, weights = values_from(plan.places, start), values_from(plan.weights, start)
            scores = values_from(work.scores_S, 0)
            fetch_features(f, g, D)
            fetch_plan(weights, next_places, stop - start, num_next)
            if words <= SHORT_ROW and are_far:  # places of the example after the next: mostly as many as of the next
                touch_rows(tags, hot, words, values_from(plan.places, stop + num_next), num_next)
            square = clear(f, g, D, likes)
            score_rows(tags, hot, words, places, stop - start, next_places, num_next, early, f, half, likes, scores)
            A, grads = stop - start, scores
            if plan.is_simple_B[b]:
                loss_B[b], grad_square = softplus_terms(scores, weights, A)
            else:
                loss_B[b], grad_square = _differentiate(tags, hot, loss, pos_offsets_B1, plan, b, work), _ZERO
            if len(example_weights_B) > 0:
                A, grad_square = weigh(example_weights_B[b], loss_B, b, scores, A, grad_square)
            if not plan.is_simple_B[b]:
                A, grad_square = _list_gradients(plan, b, work)
                places, grads = values_from(work.places_A, 0), values_from(work.grads_A, 0)
            if not (loss_B[b] < np.inf and is_safe(rule, grad_square * max(square, _ONE), 1)):
                bad = b
                break
            fetch_next_features(f, g, D)
            if not writes:
                fetch_rows(tags, hot, words, next_places, 0, num_next, early, words)
                for i in range(A):
                    add(row_of(tags.rows_NS, hot.rows_HS, places[i], words), g, half, likes, grads[i])
                continue
            written += A
            mean_square, whole = square / np.float32(D), A & ~3
            for i in range(0, whole, 4):  # state between rows: in a loop of its own it costs more
                move_state(tags, hot, rule, places, grads, mean_square, i, i + 4, moves)
                move_four(
                    tags, hot, words, places, grads, moves, i, rule.keep, rounding_key, start, next_places, early,
                    f, g, half, likes,
                )  # fmt: skip
            fetch_rows(tags, hot, words, next_places, whole, num_next, early, words)
            move_state(tags, hot, rule, places, grads, mean_square, whole, A, moves)
            move_rest(
                tags, hot, words, places, grads, moves, whole, A, rule.keep, rounding_key, start, f, g, half, likes
            )
            if max_norm > _ZERO:
                bound_rows(tags, hot, words, places, A, max_norm, rounding_key, start, half, likes)
        merge_hot(tags, hot, num_hot, half, likes, rounding_key)
        return written if bad < 0 else -1 - bad, hits

    return Entry(run)
