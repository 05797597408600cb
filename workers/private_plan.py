"""The plan of a chunk with private negatives: which rows each example touches, made before the first row is touched.

Without its accidental hits, hardly any example has a tag twice. So every tag is compared with all true tags, and with
all later ones of its example, sixteen at once; only where one is there twice, a hash table is made.

Legend: B examples, K negatives drawn per example, S slots (distinct tags) of one example, negatives first.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.config import NEGATIVE_SAMPLING
from workers.hot_rows import NUM_COUNTS, TABLE_SIZE, place_hot
from workers.jit import inlined_kernel, kernel
from workers.job import Job
from workers.matching import BLOCK, equal_pairs, equal_to
from workers.scratch import Scratch, roomy
from workers.slots import Table, assign_slots, is_among, make_table
from workers.vectors import values_from

_ZERO, _ONE = np.float32(0), np.float32(1)
_ROOM = BLOCK
"""Beside an example of the largest size: kernels fetch the next example's rows by fours, and here tags are compared."""
_MOST_TAGS = 512  # of an example; to compare more with each other takes longer than a hash table
_MOST_TRUE = 4096  # true tags; to compare with more takes longer than a binary search


class Plan(NamedTuple):
    """The distinct tags of every example, one example after the other.

    An example is simple if no tag is there twice, every positive has a weight and the objective is negative sampling.
    Its slots are the draws but for accidental hits, then the positives, and all that its loss needs are their weights.
    """

    offsets_B2: np.ndarray
    """int64, where each example's slots start; the last number stands twice, as if an empty example came last."""
    num_negatives_B: np.ndarray
    """int32, slots of distinct negatives."""
    is_simple_B: np.ndarray
    places: np.ndarray
    """int32, where the row of each slot is, see `workers.hot_rows`."""
    weights: np.ndarray
    """float32, of simple examples: w/K of a negative, and below 0 that of a positive."""
    multiplicity: np.ndarray
    """float32, of the others: draws of a negative; 0 if it is an accidental hit."""
    pos_slots: np.ndarray
    """int32, of the others: the positives' slots, counted within the example."""


class _Tables(NamedTuple):
    """Working memory."""

    slots: Table
    """To find a tag's slot."""
    counts: np.ndarray
    """int32, how many tags have these low bits."""
    hot: np.ndarray
    """To find a tag's copy."""


class PlanMemory(NamedTuple):
    """For plans of jobs of one size."""

    plan: Plan
    tables: _Tables


class PlanSize(NamedTuple):
    """What the plan of a job, and every other of this size, needs."""

    num_examples: int
    num_slots: int
    most_slots: int
    """Of one example."""


def plan_size(job: Job) -> PlanSize:
    """The size of a job's plan, rounded up so that jobs which are nearly alike have it in common."""
    most = job.loss.num_drawn + job.positives.most
    num_slots = len(job.neg_ids) + len(job.positives.ids) + most + _ROOM
    return PlanSize(len(job.features_BD), roomy(num_slots), roomy(most))


def plan_memory(size: PlanSize, scratch: Scratch) -> PlanMemory:
    """Memory with arbitrary contents."""
    return PlanMemory(_empty_plan(size.num_examples, size.num_slots, scratch), _tables(size.most_slots, scratch))


