"""The plan of a chunk with private negatives: which rows each example touches, made before the first row is touched.

Hardly any example draws a tag twice, or a true one. So a pass of a nanosecond per tag finds the examples that may have
a tag twice (by a table of marks, in which two tags may share a place), and only these pay for a hash table.

Legend: B examples, K negatives drawn per example, S slots (distinct tags) of one example, negatives first.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.config import NEGATIVE_SAMPLING
from workers.hot_rows import NUM_MARKS, find_hot
from workers.jit import inlined_kernel, kernel
from workers.job import Job
from workers.scratch import Scratch, roomy
from workers.slots import assign_slots, is_among, make_table

_ZERO, _ONE = np.float32(0), np.float32(1)
_FEW_TRUE = 64  # true tags, up to which 64 bits tell most negatives from all of them
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
    ids: np.ndarray
    """int32, the tag of each slot."""
    places: np.ndarray
    """int32, where its row is, see `workers.hot_rows`."""
    weights: np.ndarray
    """float32, of simple examples: w/K of a negative, and below 0 that of a positive."""
    multiplicity: np.ndarray
    """float32, of the others: draws of a negative; 0 if it is an accidental hit."""
    pos_slots: np.ndarray
    """int32, of the others: the positives' slots, counted within the example."""


class _Marks(NamedTuple):
    """By the low bits of a tag: the last example that had such a tag, and how many there were."""

    examples: np.ndarray
    counts: np.ndarray


def make_plan(job: Job, hot_ids_H: np.ndarray, scratch: Scratch, room: int) -> tuple[Plan, int, int]:
    """The plan, the number of hot rows (none if nothing is to be written), the number of accidental hits.

    Args:
        job: of a chunk.
        hot_ids_H: int32, out: tags of hot rows.
        scratch: working memory.
        room: places that there are after the last slot.
    """
    B, capacity = len(job.features_BD), roomy(len(job.neg_ids) + len(job.positives.ids) + room)
    plan, marks = scratch.kept("plan", (B, capacity), lambda: _empty_plan(B, capacity))
    table = make_table(scratch, job.loss.num_drawn + job.positives.most)
    num_slots, num_hits = _plan(table, marks, job, plan)
    if not job.writes:
        plan.places[:num_slots] = plan.ids[:num_slots]
        return plan, 0, int(num_hits)
    num_hot = find_hot(plan.ids[:num_slots], marks.counts, hot_ids_H, plan.places, scratch)
    return plan, num_hot, int(num_hits)


def _empty_plan(B: int, capacity: int) -> tuple[Plan, _Marks]:
    plan = Plan(
        offsets_B2=np.empty(B + 2, np.int64),
        num_negatives_B=np.empty(B, np.int32),
        is_simple_B=np.empty(B, np.bool_),
        ids=np.zeros(capacity, np.int32),  # kernels fetch the rows of a few ids after the last one
        places=np.empty(capacity, np.int32),
        weights=np.empty(capacity, np.float32),
        multiplicity=np.empty(capacity, np.float32),
        pos_slots=np.empty(capacity, np.int32),
    )
    return plan, _Marks(np.empty(NUM_MARKS, np.int32), np.empty(NUM_MARKS, np.int32))


@kernel
def _plan(table, marks, job, plan):
    """Fill the plan but for places; returns (slots, accidental hits)."""
    B, K, hits, start = len(job.features_BD), job.loss.num_drawn, np.int64(0), np.int64(0)
    is_sampling = job.loss.objective == NEGATIVE_SAMPLING
    weight = np.float32(job.loss.negative_weight / np.float32(K))
    marks.examples[:] = -1
    marks.counts[:] = 0
    for b in range(B):
        plan.offsets_B2[b] = start
        pos_start, pos_stop = job.positives.offsets_B1[b], job.positives.offsets_B1[b + 1]
        neg_ids_K, pos_ids = job.neg_ids[b * K : (b + 1) * K], job.positives.ids[pos_start:pos_stop]
        pos_weights, pos_slots = job.positives.weights[pos_start:pos_stop], plan.pos_slots[pos_start:pos_stop]
        ids_S, multiplicity_S = plan.ids[start:], plan.multiplicity[start:]
        may_repeat = _mark(marks, b, neg_ids_K)
        may_repeat |= _mark(marks, b, pos_ids)
        first, last = job.truth.starts_B[b], job.truth.stops_B[b]
        if may_repeat:
            num_negatives, num_slots = assign_slots(table, b, neg_ids_K, pos_ids, ids_S, multiplicity_S, pos_slots)
            hits += _mask(job.truth.tags, first, last, ids_S[:num_negatives], multiplicity_S)
            plan.is_simple_B[b] = False
        else:
            num_negatives = _copy_unmasked(job.truth.tags, first, last, neg_ids_K, ids_S)
            hits += K - num_negatives
            num_slots = num_negatives + np.int32(len(pos_ids))
            for p in range(len(pos_ids)):
                ids_S[np.uint64(num_negatives + p)] = pos_ids[p]
            plan.is_simple_B[b] = is_sampling and _weigh(plan.weights[start:], num_negatives, weight, pos_weights)
            if not plan.is_simple_B[b]:
                multiplicity_S[:num_negatives] = _ONE
                for p in range(len(pos_ids)):
                    pos_slots[p] = num_negatives + p
        plan.num_negatives_B[b] = num_negatives
        start += num_slots
    plan.offsets_B2[B:] = start
    return start, hits


@inlined_kernel
def _mark(marks, b, tags):
    """Mark an example's tags; whether one of them may have been there before."""
    may_repeat = False
    for i in range(len(tags)):
        place = np.uint64(tags[i] & (NUM_MARKS - 1))
        may_repeat |= marks.examples[place] == b
        marks.examples[place] = b
        marks.counts[place] += 1
    return may_repeat


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
def _filter(true_tags, first, last):
    """64 bits that tell most negatives from the true tags, if these are few."""
    if last - first > _FEW_TRUE:
        return _ALL_BITS
    bits = np.uint64(0)
    for t in range(first, last):
        bits |= _BIT << (np.uint64(true_tags[t]) & _SIX_BITS)
    return bits


@inlined_kernel
def _is_true(bits, true_tags, first, last, tag):
    return (bits >> (np.uint64(tag) & _SIX_BITS)) & _BIT != 0 and is_among(true_tags, first, last, tag)


@inlined_kernel
def _copy_unmasked(true_tags, first, last, neg_ids_K, ids_S):
    """Copy the draws that are no accidental hits; returns how many."""
    bits, S = _filter(true_tags, first, last), np.int32(0)
    for k in range(len(neg_ids_K)):
        ids_S[np.uint64(S)] = neg_ids_K[k]
        S += not _is_true(bits, true_tags, first, last, neg_ids_K[k])
    return S


@inlined_kernel
def _mask(true_tags, first, last, neg_ids_S, multiplicity_S):
    """Set the multiplicity of accidental hits to 0; returns how many draws they were."""
    hits, bits = np.int64(0), _filter(true_tags, first, last)
    for s in range(len(neg_ids_S)):
        if _is_true(bits, true_tags, first, last, neg_ids_S[s]):
            hits += np.int64(multiplicity_S[s])
            multiplicity_S[s] = _ZERO
    return hits
