"""Which tags an example may have twice, and which a chunk updates often: a table of tags by their low bits.

One look at a bucket of the table, which stays in the nearest cache, answers both for a tag. Tags of equal low bits
share a bucket: it may claim that a tag was seen when another was, but misses none in less than a million looks at it.
Callers compare the tags themselves.

A bucket holds, in uint32:

    bits 0 to 19     how many updates of the chunk its tags have, so far
    bit 20           whether it was last seen as a true tag, not as one of the example's slots
    bits 21 to 31    in which example it was last seen, modulo their number
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.hot_tags import HOT_UPDATES, NUM_BUCKETS, count_of, note_hot
from workers.jit import inlined_kernel
from workers.vectors import values_from

_TRUE, _EXAMPLE, _EXAMPLES = 1 << 20, 1 << 21, 2047
"""Of a mark: the bit of true tags, the lowest one of the example, and what the example is cut to."""
ANY_SIGHT, SLOT_SIGHT = np.int64(_EXAMPLE), np.int64(_TRUE)
"""What `see` looks for: whether the example had the tag as a true one or in a slot, or in a slot alone."""


@inlined_kernel
def _mark(b):
    return np.int64((b + 1) & _EXAMPLES) << 21


@inlined_kernel
def see_true(buckets, b, tags, first, last):
    """Note the true tags of example b."""
    entries, true_tags, mark = values_from(buckets, 0), values_from(tags, first), _mark(b) | _TRUE
    for t in range(last - first):
        bucket = np.uint64(true_tags[t] & (NUM_BUCKETS - 1))
        entries[bucket] = np.uint32(count_of(entries[bucket]) | mark)


@inlined_kernel
def see(
    buckets, b, ids, weight, tags, weights, start, stop, sight, suspects, num_suspects, hot_table, hot_ids_H, num_hot
):
    """Make ids the tags of slots [start, stop) of example b, note them, and list those that it may have had before.

    Args:
        buckets: uint32 [NUM_BUCKETS], 0 before the chunk's first example.
        b: at least 0.
        ids: int32 behind a pointer, from the first on.
        weight: of each of these slots.
        tags: int32 behind a pointer, out; of all slots, as are the weights.
        weights: float32 behind a pointer, out.
        start: of these slots.
        stop: of these slots.
        sight: what counts as having had it, `ANY_SIGHT` or `SLOT_SIGHT`.
        suspects: int32, out: their numbers follow the first `num_suspects`; as long as there are slots.
        num_suspects: so far.
        hot_table: of `hot_tags.note_hot`, as are the next two.
        hot_ids_H: out.
        num_hot: so far.

    Returns:
        (num_suspects, num_hot)
    """
    entries, listed, mark = values_from(buckets, 0), values_from(suspects, 0), _mark(b)
    for i in range(start, stop):
        tag = ids[i - start]
        tags[i], weights[i] = tag, weight
        bucket = np.uint64(tag & (NUM_BUCKETS - 1))
        entry = np.int64(entries[bucket])
        listed[num_suspects] = i
        num_suspects += (entry ^ mark) < sight
        count = count_of(entry) + 1
        entries[bucket] = np.uint32(mark | count)
        if count & (HOT_UPDATES - 1) == 0:  # whose tag is then the hot one, if one of this bucket's tags is
            num_hot = note_hot(hot_table, hot_ids_H, num_hot, tag)
    return num_suspects, num_hot
