"""The tags of hot rows (`workers.hot_rows`): those that a chunk updates often, found while it is planned.

Who looks at all tags of a chunk (`workers.sightings`) notes a tag here when its count has grown by `HOT_UPDATES`. So
one that is updated much more often is nearly always found: it is missed only if, at each multiple of `HOT_UPDATES`,
another tag of its place happened to come.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.jit import inlined_kernel

HOT_UPDATES = 32
"""A row with this many updates in a chunk is copied: three passes over it, instead of so many contended ones. A power
of two."""
MAX_HOT = 256
NUM_PLACES = 4096
"""Of the table that counts updates, see `workers.sightings`; a power of two. Tags that share a place are counted
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
    at = _find(table, ids_H, tag)
    if table[at] < 0 and num_hot < MAX_HOT:
        table[at], ids_H[num_hot] = num_hot, tag
        num_hot += 1
    return num_hot


@inlined_kernel
def _find(table, ids_H, tag):
    """Where a hot tag is in the table, or would be."""
    at = (tag ^ (tag >> 10)) & (TABLE_SIZE - 1)
    while table[at] >= 0 and ids_H[table[at]] != tag:
        at = (at + 1) & (TABLE_SIZE - 1)
    return at


@inlined_kernel
def place_hot(counts, table, ids_H, num_hot, places):
    """Put the place of its copy where the tag of a hot row stood.

    Args:
        counts: uint32 [NUM_PLACES], see `count_of`.
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
        if count_of(counts[np.uint64(tag & (NUM_PLACES - 1))]) < HOT_UPDATES:
            continue
        at = _find(table, ids_H, tag)
        if table[at] >= 0:
            places[i] = -1 - table[at]
