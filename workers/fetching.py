"""What a kernel asks of memory an example ahead, so that it is in the cache when its turn comes.

`next_places` is a pointer to the places (`workers.hot_rows`) of the next example's rows. After its last one come those
of the example after it, or after the last example whatever the plan left there, even places of copies that do not
exist: at worst they are fetched in vain.

Legend: S slots of an example.
"""

# mypy: allow-untyped-defs

from workers.jit import inlined_kernel
from workers.prefetch import LINE_FLOATS, prefetch_near, prefetch_read, prefetch_write
from workers.vectors import row_of

SHORT_ROW = 128
"""Words up to which rows are fetched into the first level of the cache; longer ones, into the second, so that they do
not push out the rows at work."""
FAR_BYTES = 4 << 30
"""Short rows of more memory are touched two examples ahead: that is 2,048 huge pages, as many as second-level TLBs
know. Touching costs bandwidth, since it opens a page of DRAM for one line; longer rows lose more than they gain."""


def early_words(words: int) -> int:
    """The words of a row, whole cache lines, that are fetched while the example before is scored; the others come while
    its rows are updated. A half, 11/16 and three quarters were slower, or no faster, at D = 256."""
    return words * 5 // 8 // LINE_FLOATS * LINE_FLOATS


@inlined_kernel
def touch_rows(tags, hot, words, places, S):
    """Ask for the first line of rows whose turn is two examples away: then their pages are known when the rest is."""
    for i in range(S):
        prefetch_write(row_of(tags.rows_NS, hot.rows_HS, places[i], words), 0)


@inlined_kernel
def fetch_rows(tags, hot, words, next_places, first, stop, start_word, stop_word):
    """Ask for some words of the rows next_places[first:stop]."""
    for i in range(first, stop):
        _fetch_row(tags, hot, words, next_places[i], start_word, stop_word)


@inlined_kernel
def fetch_four(tags, hot, words, next_places, first, start_word, stop_word):
    """The same for next_places[first : first + 4]."""
    _fetch_row(tags, hot, words, next_places[first], start_word, stop_word)
    _fetch_row(tags, hot, words, next_places[first + 1], start_word, stop_word)
    _fetch_row(tags, hot, words, next_places[first + 2], start_word, stop_word)
    _fetch_row(tags, hot, words, next_places[first + 3], start_word, stop_word)


@inlined_kernel
def _fetch_row(tags, hot, words, place, start_word, stop_word):
    row = row_of(tags.rows_NS, hot.rows_HS, place, words)
    for j in range(start_word, stop_word, LINE_FLOATS):
        if words <= SHORT_ROW:
            prefetch_read(row, j)
        else:
            prefetch_near(row, j)


@inlined_kernel
def fetch_state(tags, hot, next_places, first, stop):
    """Ask for the state of the rows next_places[first:stop]."""
    for i in range(first, stop):
        prefetch_write(row_of(tags.tag_state_N4, hot.state_H4, next_places[i], 4), 0)


@inlined_kernel
def fetch_features(f, g, D):
    """Ask for the features and the feature gradient of the example after the next, into the second level: until their
    turn, two examples' rows go through the first."""
    for j in range(2 * D, 3 * D, LINE_FLOATS):
        prefetch_near(f, j)
        prefetch_near(g, j)


@inlined_kernel
def fetch_next_features(f, g, D):
    """Ask for those of the next example, into the first level: stores that miss it go one by one, and an example begins
    with as many as a feature gradient has lines."""
    for j in range(D, 2 * D, LINE_FLOATS):
        prefetch_read(f, j)
        prefetch_write(g, j)


@inlined_kernel
def fetch_plan(weights, next_places, S, num_next):
    """Ask for the weights of the next example, and for the places of the one after it."""
    for i in range(0, num_next + LINE_FLOATS, LINE_FLOATS):
        prefetch_read(weights, S + i)
        prefetch_read(next_places, num_next + i)
