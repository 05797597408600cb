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

from workers.jit import inlined_kernel
from workers.scratch import Scratch
from workers.slots import assign_slots, table_size
from workers.vectors import values_from


class SharedPlan(NamedTuple):
    """The slots of a chunk, and its positives in the order of this plan: within each example the lone ones first. Or
    else memory from which `cut_plan` cuts it."""

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
    new_slots: np.ndarray
    """int32, working memory: how many positives a tag is, then its slot in the plan, or else -1."""
    old_slots_A: np.ndarray
    """int32, working memory: numbers of positives' tags, those of negatives first."""


def shared_plan(num_examples: int, num_drawn: int, num_positives: int, scratch: Scratch) -> SharedPlan:
    """Memory, with arbitrary contents, for plans of chunks up to that size."""
    capacity, A = num_drawn + num_positives, num_positives
    return SharedPlan(
        table=scratch.empty(int(table_size(capacity)), np.int64),
        ids_S=scratch.empty(capacity, np.int32),
        multiplicity_K=scratch.empty(capacity, np.float32),
        pos_ids_A=scratch.empty(A, np.int32),
        pos_weights_A=scratch.empty(A, np.float32),
        pos_slots_A=scratch.empty(A, np.int32),
        num_lone_B=scratch.empty(num_examples, np.int32),
        lone_ids_L=scratch.empty(A, np.int32),
        new_slots=scratch.empty(capacity, np.int32),
        old_slots_A=scratch.empty(A, np.int32),
    )


@inlined_kernel
def fill_plan(plan, neg_ids, ids_A, offsets_B1, weights_A):
    """Fill the front of a plan's memory; returns (K, S, L).

    No branch depends on whether a positive is lone: it could not be predicted.
    """
    K, T = assign_slots(plan.table, neg_ids, ids_A, plan.ids_S, plan.multiplicity_K, plan.old_slots_A)
    S = K
    counts, tags, old_slots = (
        values_from(plan.new_slots, 0),
        values_from(plan.ids_S, 0),
        values_from(plan.old_slots_A, 0),
    )
    for t in range(T):
        counts[t] = 0
    for p in range(len(ids_A)):
        counts[old_slots[p]] += 1
    slot_of = counts  # from here on
    for t in range(K):
        slot_of[t] = t
    for t in range(K, T):  # slots that stay move forward, in their order
        is_lone = counts[t] == 1
        tags[S] = tags[t]
        slot_of[t] = np.int64(-1) if is_lone else S
        S += np.int64(not is_lone)
    L, lone = np.int64(0), values_from(plan.lone_ids_L, 0)
    for b in range(len(offsets_B1) - 1):
        first, behind = np.int64(offsets_B1[b]), np.int64(offsets_B1[b + 1])
        front, back = first, behind
        for p in range(first, behind):
            slot, tag = slot_of[old_slots[p]], ids_A[np.uint64(p)]
            at = np.uint64(front if slot < 0 else back - 1)
            plan.pos_ids_A[at], plan.pos_weights_A[at], plan.pos_slots_A[at] = tag, weights_A[np.uint64(p)], slot
            lone[L] = tag
            front, back, L = front + (slot < 0), back - (slot >= 0), L + (slot < 0)
        plan.num_lone_B[b] = front - first
    return K, S, L


@inlined_kernel
def cut_plan(plan, B, A, K, S, L):
    """The front of this memory that was filled."""
    return SharedPlan(
        plan.table, plan.ids_S[:S], plan.multiplicity_K[:K], plan.pos_ids_A[:A], plan.pos_weights_A[:A],
        plan.pos_slots_A[:A], plan.num_lone_B[:B], plan.lone_ids_L[:L], plan.new_slots, plan.old_slots_A,
    )  # fmt: skip
