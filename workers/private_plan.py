"""The plan of a chunk with private negatives: which rows each example touches, made before the first row is touched.

Hardly any example has a tag twice, or draws a true one. So all tags of an example, true and drawn, go through a table
that says which of its slots are suspect of either (`workers.sightings`), and only those are compared, sixteen tags at
once. Only in examples that are not simple, see `Plan`, repeats are merged through a hash table.

Legend: B examples, A positives of all examples, K negatives drawn per example, S slots (distinct tags) of one example,
negatives first; P positives of one.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.accidental_hits import mask_true
from workers.config import NEGATIVE_SAMPLING
from workers.hot_tags import NUM_BUCKETS, TABLE_SIZE, place_hot
from workers.jit import inlined_kernel, kernel
from workers.matching import TAGS_AT_ONCE, place_among
from workers.prepared_chunk import Loss, Positives, PreparedChunk, Truth, true_range
from workers.scratch import Scratch
from workers.sightings import ANY_SIGHT, SLOT_SIGHT, see, see_true
from workers.slots import assign_slots, is_among, table_size
from workers.vectors import values_from

_ZERO, _ONE = np.float32(0), np.float32(1)
_ROOM = TAGS_AT_ONCE
"""Beside an example of the largest size, so far as kernels fetch and touch rows beyond the last example: they fetch by
fours, and here tags are compared in blocks."""
_MOST_TAGS = 512  # of an example; to compare more with each other takes longer than a hash table
_GONE = np.int32(-1)  # instead of a tag that has no slot of its own


class Plan(NamedTuple):
    """The distinct tags of every example, one example after the other.

    An example is simple if every positive has a weight, none was drawn as a negative, the objective is negative
    sampling, and draws and positives together are few. All that its loss needs of its slots are their weights.
    """

    offsets_B2: np.ndarray
    """int64 [at least B + 2], where each example's slots start, then, more than once, where the last one's end: 0 5 9 9
    for examples of 5 and 4 slots. So the last one has an example after it, too: an empty one."""
    num_negatives_B: np.ndarray
    """int32, slots of distinct negatives."""
    is_simple_B: np.ndarray
    places: np.ndarray
    """int32, where the row of each slot is, see `workers.hot_rows`."""
    weights: np.ndarray
    """float32, of simple examples: w/K of each draw of a negative, and below 0 that of a positive."""
    multiplicity: np.ndarray
    """float32, of the others: draws of a negative; 0 if it is an accidental hit."""
    pos_slots_A: np.ndarray
    """int32, of the others: the positives' slots, counted within the example."""
    pos_weights_A: np.ndarray
    """float32, of the others: c_p / P of each positive."""


class _Tables(NamedTuple):
    """Working memory."""

    slots: np.ndarray
    """int64, to find a tag's slot."""
    sightings: np.ndarray
    """uint32, see `workers.sightings`."""
    suspects_S: np.ndarray
    """int32, slots whose tag may have been seen before."""
    hot: np.ndarray
    """int32, to find a tag's copy."""


class PlanMemory(NamedTuple):
    """For plans of chunks up to one size."""

    plan: Plan
    tables: _Tables


class PlanSize(NamedTuple):
    """What the plan of a chunk needs."""

    num_examples: int
    num_positives: int
    num_negatives: int
    num_drawn: int
    """For one example."""

    @property
    def most_slots(self) -> int:
        """Of one example, which might have all positives."""
        return self.num_drawn + self.num_positives


