"""The plan of a chunk with shared negatives: where the gradient of each of its rows is gathered.

Most positives of a chunk stand only once among its positives and were not drawn as negatives. Such a *lone* positive
needs no place of its own: its row's gradient is one example's features times a number, and the row is moved straight
along them. Only negatives and the other positives have a slot, in which their gradient is summed up.

Legend: B examples, K slots of distinct negatives, S slots of all, negatives first, T distinct tags, A positives of all
examples, L of them lone.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.jit import kernel
from workers.job import Job
from workers.scratch import Scratch
from workers.slots import assign_slots, table_size
from workers.vectors import values_from


class SharedPlan(NamedTuple):
    """The slots of a chunk, and its positives in the order of this plan: within each example the lone ones first."""

    table: np.ndarray
    """int64, finds a negative's slot, see `slots.mask_hits`."""
    ids_S: np.ndarray
    """int32, the tag of each slot."""
    multiplicity_K: np.ndarray
    """float32, how often a negative was drawn."""
    pos_ids_A: np.ndarray
    """int32; examples begin where they do in the chunk."""
    pos_weights_A: np.ndarray
    """float32."""
    pos_slots_A: np.ndarray
    """int32; below 0: lone."""
    num_lone_B: np.ndarray
    """int32, lone positives of each example."""
    lone_ids_L: np.ndarray
    """int32, the tags of lone positives, one example's after the other's."""


def make_shared_plan(job: Job, scratch: Scratch) -> SharedPlan:
    """The plan, in memory that the next one overwrites."""
    positives, A = job.positives, len(job.positives.ids)
    capacity = len(job.neg_ids) + A
    table = scratch.array("table", int(table_size(capacity)), np.int64)
    slot_ids, new_slots = scratch.array("slot_ids", capacity, np.int32), scratch.array("new_slots", capacity, np.int32)
    multiplicity = scratch.array("multiplicity", capacity, np.float32)
    old_slots_A, pos_slots_A = scratch.array("old_slots", A, np.int32), scratch.array("pos_slots", A, np.int32)
    pos_ids_A, pos_weights_A = scratch.array("plan_ids", A, np.int32), scratch.array("plan_weights", A, np.float32)
    num_lone_B = scratch.array("num_lone", len(job.features_BD), np.int32)
    lone_ids = scratch.array("lone_ids", A, np.int32)
    K, S, L = _fill(
        *(table, job.neg_ids, positives.ids, positives.offsets_B1, positives.weights),
        *(slot_ids, new_slots, multiplicity, old_slots_A, pos_ids_A, pos_weights_A, pos_slots_A, num_lone_B, lone_ids),
    )
    return SharedPlan(
        table, slot_ids[:S], multiplicity[:K], pos_ids_A, pos_weights_A, pos_slots_A, num_lone_B, lone_ids[:L]
    )


@kernel
def _fill(
    table,
    neg_ids,
    ids_A,
    offsets_B1,
    weights_A,
    slot_ids,
    new_slots,
    multiplicity,
    old_slots_A,
    pos_ids_A,
    pos_weights_A,
    pos_slots_A,
    num_lone_B,
    lone_ids,
):
    """Fill the plan; returns (K, S, L). There are no branches on what is lone: none could be guessed.

    Args:
        new_slots: int32, working memory: how many positives a tag is, then its slot in the plan, or else -1.
        old_slots_A: int32, working memory: numbers of positives' tags, those of negatives first.
        lone_ids: int32 [A], of which L are filled.
    """
    num_negatives, num_tags = assign_slots(table, neg_ids, ids_A, slot_ids, multiplicity, old_slots_A)
    K, T, S = num_negatives, num_tags, num_negatives
    counts, tags, old_slots = values_from(new_slots, 0), values_from(slot_ids, 0), values_from(old_slots_A, 0)
    for t in range(T):
        counts[t] = 0
    for p in range(len(old_slots_A)):
        counts[old_slots[p]] += 1
    slot_of = counts  # from here on
    for t in range(K):
        slot_of[t] = t
    for t in range(K, T):  # slots that stay move forward, in their order
        is_lone = counts[t] == 1
        tags[S] = tags[t]
        slot_of[t] = np.int64(-1) if is_lone else S
        S += np.int64(not is_lone)
    L, lone = np.int64(0), values_from(lone_ids, 0)
    for b in range(len(num_lone_B)):
        first, behind = np.int64(offsets_B1[b]), np.int64(offsets_B1[b + 1])
        front, back = first, behind
        for p in range(first, behind):
            slot, tag = slot_of[old_slots[p]], ids_A[np.uint64(p)]
            at = np.uint64(front if slot < 0 else back - 1)
            pos_ids_A[at], pos_weights_A[at], pos_slots_A[at] = tag, weights_A[np.uint64(p)], slot
            lone[L] = tag
            front, back, L = front + (slot < 0), back - (slot >= 0), L + (slot < 0)
        num_lone_B[b] = front - first
    return K, S, L