def make_plan(job: Job, memory: PlanMemory, hot_ids_H: np.ndarray) -> tuple[int, int]:
    """Fill the plan; returns the number of hot rows (none if nothing is to be written) and of accidental hits.

    Args:
        job: of a chunk.
        memory: of the job's size.
        hot_ids_H: int32, out: tags of hot rows.
    """
    plan, tables = memory
    return _fill(
        *tables.slots,
        tables.counts,
        tables.hot,
        hot_ids_H,
        job.neg_ids,
        *job.positives,
        *job.truth,
        *job.loss,
        job.writes,
        *plan,
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
    return _Tables(make_table(scratch, capacity), counts, hot)


@kernel
def _fill(
    table_keys,
    table_slots,
    counts,
    hot_table,
    hot_ids_H,
    neg_ids,
    pos_ids,
    pos_offsets_B1,
    pos_weights,
    most,
    starts_B,
    stops_B,
    true_tags,
    objective,
    w,
    K,
    writes,
    offsets_B2,
    num_negatives_B,
    is_simple_B,
    places,
    weights,
    multiplicity,
    pos_slots,
):
    """Fill the plan; returns (hot rows, accidental hits). Arguments lie flat, see `workers.jit`."""
    table = Table(table_keys, table_slots)
    plan = Plan(offsets_B2, num_negatives_B, is_simple_B, places, weights, multiplicity, pos_slots)
    B, hits, start, weight = len(starts_B), np.int64(0), np.int64(0), np.float32(w / np.float32(K))
    table.keys[:] = -1
    for b in range(B):
        plan.offsets_B2[b] = start
        pos_start, pos_stop = pos_offsets_B1[b], pos_offsets_B1[b + 1]
        P, pos_weights_P = np.int64(pos_stop - pos_start), pos_weights[pos_start:pos_stop]
        neg_ids_K, ids_P = values_from(neg_ids, b * K), values_from(pos_ids, pos_start)
        pos_slots_P = plan.pos_slots[pos_start:pos_stop]
        ids_S, first, last = values_from(plan.places, start), starts_B[b], stops_B[b]
        for k in range(K):
            ids_S[k] = neg_ids_K[k]
        num_negatives = _leave_out_true(ids_S, K, true_tags, first, last)
        for p in range(P):
            ids_S[num_negatives + p] = ids_P[p]
        num_slots = num_negatives + P
        if _has_repeats(ids_S, num_slots):
            num_negatives, num_slots = assign_slots(
                table,
                b,
                neg_ids[b * K : (b + 1) * K],
                pos_ids[pos_start:pos_stop],
                plan.places[start:],
                plan.multiplicity[start:],
                pos_slots_P,
            )
            hits += _mask(ids_S, num_negatives, true_tags, first, last, plan.multiplicity[start:])
            plan.is_simple_B[b] = False
        else:
            hits += K - num_negatives
            has_weights = objective == NEGATIVE_SAMPLING
            has_weights &= _weigh(values_from(plan.weights, start), num_negatives, weight, pos_weights_P)
            plan.is_simple_B[b] = has_weights
            if not has_weights:
                plan.multiplicity[start : start + num_negatives] = _ONE
                for p in range(P):
                    pos_slots_P[p] = num_negatives + p
        plan.num_negatives_B[b] = num_negatives
        start += num_slots
    plan.offsets_B2[B:] = start
    num_hot = place_hot(counts, hot_table, hot_ids_H, plan.places[:start]) if writes else 0
    return num_hot, hits


@inlined_kernel
def _has_repeats(tags, S):
    """Whether one of S tags occurs twice, or may because they are too many; overwrites `BLOCK` numbers after them."""
    if S > _MOST_TAGS:
        return True
    for i in range(BLOCK):
        tags[S + i] = -1 - i  # equal to none
    found = np.int64(0)
    for i in range(0, S, BLOCK):
        for j in range(i + 1, S):
            found |= equal_pairs(tags, i, j)
    return found != 0


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


@inlined_kernel
def _true_ones(tags, start, K, true_tags, first, last):
    """Which of tags[start:K], of a block of them at most, are among true_tags[first:last]: bits of a number."""
    found, count = np.int64(0), min(K - start, BLOCK)
    if last - first > _MOST_TRUE:
        for i in range(count):
            found |= np.int64(is_among(true_tags, first, last, tags[start + i])) << i
        return found
    ones = values_from(true_tags, 0)
    for t in range(first, last):
        found |= equal_to(tags, start, ones[t])
    return found & ((np.int64(1) << count) - 1)


@inlined_kernel
def _leave_out_true(tags, K, true_tags, first, last):
    """Move those of K tags to the front that are no true tags; returns how many."""
    kept = np.int64(0)
    for start in range(0, K, BLOCK):
        stop, found = min(start + BLOCK, K), _true_ones(tags, start, K, true_tags, first, last)
        if found == 0 and kept == start:  # as nearly always
            kept = np.int64(stop)
            continue
        for k in range(start, stop):
            tags[kept] = tags[k]
            kept += 1 - ((found >> (k - start)) & 1)
    return kept


@inlined_kernel
def _mask(tags, K, true_tags, first, last, multiplicity_S):
    """Set the multiplicity of accidental hits to 0; returns how many draws they were."""
    hits = np.int64(0)
    for start in range(0, K, BLOCK):
        found = _true_ones(tags, start, K, true_tags, first, last)
        for k in range(start, min(start + BLOCK, K)):
            if (found >> (k - start)) & 1:
                hits += np.int64(multiplicity_S[k])
                multiplicity_S[k] = _ZERO
    return hits
