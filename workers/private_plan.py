"""The plan of a chunk with private negatives: which rows each example touches, made before the first row is touched.

Without its accidental hits, hardly any example has a tag twice. So a pass of a nanosecond per tag finds those that may
have (by a table of marks, in which two tags may share a place) and looks through the example; only where it is so, a
hash table is made.

Legend: B examples, K negatives drawn per example, S slots (distinct tags) of one example, negatives first.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.config import NEGATIVE_SAMPLING
from workers.counters import GOLDEN
from workers.hot_rows import COUNT_BITS, NUM_MARKS, TABLE_SIZE, place_hot
from workers.jit import inlined_kernel, kernel
from workers.job import Job
from workers.scratch import Scratch, roomy
from workers.slots import Table, assign_slots, is_among, make_table
from workers.vectors import values_from

_ZERO, _ONE = np.float32(0), np.float32(1)
_ROOM = 4
"""Beside an example of the largest size: as many rows as an example has, by fours, kernels fetch beyond its end."""
_MOST_SEARCHED = 512  # tags of an example; to look through more takes longer than a hash table
_FEW_TRUE = 64  # true tags, up to which twice 64 bits tell most negatives from all of them
_TOP_SIX = np.uint64(58)
_BIT, _SIX_BITS, _ALL_BITS = np.uint64(1), np.uint64(63), np.uint64(0xFFFFFFFFFFFFFFFF)


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
    marks: np.ndarray
    """int64, by the low bits of a tag: how many such tags there were, and 2**32 times the last example that had one."""
    hot: np.ndarray
    """To find a tag's copy."""


def make_plan(job: Job, hot_ids_H: np.ndarray, scratch: Scratch) -> tuple[Plan, int, int]:
    """The plan, the number of hot rows (none if nothing is to be written), the number of accidental hits.

    Args:
        job: of a chunk.
        hot_ids_H: int32, out: tags of hot rows.
        scratch: working memory.
    """
    most = job.loss.num_drawn + job.positives.most
    B, capacity = len(job.features_BD), roomy(len(job.neg_ids) + len(job.positives.ids) + most + _ROOM)
    plan = scratch.kept("plan", (B, capacity), lambda: _empty_plan(B, capacity, scratch))
    tables = scratch.kept("plan tables", roomy(most), lambda: _tables(roomy(most), scratch))
    num_hot, num_hits = _fill(
        *tables.slots,
        tables.marks,
        tables.hot,
        hot_ids_H,
        job.neg_ids,
        *job.positives,
        *job.truth,
        *job.loss,
        job.writes,
        *plan,
    )
    return plan, num_hot, num_hits


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
    marks, hot = scratch.empty(NUM_MARKS, np.int64), scratch.empty(TABLE_SIZE, np.int32)
    return _Tables(make_table(scratch, capacity), marks, hot)


