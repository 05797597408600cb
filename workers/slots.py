"""Slots: small consecutive numbers for the distinct tags of a chunk, so that each row is read, merged and written once.

A slot is found through a hash table with open addressing, whose keys are stamp * 2**32 + tag id; a key with another
stamp is an empty place, so that one table serves many examples in turn without being cleared. Negatives come first:
slots [0, num_negative_slots).

Legend: B examples, K negatives drawn, S slots.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.counters import GOLDEN
from workers.jit import kernel
from workers.scratch import Scratch

MASKED = np.float32(-1e30)
"""Score of an accidental hit: e**MASKED is exactly 0, so its loss and its gradient are."""
FILTER_SIZE = 1 << 14
_FILTER_MASK = FILTER_SIZE - 1
_U32 = np.uint64(32)


class Table(NamedTuple):
    """The hash table; its length is a power of two, at least twice what it must hold."""

    keys: np.ndarray
    slots: np.ndarray


def make_table(scratch: Scratch, capacity: int) -> Table:
    """An empty table for so many tags."""
    size = 1 << max(4, (2 * capacity - 1).bit_length())
    keys = scratch.array("table_keys", size, np.int64)
    keys.fill(-1)
    return Table(keys, scratch.array("table_slots", size, np.int32))


@kernel
def place_of(table, stamp, tag):
    """(place, found): where the tag is in the table, or where it belongs."""
    mask = len(table.keys) - 1
    key = (np.int64(stamp) << 32) | np.int64(tag)
    place = np.int64((np.uint64(tag) * GOLDEN) >> _U32) & mask
    while True:
        at_place = table.keys[place]
        if at_place == key:
            return place, True
        if (at_place >> 32) != stamp:
            return place, False
        place = (place + 1) & mask


@kernel
def slot_of(table, stamp, tag, next_slot):
    """The tag's slot; `next_slot`, which it then has, if it had none."""
    place, found = place_of(table, stamp, tag)
    if not found:
        table.keys[place] = (np.int64(stamp) << 32) | np.int64(tag)
        table.slots[place] = next_slot
    return table.slots[place]


@kernel
def assign_slots(table, stamp, neg_ids_K, pos_ids, slot_ids_S, multiplicity_S, pos_slots):
    """Give slots to negatives, then to those positives that are not among them.

    Args:
        table: without keys of this stamp.
        stamp: int >= 0.
        neg_ids_K: int32.
        pos_ids: int32.
        slot_ids_S: int32, out: the tag of each slot.
        multiplicity_S: float32, out: how often a negative was drawn.
        pos_slots: int32 like pos_ids, out.

    Returns:
        (num_negative_slots, num_slots)
    """
    num_slots = np.int32(0)
    for k in range(len(neg_ids_K)):
        slot = slot_of(table, stamp, neg_ids_K[k], num_slots)
        if slot == num_slots:
            slot_ids_S[slot] = neg_ids_K[k]
            multiplicity_S[slot] = np.float32(0)
            num_slots += np.int32(1)
        multiplicity_S[slot] += np.float32(1)
    num_negative_slots = num_slots
    for p in range(len(pos_ids)):
        slot = slot_of(table, stamp, pos_ids[p], num_slots)
        if slot == num_slots:
            slot_ids_S[slot] = pos_ids[p]
            num_slots += np.int32(1)
        pos_slots[p] = slot
    return num_negative_slots, num_slots


@kernel
def mask_hits(
    table_keys, table_slots, starts_B, stops_B, true_tags, filter_bytes, slot_ids_S, multiplicity_S, scores_SX
):
    """Set the scores of accidental hits to MASKED; returns how many draws they were.

    An example may have hundreds of true tags, hardly any of which was drawn: a filter in L1 turns nearly all of them
    away at a nanosecond each, and only the others ask the table.

    Args:
        table_keys: of `assign_slots`, stamp 0.
        table_slots: the same.
        starts_B: int64, where each example's true tags start.
        stops_B: int64, where they end.
        true_tags: int32, ascending within an example.
        filter_bytes: uint8 [FILTER_SIZE], overwritten.
        slot_ids_S: int32, the tags of the negative slots.
        multiplicity_S: float32.
        scores_SX: float32, of each negative slot, by examples.
    """
    B, S, table = len(starts_B), len(multiplicity_S), Table(table_keys, table_slots)
    filter_bytes[:] = 0
    for s in range(S):
        filter_bytes[slot_ids_S[s] & _FILTER_MASK] = 1
    hits = np.int64(0)
    for b in range(B):
        for t in range(starts_B[b], stops_B[b]):
            tag = true_tags[t]
            if filter_bytes[tag & _FILTER_MASK] == 0:
                continue
            place, found = place_of(table, 0, tag)
            if not found:
                continue
            slot = table.slots[place]
            if slot < S and scores_SX[slot, b] != MASKED:
                hits += np.int64(multiplicity_S[slot])
                scores_SX[slot, b] = MASKED
    return hits


@kernel
def is_among(tags, start, stop, tag):
    """Whether the tag is in the ascending tags[start:stop]."""
    low, high = start, stop
    while low < high:
        middle = (low + high) >> 1
        if tags[middle] < tag:
            low = middle + 1
        else:
            high = middle
    return low < stop and tags[low] == tag
