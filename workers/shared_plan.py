"""The plan of a chunk with shared negatives: which rows it touches, and where their gradients are gathered.

Most positives of a chunk are tags of one example only. Such a *lone* positive needs no place of its own: its row's
gradient is one example's features times a number, and the row is moved straight along them. Only negatives, and
positives that several examples share, have a slot, in which their gradient is summed up.

Legend: K slots of distinct negatives, S of all slots, negatives first.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.jit import kernel
from workers.job import Job
from workers.scratch import Scratch
from workers.slots import Table, assign_slots, make_table
from workers.vectors import values_from


class SharedPlan(NamedTuple):
    """The slots of a chunk, and its positives, within each example those that are lone first."""

    table: Table
    """Finds a negative's slot, see `slots.mask_hits`."""
    ids_S: np.ndarray
    """int32, the tag of each slot."""
    multiplicity_K: np.ndarray
    """float32, how often a negative was drawn."""
    pos_ids: np.ndarray
    """int32, positives of all examples."""
    pos_weights: np.ndarray
    pos_slots: np.ndarray
    """int32; below 0: lone."""
    num_lone_B: np.ndarray
    """int32, lone positives of each example."""


def make_shared_plan(job: Job, scratch: Scratch) -> SharedPlan:
    """The plan, in memory that the next one overwrites."""
    positives, P = job.positives, len(job.positives.ids)
    capacity = len(job.neg_ids) + P
    table = make_table(scratch, capacity)
    slot_ids, new_slots = scratch.array("slot_ids", capacity, np.int32), scratch.array("new_slots", capacity, np.int32)
    multiplicity = scratch.array("multiplicity", capacity, np.float32)
    old_slots, pos_slots = scratch.array("old_slots", P, np.int32), scratch.array("pos_slots", P, np.int32)
    pos_ids, pos_weights = scratch.array("sorted_ids", P, np.int32), scratch.array("sorted_weights", P, np.float32)
    num_lone_B = scratch.array("num_lone", len(job.features_BD), np.int32)
    K, S = _fill(
        *(*table, job.neg_ids, positives.ids, positives.offsets_B1, positives.weights),
        *(slot_ids, new_slots, multiplicity, old_slots, pos_ids, pos_weights, pos_slots, num_lone_B),
    )
    return SharedPlan(table, slot_ids[:S], multiplicity[:K], pos_ids, pos_weights, pos_slots, num_lone_B)


@kernel
def _fill(
    table_keys,
    table_slots,
    neg_ids,
    ids,
    offsets_B1,
    weights,
    slot_ids,
    new_slots,
    multiplicity,
    old_slots,
    pos_ids,
    pos_weights,
    pos_slots,
    num_lone_B,
):
    """Fill the plan; returns (K, S). There are no branches on what is lone: none could be guessed."""
    table = Table(table_keys, table_slots)
    num_negatives, num_tags = assign_slots(table, 0, neg_ids, ids, slot_ids, multiplicity, old_slots)
    K, T, S = np.uint64(num_negatives), np.uint64(num_tags), np.uint64(num_negatives)
    counts, tags, old = values_from(new_slots, 0), values_from(slot_ids, 0), values_from(old_slots, 0)
    for t in range(T):
        counts[t] = 0
    for p in range(len(old_slots)):
        counts[old[p]] += 1
    for t in range(K):
        counts[t] = t
    for t in range(K, T):  # slots that stay move forward, in their order
        is_lone = counts[t] == 1
        tags[S] = tags[t]
        counts[t] = -1 if is_lone else S
        S += np.uint64(not is_lone)
    for b in range(len(num_lone_B)):
        first, behind = np.int64(offsets_B1[b]), np.int64(offsets_B1[b + 1])
        front, back = first, behind
        for p in range(first, behind):
            slot = counts[old[p]]
            at = np.uint64(front if slot < 0 else back - 1)
            pos_ids[at], pos_weights[at], pos_slots[at] = ids[np.uint64(p)], weights[np.uint64(p)], slot
            front, back = front + (slot < 0), back - (slot >= 0)
        num_lone_B[b] = front - first
    return np.int64(K), np.int64(S)
