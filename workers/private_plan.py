"""The plan of a chunk with private negatives: which rows each example touches, made before the first row is touched.

Hardly any example draws a tag twice, or a true one. So a pass of a nanosecond per tag finds the examples that may have
a tag twice (by a table of marks, in which two tags may share a place), and only these pay for a hash table.

Legend: B examples, K negatives drawn per example, S slots (distinct tags) of one example, negatives first.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.hot_rows import NUM_MARKS, find_hot
from workers.jit import inlined_kernel, kernel
from workers.job import Job
from workers.scratch import Scratch, roomy
from workers.slots import assign_slots, is_among, make_table

_ZERO, _ONE = np.float32(0), np.float32(1)
_FEW_TRUE = 64  # true tags, up to which 64 bits tell most negatives from all of them
_BIT, _SIX_BITS, _ALL_BITS = np.uint64(1), np.uint64(63), np.uint64(0xFFFFFFFFFFFFFFFF)


class Plan(NamedTuple):
    """The distinct tags of every example, one example after the other."""

    offsets_B1: np.ndarray
    """int64, where each example's slots start."""
    num_negatives_B: np.ndarray
    """int32, slots of distinct negatives."""
    is_simple_B: np.ndarray
    """bool, no tag is there twice: slots are the draws, then the positives."""
    ids: np.ndarray
    """int32, the tag of each slot."""
    places: np.ndarray
    """int32, where its row is, see `workers.hot_rows`."""
    multiplicity: np.ndarray
    """float32, draws of a negative; 0 if it is an accidental hit."""
    pos_slots: np.ndarray
    """int32, within the example."""


class _Marks(NamedTuple):
    """By the low bits of a tag: the last example that had such a tag, and how many there were."""

    examples: np.ndarray
    counts: np.ndarray


def make_plan(job: Job, hot_ids_H: np.ndarray, scratch: Scratch) -> tuple[Plan, int, int]:
    """The plan, the number of hot rows (none if nothing is to be written), the number of accidental hits."""
    B, capacity = len(job.features_BD), roomy(len(job.neg_ids) + len(job.positives.ids))
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
        offsets_B1=np.empty(B + 1, np.int64),
        num_negatives_B=np.empty(B, np.int32),
        is_simple_B=np.empty(B, np.bool_),
        ids=np.empty(capacity, np.int32),
        places=np.empty(capacity, np.int32),
        multiplicity=np.empty(capacity, np.float32),
        pos_slots=np.empty(capacity, np.int32),
    )
    return plan, _Marks(np.empty(NUM_MARKS, np.int32), np.empty(NUM_MARKS, np.int32))


@kernel
def _plan(table, marks, job, plan):
    """Fill the plan but for places; returns (slots, accidental hits)."""
    K, hits, start = job.loss.num_drawn, np.int64(0), np.int64(0)
    marks.examples[:] = -1
    marks.counts[:] = 0
    for b in range(len(job.features_BD)):
        plan.offsets_B1[b] = start
        pos_start, pos_stop = job.positives.offsets_B1[b], job.positives.offsets_B1[b + 1]
        neg_ids_K, pos_ids = job.neg_ids[b * K : (b + 1) * K], job.positives.ids[pos_start:pos_stop]
        ids_S, multiplicity_S = plan.ids[start:], plan.multiplicity[start:]
        may_repeat = _mark(marks, b, neg_ids_K, ids_S)
        may_repeat |= _mark(marks, b, pos_ids, ids_S[K:])
        num_negatives, num_slots = np.int32(K), np.int32(K + len(pos_ids))
        if may_repeat:
            num_negatives, num_slots = assign_slots(
                table, b, neg_ids_K, pos_ids, ids_S, multiplicity_S, plan.pos_slots[pos_start:pos_stop]
            )
        else:
            multiplicity_S[:K] = _ONE
            for p in range(len(pos_ids)):
                plan.pos_slots[pos_start + p] = K + p
        plan.is_simple_B[b] = not may_repeat
        first, last = job.truth.starts_B[b], job.truth.stops_B[b]
        hits += _mask(job.truth.tags, first, last, ids_S[:num_negatives], multiplicity_S)
        plan.num_negatives_B[b] = num_negatives
        start += num_slots
    plan.offsets_B1[len(job.features_BD)] = start
    return start, hits


@inlined_kernel
def _mark(marks, b, tags, ids_S):
    """Copy an example's tags and mark them; whether one of them may have been there before."""
    may_repeat = False
    for i in range(len(tags)):
        place = np.uint64(tags[i] & (NUM_MARKS - 1))
        may_repeat |= marks.examples[place] == b
        marks.examples[place] = b
        marks.counts[place] += 1
        ids_S[i] = tags[i]
    return may_repeat


@inlined_kernel
def _mask(true_tags, first, last, neg_ids_S, multiplicity_S):
    """Set the multiplicity of accidental hits to 0; returns how many draws they were."""
    hits, bits = np.int64(0), _ALL_BITS
    if last - first <= _FEW_TRUE:
        bits = np.uint64(0)
        for t in range(first, last):
            bits |= _BIT << (np.uint64(true_tags[t]) & _SIX_BITS)
    for s in range(len(neg_ids_S)):
        tag = neg_ids_S[s]
        if (bits >> (np.uint64(tag) & _SIX_BITS)) & _BIT and is_among(true_tags, first, last, tag):
            hits += np.int64(multiplicity_S[s])
            multiplicity_S[s] = _ZERO
    return hits
