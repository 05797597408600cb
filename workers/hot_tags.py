"""The tags of hot rows (`workers.hot_rows`): those that a chunk updates often, found while it is planned.

Updates are counted by buckets of tags, those with equal low bits (`workers.sightings`). At each `HOT_UPDATES`-th update
of a bucket, the 32nd, 64th and so on, the tag that is then updated is noted here. So a tag that has 300 of a bucket's
320 updates is missed only if all ten of these fall on the other 20.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.jit import inlined_kernel

HOT_UPDATES = 32
"""A row with this many updates in a chunk is copied: three passes over it, instead of so many contended ones. A power
of two."""
MAX_HOT = 256
NUM_BUCKETS = 4096
"""Of the table that counts updates, see `workers.sightings`; a power of two. Tags that share a bucket are counted
together."""
TABLE_SIZE = 1024
"""Of the table of tags found to be hot, at most a quarter full."""
_FEW_HOT = 16  # for so many, one after the other, to compare all tags is faster than to look up each
_COUNT = (1 << 20) - 1


@inlined_kernel
def count_of(entry):
    """The updates that an entry of the table of `workers.sightings` says; a million and more begin with 0 again."""
    return entry & _COUNT


@inlined_kernel
def note_hot(table, ids_H, num_hot, tag):
    """Add a tag to the hot ones, if it is none of them yet and there is room; returns how many they are.

    Args:
        table: int32 [TABLE_SIZE], -1 where there is none: the numbers of hot tags.
        ids_H: int32, out: the hot tags.
        num_hot: so far.
        tag: at least 0.
    """
    bucket = _find(table, ids_H, tag)
    if table[bucket] < 0 and num_hot < MAX_HOT:
        table[bucket], ids_H[num_hot] = num_hot, tag
        num_hot += 1
    return num_hot


@inlined_kernel
def _find(table, ids_H, tag):
    """The bucket of the table where a hot tag is, or would be."""
    bucket = (tag ^ (tag >> 10)) & (TABLE_SIZE - 1)
    while table[bucket] >= 0 and ids_H[table[bucket]] != tag:
        bucket = (bucket + 1) & (TABLE_SIZE - 1)
    return bucket


@inlined_kernel
def place_hot(counts, table, ids_H, num_hot, places):
    """Put the place of its copy where the tag of a hot row stood.

    Args:
        counts: uint32 [NUM_BUCKETS], see `count_of`.
        table: of `note_hot`, as are the next two.
        ids_H: int32.
        num_hot: how many.
        places: int32, the tag of each update; out: its place.
    """
    if num_hot <= _FEW_HOT:
        for h in range(num_hot):
            tag, place = ids_H[h], np.int32(-1 - h)
            for i in range(len(places)):
                places[i] = place if places[i] == tag else places[i]
        return
    for i in range(len(places)):
        tag = places[i]
        if count_of(counts[np.uint64(tag & (NUM_BUCKETS - 1))]) < HOT_UPDATES:
            continue
        bucket = _find(table, ids_H, tag)
        if table[bucket] >= 0:
            places[i] = -1 - table[bucket]
