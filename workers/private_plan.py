"""The plan of a chunk with private negatives: which rows each example touches, made before the first row is touched.

Without its accidental hits, hardly any example has a tag twice. So every tag is compared with all true tags, and with
all later ones of its example, sixteen at once. Only in examples that are not simple, see `Plan`, repeats are merged
through a hash table.

Legend: B examples, K negatives drawn per example, S slots (distinct tags) of one example, negatives first.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.accidental_hits import leave_out_true, mask_true
from workers.config import NEGATIVE_SAMPLING
from workers.hot_rows import NUM_COUNTS, TABLE_SIZE, place_hot
from workers.jit import inlined_kernel, kernel
from workers.job import Job, Lookup, Loss, Positives, Truth, look_up, lookup_memory
from workers.matching import BLOCK, has_repeats, place_among
from workers.scratch import Scratch
from workers.slots import assign_slots, table_size
from workers.vectors import values_from

_ZERO, _ONE = np.float32(0), np.float32(1)
_ROOM = BLOCK
"""Beside an example of the largest size, so far as kernels fetch and touch rows beyond the last example: they fetch by
fours, and here tags are compared in blocks."""
_MOST_TAGS = 512  # of an example; to compare more with each other takes longer than a hash table


class Plan(NamedTuple):
    """The distinct tags of every example, one example after the other.

    An example is simple if every positive has a weight, none was drawn as a negative, the objective is negative
    sampling, and draws and positives together are few. All that its loss needs of its slots are their weights.
    """

    offsets_B2: np.ndarray
    """int64, where each example's slots start; the last number stands twice or more, as if empty examples came last."""
    num_negatives_B: np.ndarray
    """int32, slots of distinct negatives."""
    is_simple_B: np.ndarray
    places: np.ndarray
    """int32, where the row of each slot is, see `workers.hot_rows`."""
    weights: np.ndarray
    """float32, of simple examples: w/K of each draw of a negative, and below 0 that of a positive."""
    multiplicity: np.ndarray
    """float32, of the others: draws of a negative; 0 if it is an accidental hit."""
    pos_slots: np.ndarray
    """int32, of the others: the positives' slots, counted within the example."""


class _Tables(NamedTuple):
    """Working memory."""

    slots: np.ndarray
    """int64, to find a tag's slot."""
    counts: np.ndarray
    """int32, how many tags have these low bits."""
    hot: np.ndarray
    """To find a tag's copy."""


class PlanMemory(NamedTuple):
    """For plans of jobs up to one size."""

    plan: Plan
    tables: _Tables
    lookup: Lookup


class PlanSize(NamedTuple):
    """What the plan of a job needs."""

    num_examples: int
    num_positives: int
    num_negatives: int
    num_drawn: int
    """For one example."""

    @property
    def most_slots(self) -> int:
        """Of one example, which might have all positives."""
        return self.num_drawn + self.num_positives


def plan_size(job: Job) -> PlanSize:
    """The size of a job's plan."""
    return PlanSize(len(job.features_BD), len(job.positives.ids_A), len(job.neg_ids), job.loss.num_drawn)


def plan_memory(size: PlanSize, scratch: Scratch) -> PlanMemory:
    """Memory with arbitrary contents: slots of all examples, and what is looked at beyond the last one."""
    plan = _empty_plan(size.num_examples, size.num_negatives + size.num_positives + size.most_slots + _ROOM, scratch)
    lookup = lookup_memory(size.num_examples, size.num_positives, scratch)
    return PlanMemory(plan, _tables(size.most_slots, scratch), lookup)


def make_plan(job: Job, memory: PlanMemory, hot_ids_H: np.ndarray) -> tuple[int, int]:
    """Fill the plan alone, see `fill_plan`.

    Args:
        job: of a chunk.
        memory: of the job's size, or larger.
        hot_ids_H: int32, out: tags of hot rows.
    """
    plan, tables, lookup = memory
    return fill_plan(
        *(*tables, *lookup, hot_ids_H, job.neg_ids, *job.positives, *job.truth, *job.loss, job.writes, *plan)
    )


def _empty_plan(B: int, capacity: int, scratch: Scratch) -> Plan:
    return Plan(
        offsets_B2=scratch.empty(B + 2, np.int64),
        num_negatives_B=scratch.empty(B, np.int32),
        is_simple_B=scratch.empty(B, np.bool_),
        places=scratch.empty(capacity, np.int32),
        weights=scratch.empty(capacity, np.float32),
        multiplicity=scratch.empty(capacity, np.float32),
        pos_slots=scratch.empty(capacity, np.int32),
    )


def _tables(capacity: int, scratch: Scratch) -> _Tables:
    counts, hot = scratch.empty(NUM_COUNTS, np.int32), scratch.empty(TABLE_SIZE, np.int32)
    return _Tables(scratch.empty(int(table_size(capacity)), np.int64), counts, hot)


