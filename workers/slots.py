"""Slots: small consecutive numbers for the distinct tags of a chunk, so that each row is read, merged and written once.

A slot is found through a hash table with open addressing, whose entries are tag * 2**32 + slot, and larger than any of
these where there is none. Whether a tag is there already cannot be guessed, so nothing branches on it; only on tags
that are in each other's bucket. Negatives come first: slots [0, num_negative_slots).

Legend: B examples, K negatives drawn, S slots, X columns of scores, at least B.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.counters import GOLDEN
from workers.jit import inlined_kernel, kernel
from workers.vectors import values_from

MASKED = np.float32(-1e30)
"""Score of an accidental hit: e**MASKED is exactly 0, so its loss and its gradient are."""
FILTER_WORDS = 1 << 11
_U32 = np.uint64(32)
_LOW_32, _NONE = np.int64(0xFFFFFFFF), np.int64(2**63 - 1)
_NO_TAG = np.int64(2**31 - 1)


@inlined_kernel
def table_size(count):
    """Buckets of a table for so many tags: a power of two, at least twice their number."""
    size = np.int64(16)
    while size < 2 * count:
        size *= 2
    return size


@inlined_kernel
def _bucket_of(table, mask, tag):
    """Where the tag is in the table, or where it belongs; in a table of mask + 1 buckets.

    By the highest bits of its product with the golden ratio: they spread tags that follow each other, as often ones do,
    more evenly than chance would. A collision cannot be guessed, and costs more than all the rest. For the same reason
    there is one comparison: two would be two branches, and which of them ends the search cannot be guessed either.
    """
    bucket = np.int64(((np.uint64(tag) * GOLDEN >> _U32) * np.uint64(mask + 1)) >> _U32)
    tag_there = table[bucket] >> 32
    while (tag_there - tag) * (tag_there - _NO_TAG) != 0:
        bucket = (bucket + 1) & mask
        tag_there = table[bucket] >> 32
    return bucket


@inlined_kernel
def _slot_of(table, mask, tag, next_slot):
    """The tag's slot, which is `next_slot` from now on if it had none; and the next one after that."""
    bucket = _bucket_of(table, mask, tag)
    entry = table[bucket]
    table[bucket] = min(entry, (np.int64(tag) << 32) | next_slot)
    return min(entry, (np.int64(tag) << 32) | next_slot) & _LOW_32, next_slot + np.int64(entry == _NONE)


@kernel
def assign_slots(table, neg_ids_K, pos_ids, slot_ids_S, multiplicity_S, pos_slots):
    """Give slots to negatives, then to those positives that are not among them.

    Args:
        table: int64 [at least `table_size` of the number of ids], the front of which is overwritten.
        neg_ids_K: int32.
        pos_ids: int32.
        slot_ids_S: int32 [at least one for each id], out: the tag of each slot; overwritten beyond them.
        multiplicity_S: float32 like slot_ids_S, out: how often a negative was drawn; overwritten beyond them.
        pos_slots: int32 like pos_ids, out.

    Returns:
        (num_negative_slots, num_slots)
    """
    size = table_size(len(neg_ids_K) + len(pos_ids))
    table[:size] = _NONE
    entries, ids, counts = values_from(table, 0), values_from(slot_ids_S, 0), values_from(multiplicity_S, 0)
    num_slots = np.int64(0)
    for k in range(len(neg_ids_K)):
        tag = np.int64(neg_ids_K[k])
        ids[num_slots], counts[num_slots] = tag, np.float32(0)
        slot, num_slots = _slot_of(entries, size - 1, tag, num_slots)
        counts[slot] += np.float32(1)
    num_negative_slots = num_slots
    for p in range(len(pos_ids)):
        tag = np.int64(pos_ids[p])
        ids[num_slots] = tag
        pos_slots[p], num_slots = _slot_of(entries, size - 1, tag, num_slots)
    return num_negative_slots, num_slots


@inlined_kernel
def mask_hits(table, num_ids, starts_B, stops_B, true_tags, filter_words, slot_ids_S, multiplicity_S, scores_SX):
    """Set the scores of accidental hits to MASKED; returns how many pairs of an example and a draw they were.

    An example may have hundreds of true tags, hardly any of which was drawn: a filter in L1, one bit for all tags that
    are alike in their low bits, turns nearly all of them away at a nanosecond each, and only the others ask the table.

    Args:
        table: of `assign_slots`.
        num_ids: negatives and positives that it was given.
        starts_B: int64, where each example's true tags start.
        stops_B: int64, where they end.
        true_tags: int32, ascending within an example.
        filter_words: uint64 [FILTER_WORDS], overwritten.
        slot_ids_S: int32, the tags of the negative slots.
        multiplicity_S: float32.
        scores_SX: float32, of each negative slot, by examples.
    """
    S, mask = len(multiplicity_S), table_size(num_ids) - 1
    entries, tags, words = values_from(table, 0), values_from(true_tags, 0), values_from(filter_words, 0)
    filter_words[:] = np.uint64(0)
    for s in range(S):
        words[_word_of(slot_ids_S[s])] |= _bit_of(slot_ids_S[s])
    hits = np.int64(0)
    for b in range(len(starts_B)):
        for t in range(starts_B[b], stops_B[b]):
            tag = tags[t]
            if words[_word_of(tag)] & _bit_of(tag) == 0:
                continue
            entry = entries[_bucket_of(entries, mask, np.int64(tag))]
            slot = entry & _LOW_32
            if entry != _NONE and slot < S and scores_SX[slot, b] != MASKED:
                hits += np.int64(multiplicity_S[slot])
                scores_SX[slot, b] = MASKED
    return hits


@inlined_kernel
def _word_of(tag):
    return np.int64((tag >> 6) & (FILTER_WORDS - 1))


@inlined_kernel
def _bit_of(tag):
    return np.uint64(1) << np.uint64(tag & 63)


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