@kernel
def _fill(
    table_keys,
    table_slots,
    marks,
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
    marks[:] = 0
    for b in range(B):
        plan.offsets_B2[b] = start
        pos_start, pos_stop = pos_offsets_B1[b], pos_offsets_B1[b + 1]
        neg_ids_K, pos_ids_P = neg_ids[b * K : (b + 1) * K], pos_ids[pos_start:pos_stop]
        pos_weights_P, pos_slots_P = pos_weights[pos_start:pos_stop], plan.pos_slots[pos_start:pos_stop]
        ids_S, multiplicity_S = plan.places[start:], plan.multiplicity[start:]
        first, last = starts_B[b], stops_B[b]
        num_negatives = _copy_unmasked(true_tags, first, last, neg_ids_K, values_from(plan.places, start))
        repeats = _mark(marks, b + 1, ids_S[:num_negatives], pos_ids_P[:0])
        repeats |= _mark(marks, b + 1, pos_ids_P, ids_S[:num_negatives])
        if repeats:
            num_negatives, num_slots = assign_slots(table, b, neg_ids_K, pos_ids_P, ids_S, multiplicity_S, pos_slots_P)
            hits += _mask(true_tags, first, last, ids_S[:num_negatives], multiplicity_S)
            plan.is_simple_B[b] = False
        else:
            hits += K - num_negatives
            num_slots = num_negatives + np.int32(len(pos_ids_P))
            for p in range(len(pos_ids_P)):
                ids_S[np.uint64(num_negatives + p)] = pos_ids_P[p]
            has_weights = objective == NEGATIVE_SAMPLING
            has_weights &= _weigh(plan.weights[start:], num_negatives, weight, pos_weights_P)
            plan.is_simple_B[b] = has_weights
            if not has_weights:
                multiplicity_S[:num_negatives] = _ONE
                for p in range(len(pos_ids_P)):
                    pos_slots_P[p] = num_negatives + p
        plan.num_negatives_B[b] = num_negatives
        start += num_slots
    plan.offsets_B2[B:] = start
    num_hot = place_hot(marks, hot_table, hot_ids_H, plan.places[:start]) if writes else 0
    return num_hot, hits


@inlined_kernel
def _mark(marks, stamp, tags, earlier_tags):
    """Mark the tags of an example; whether one of them was there before, or may have been if they are too many."""
    repeats = False
    for i in range(len(tags)):
        place = np.uint64(tags[i] & (NUM_MARKS - 1))
        mark = marks[place]
        marks[place] = (stamp << 32) | ((mark & COUNT_BITS) + 1)
        if not repeats and (mark >> 32) == stamp:  # a tag with these low bits was
            repeats = len(tags) > _MOST_SEARCHED or _holds(earlier_tags, len(earlier_tags), tags[i])
            repeats = repeats or _holds(tags, i, tags[i])
    return repeats


@inlined_kernel
def _holds(tags, stop, tag):
    found = False
    for i in range(stop):
        found |= tags[i] == tag
    return found


@inlined_kernel
def _weigh(weights_S, num_negatives, weight, pos_weights):
    """Write the weights of a simple example; whether no positive has the weight 0."""
    weights_S[:num_negatives] = weight
    has_all = True
    for p in range(len(pos_weights)):
        weights_S[np.uint64(num_negatives + p)] = -pos_weights[p]
        has_all &= pos_weights[p] > _ZERO
    return has_all


@inlined_kernel
def _filters(true_tags, first, last):
    """Twice 64 bits that together tell nearly all negatives from the true tags, if these are few."""
    if last - first > _FEW_TRUE:
        return _ALL_BITS, _ALL_BITS
    low, mixed = np.uint64(0), np.uint64(0)
    for t in range(first, last):
        tag = np.uint64(true_tags[t])
        low |= _BIT << (tag & _SIX_BITS)
        mixed |= _BIT << _mix(tag)
    return low, mixed


@inlined_kernel
def _mix(tag):
    """Six bits that depend on all of the tag."""
    return (tag * GOLDEN) >> _TOP_SIX


@inlined_kernel
def _is_true(filters, true_tags, first, last, tag):
    tag_bits = np.uint64(tag)
    passes = (filters[0] >> (tag_bits & _SIX_BITS)) & (filters[1] >> _mix(tag_bits)) & _BIT
    return passes != 0 and is_among(true_tags, first, last, tag)


@inlined_kernel
def _copy_unmasked(true_tags, first, last, neg_ids_K, ids):
    """Copy the draws that are no accidental hits; returns how many."""
    filters, S = _filters(true_tags, first, last), np.int32(0)
    for k in range(len(neg_ids_K)):
        ids[S] = neg_ids_K[k]
        S += np.int32(not _is_true(filters, true_tags, first, last, neg_ids_K[k]))
    return S


@inlined_kernel
def _mask(true_tags, first, last, neg_ids_S, multiplicity_S):
    """Set the multiplicity of accidental hits to 0; returns how many draws they were."""
    hits, filters = np.int64(0), _filters(true_tags, first, last)
    for s in range(len(neg_ids_S)):
        if _is_true(filters, true_tags, first, last, neg_ids_S[s]):
            hits += np.int64(multiplicity_S[s])
            multiplicity_S[s] = _ZERO
    return hits