@kernel
def fill_plan(
    table, counts, hot_table, weights_A, starts_B, stops_B, hot_ids_H, neg_ids, ids_A, pos_offsets_B1, factors_A,
    items_B, item_offsets, true_offsets_B1, true_tags, objective, w, num_drawn, writes,
    offsets_B2, num_negatives_B, is_simple_B, places, weights, multiplicity, pos_slots,
):  # fmt: skip
    """Fill the plan; returns the number of hot rows (none if nothing is to be written) and of accidental hits.

    Arguments lie flat, see `workers.jit`.
    """
    positives, loss = Positives(ids_A, pos_offsets_B1, factors_A), Loss(objective, w, num_drawn)
    truth, lookup = Truth(items_B, item_offsets, true_offsets_B1, true_tags), Lookup(weights_A, starts_B, stops_B)
    plan = Plan(offsets_B2, num_negatives_B, is_simple_B, places, weights, multiplicity, pos_slots)
    look_up(positives, truth, lookup)
    B, hits, start = len(pos_offsets_B1) - 1, np.int64(0), np.int64(0)
    for b in range(B):
        plan.offsets_B2[b] = start
        num_slots, num_hits = _plan_example(plan, table, neg_ids, positives, true_tags, lookup, loss, b, start)
        start += num_slots
        hits += num_hits
    plan.offsets_B2[B:] = start
    num_hot = place_hot(counts, hot_table, hot_ids_H, plan.places[:start]) if writes else 0
    return num_hot, hits


@inlined_kernel
def _plan_example(plan, table, neg_ids, positives, true_tags, lookup, loss, b, start):
    """Plan one example, whose slots begin at `start`; returns (slots, accidental hits)."""
    first, last = lookup.starts_B[b], lookup.stops_B[b]
    pos_start, pos_stop = positives.offsets_B1[b], positives.offsets_B1[b + 1]
    K, P = loss.num_drawn, np.int64(pos_stop - pos_start)
    drawn, ids_P = values_from(neg_ids, b * K), values_from(positives.ids_A, pos_start)
    ids_S, weights_S = values_from(plan.places, start), values_from(plan.weights, start)
    pos_slots_P, multiplicity_S = plan.pos_slots[pos_start:pos_stop], plan.multiplicity[start:]
    for k in range(K):
        ids_S[k] = drawn[k]
    num_negatives = leave_out_true(ids_S, K, true_tags, first, last)
    num_hits, num_slots = K - num_negatives, num_negatives + P
    for p in range(P):
        ids_S[num_negatives + p] = ids_P[p]
    may_repeat = num_slots > _MOST_TAGS or has_repeats(ids_S, num_slots)
    is_simple = loss.objective == NEGATIVE_SAMPLING and num_slots <= _MOST_TAGS
    weight = np.float32(loss.negative_weight / np.float32(K))
    is_simple &= _weigh(weights_S, num_negatives, weight, lookup.weights_A[pos_start:pos_stop])
    if may_repeat and is_simple:
        num_negatives, num_slots, is_simple = _merge_repeats(ids_S, weights_S, num_negatives, num_slots)
    if not is_simple and may_repeat:
        neg_ids_K, pos_ids_P = neg_ids[b * K : (b + 1) * K], positives.ids_A[pos_start:pos_stop]
        slots = assign_slots(table, neg_ids_K, pos_ids_P, plan.places[start:], multiplicity_S, pos_slots_P)
        num_negatives, num_slots = np.int64(slots[0]), np.int64(slots[1])
        num_hits = mask_true(ids_S, num_negatives, true_tags, first, last, multiplicity_S)
    elif not is_simple:
        multiplicity_S[:num_negatives] = _ONE
        for p in range(P):
            pos_slots_P[p] = num_negatives + p
    plan.num_negatives_B[b], plan.is_simple_B[b] = num_negatives, is_simple
    return num_slots, num_hits


@inlined_kernel
def _merge_repeats(tags, weights, num_negatives, S):
    """Give a tag that occurs twice one slot with both weights.

    Returns:
        (slots of negatives, slots, whether that could be done: not where a negative is a positive, too)
    """
    for i in range(1, S):
        first = place_among(tags, i, tags[i])
        if first < i:
            if (weights[first] < _ZERO) != (weights[i] < _ZERO):
                return num_negatives, S, False
            weights[first] += weights[i]
            tags[i] = -1
    kept, negatives = np.int64(0), np.int64(0)
    for i in range(S):
        is_first = tags[i] >= 0
        tags[kept], weights[kept] = tags[i], weights[i]
        kept += is_first
        negatives += is_first and i < num_negatives
    return negatives, kept, True


@inlined_kernel
def _weigh(weights_S, num_negatives, weight, pos_weights):
    """Write the weights of a simple example; whether no positive has the weight 0."""
    for k in range(num_negatives):
        weights_S[k] = weight
    has_all = True
    for p in range(len(pos_weights)):
        weights_S[num_negatives + p] = -pos_weights[p]
        has_all &= pos_weights[p] > _ZERO
    return has_all