def plan_memory(size: PlanSize, scratch: Scratch) -> PlanMemory:
    """Memory with arbitrary contents: slots of all examples, and what is looked at beyond the last one."""
    B, A, S, empty = size.num_examples, size.num_positives, size.most_slots, scratch.empty
    capacity = size.num_negatives + A + S + _ROOM
    plan = Plan(
        offsets_B2=empty(B + 2, np.int64),
        num_negatives_B=empty(B, np.int32),
        is_simple_B=empty(B, np.bool_),
        places=empty(capacity, np.int32),
        weights=empty(capacity, np.float32),
        multiplicity=empty(capacity, np.float32),
        pos_slots_A=empty(A, np.int32),
        pos_weights_A=empty(A, np.float32),
    )
    tables = _Tables(
        slots=empty(int(table_size(S)), np.int64),
        sightings=empty(NUM_BUCKETS, np.uint32),
        suspects_S=empty(S, np.int32),
        hot=empty(TABLE_SIZE, np.int32),
    )
    return PlanMemory(plan, tables)


def make_plan(chunk: PreparedChunk, memory: PlanMemory, hot_ids_H: np.ndarray) -> tuple[int, int]:
    """Fill the plan alone, see `fill_plan`.

    Args:
        chunk: what to compute.
        memory: of the chunk's size, or larger.
        hot_ids_H: int32, out: tags of hot rows.
    """
    plan, tables = memory
    copies_hot = chunk.writes and not chunk.update.shrinks
    return fill_plan(*tables, hot_ids_H, chunk.neg_ids, *chunk.positives, *chunk.truth, *chunk.loss, copies_hot, *plan)


@kernel
def fill_plan(
    slots, sightings, suspects_S, hot_table, hot_ids_H, neg_ids, ids_A, pos_offsets_B1, factors_A,
    items_B, item_offsets, true_offsets_B1, true_tags, objective, w, num_drawn, copies_hot,
    offsets_B2, num_negatives_B, is_simple_B, places, weights, multiplicity, pos_slots_A, pos_weights_A,
):  # fmt: skip
    """Fill the plan; returns the number of hot rows (none if they are not to be copied) and of accidental hits.

    Arguments lie flat, see `workers.jit`.
    """
    plan = Plan(offsets_B2, num_negatives_B, is_simple_B, places, weights, multiplicity, pos_slots_A, pos_weights_A)
    tables, loss = _Tables(slots, sightings, suspects_S, hot_table), Loss(objective, w, num_drawn)
    positives = Positives(ids_A, pos_offsets_B1, factors_A)
    truth = Truth(items_B, item_offsets, true_offsets_B1, true_tags)
    B, hits, start, num_hot = len(pos_offsets_B1) - 1, np.int64(0), np.int64(0), np.int64(0)
    sightings[:] = 0
    hot_table[:] = -1
    for b in range(B):
        plan.offsets_B2[b] = start
        num_slots, num_hits, num_hot = _plan_example(
            plan, tables, neg_ids, positives, truth, loss, b, start, hot_ids_H, num_hot
        )
        start += num_slots
        hits += num_hits
    plan.offsets_B2[B:] = start
    if not copies_hot:
        return np.int64(0), hits
    place_hot(sightings, hot_table, hot_ids_H, num_hot, places[:start])
    return num_hot, hits


