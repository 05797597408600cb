"""What a kernel asks of memory an example ahead, so that it is in the cache when its turn comes.

`ids` and `next_ids` are pointers to the next example's tags; ids after its last one are tags too, and are fetched in
vain at worst.

Legend: S slots of an example.
"""

# mypy: allow-untyped-defs

from workers.jit import inlined_kernel
from workers.prefetch import LINE_FLOATS, prefetch_near, prefetch_read, prefetch_write
from workers.vectors import values_from


@inlined_kernel
def fetch_rows(rows_NS, ids, first, stop, start_word, stop_word):
    """Ask for some words of the rows ids[first:stop]; of hot ones too: to tell them apart would cost more."""
    for i in range(first, stop):
        row = values_from(rows_NS, ids[i])
        for j in range(start_word, stop_word, LINE_FLOATS):
            prefetch_near(row, j)


@inlined_kernel
def fetch_state(state_N4, ids, first, stop):
    for i in range(first, stop):
        prefetch_write(values_from(state_N4, ids[i]), 0)


@inlined_kernel
def fetch_features(f, g, D):
    """Ask for the features and the feature gradient of the next example."""
    for j in range(D, 2 * D, LINE_FLOATS):
        prefetch_near(f, j)
        prefetch_write(g, j)


@inlined_kernel
def fetch_plan(weights, places, next_ids, S, num_next):
    """Ask for the plan of the next example, and for the ids of the one after it."""
    for i in range(0, num_next + LINE_FLOATS, LINE_FLOATS):
        prefetch_read(weights, S + i)
        prefetch_read(places, S + i)
        prefetch_read(next_ids, num_next + i)