@inlined_kernel
def _plan_example(plan, tables, neg_ids, positives, truth, loss, b, start, hot_ids_H, num_hot):
    """Plan one example, whose slots begin at `start`; returns (slots, accidental hits, hot rows so far)."""
    first, last = true_range(truth, b)
    pos_start, pos_stop = np.int64(positives.offsets_B1[b]), np.int64(positives.offsets_B1[b + 1])
    K, P = np.int64(loss.num_drawn), pos_stop - pos_start
    S, hits, repeats = K + P, np.int64(0), K + P > _MOST_TAGS
    drawn, ids_P = values_from(neg_ids, b * K), values_from(positives.ids_A, pos_start)
    tags, weights = values_from(plan.places, start), values_from(plan.weights, start)
    buckets, suspects_S, hot_table = tables.sightings, tables.suspects_S, tables.hot
    weight, share = np.float32(loss.negative_weight / np.float32(K)), _share(P)
    see_true(buckets, b, truth.tags, first, last)
    n, num_hot = see(
        buckets, b, drawn, weight, tags, weights, 0, K, ANY_SIGHT, suspects_S, 0, hot_table, hot_ids_H, num_hot
    )
    n, num_hot = see(
        buckets, b, ids_P, -share, tags, weights, K, S, SLOT_SIGHT, suspects_S, n, hot_table, hot_ids_H, num_hot
    )
    is_simple = _weigh_by_factors(weights, K, positives, pos_start, P)
    is_simple &= loss.objective == NEGATIVE_SAMPLING and not repeats
    if n > 0 and not repeats:
        hits, repeats, is_mixed = _leave_out(tags, weights, K, suspects_S, n, truth.tags, first, last)
        is_simple &= not is_mixed
    num_negatives, num_slots = K, S
    if repeats and not is_simple:
        multiplicity, pos_slots = plan.multiplicity[start:], plan.pos_slots_A[pos_start:pos_stop]
        neg_ids_K, pos_ids = neg_ids[b * K : (b + 1) * K], positives.ids_A[pos_start:pos_stop]
        slots = assign_slots(tables.slots, neg_ids_K, pos_ids, plan.places[start:], multiplicity, pos_slots)
        num_negatives, num_slots = np.int64(slots[0]), np.int64(slots[1])
        hits = mask_true(tags, num_negatives, truth.tags, first, last, multiplicity)
    elif hits > 0 or repeats:
        num_negatives, num_slots = _close_gaps(tags, weights, K, S)
    if not is_simple:
        _weigh_positives(plan, positives, pos_start, P)
    if not (is_simple or repeats):
        plan.multiplicity[start : start + num_negatives] = _ONE
        for p in range(P):
            plan.pos_slots_A[pos_start + p] = num_negatives + p
    plan.num_negatives_B[b], plan.is_simple_B[b] = num_negatives, is_simple
    return num_slots, hits, num_hot


@inlined_kernel
def _leave_out(tags, weights, K, suspects_S, n, true_tags, first, last):
    """Leave out what is none of an example's distinct tags: a hit, or a tag whose weight an earlier slot takes.

    Returns:
        (accidental hits, whether tags repeat, whether a negative is a positive, too: then weights are not right)
    """
    hits, repeats, is_mixed = np.int64(0), False, False
    for j in range(n):
        i = np.int64(suspects_S[np.uint64(j)])
        if i < K and is_among(true_tags, first, last, tags[i]):
            tags[i] = _GONE
            hits += 1
            continue
        earlier = place_among(tags, i, tags[i])
        if earlier < i:
            is_mixed |= earlier < K and i >= K
            weights[earlier] += weights[i]
            tags[i], repeats = _GONE, True
    return hits, repeats, is_mixed


@inlined_kernel
def _close_gaps(tags, weights, K, S):
    """Move the slots that were not left out forward; returns how many of negatives there are, and of all."""
    kept, negatives = np.int64(0), np.int64(0)
    for i in range(S):
        stays = tags[i] != _GONE
        tags[kept], weights[kept] = tags[i], weights[i]
        kept += stays
        negatives += stays and i < K
    return negatives, kept


@inlined_kernel
def _weigh_by_factors(weights, K, positives, pos_start, P):
    """Multiply the weights of a simple example's positives by their factors; whether none is 0."""
    has_all = True
    if len(positives.factors_A) > 0:
        factors = values_from(positives.factors_A, pos_start)
        for p in range(P):
            weights[K + p] *= factors[p]
            has_all &= factors[p] > _ZERO
    return has_all


@inlined_kernel
def _weigh_positives(plan, positives, pos_start, P):
    share = _share(P)
    for p in range(P):
        factor = positives.factors_A[pos_start + p] if len(positives.factors_A) > 0 else _ONE
        plan.pos_weights_A[pos_start + p] = share * factor


@inlined_kernel
def _share(P):
    return _ONE / np.float32(max(P, 1))
