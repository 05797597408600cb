"""Hot rows: private copies of the rows that a chunk updates many times, merged into the matrix once.

Where several workers update the same few rows, each write takes the row's cache lines away from the other cores, and
two workers are slower than one. So a worker copies such rows first, works on its copies, example after example, and
adds what they have become to the matrix at the end of the chunk:

    before, own <- row              at the start of the chunk
    own <- update(own, ...)         as often as examples touch it
    row <- row + (own - before)     at the end

Nothing else changes: the optimizer sees single gradients, accumulators move with their rows, and without other workers
the result is that of updating the row in place, but for rounding.

Shrinking a row may not be added like that: each of the workers that hold a copy would take the whole excess off. So
rows are not copied where decay or a bound on the norm shrinks them. Moves along gradients may, as long as a chunk takes
off a small part of a row's error. W workers whose chunks each take off more than 2/W of it throw the row to the other
side, and further: that needs a large rate, a tag in most examples, and chunks of many examples, since an example
updates a row once. Adagrad's steps shrink until it ends; with SGD lower the rate, or `chunk_size`.

Concurrency: what others add to a row meanwhile stays in it, and is seen by this worker from the next chunk on.

Legend: H hot rows, S stored words of a row.
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.hot_tags import MAX_HOT
from workers.jit import inlined_kernel
from workers.rounding import noise_start
from workers.scratch import Scratch
from workers.tags import LOG_Q, Tags
from workers.vectors import fma, high, length, low, put, whole_of

_PLUS, _MINUS = np.float32(1), np.float32(-1)


class HotRows(NamedTuple):
    """The copies. A row's place, see `vectors.row_of`, is its tag id if it is not copied, or else -1 - h."""

    ids_H: np.ndarray
    rows_HS: np.ndarray
    state_H4: np.ndarray
    rows_before_HS: np.ndarray
    state_before_H4: np.ndarray


def hot_rows(tags: Tags, scratch: Scratch) -> HotRows:
    """Memory for the most hot rows that there can be."""
    rows, state = (MAX_HOT, tags.rows_NS.shape[1]), (MAX_HOT, 4)
    return HotRows(
        ids_H=scratch.empty(MAX_HOT, np.int32),
        rows_HS=scratch.empty(rows, tags.rows_NS.dtype),
        state_H4=scratch.empty(state, np.float32),
        rows_before_HS=scratch.empty(rows, tags.rows_NS.dtype),
        state_before_H4=scratch.empty(state, np.float32),
    )


@inlined_kernel
def take_hot(tags, hot, num_hot):
    """Copy the hot rows."""
    for h in range(num_hot):
        tag = np.uint64(hot.ids_H[h])
        row_S, state = tags.rows_NS[tag], tags.tag_state_N4[tag]
        for j in range(len(row_S)):
            hot.rows_HS[h, j] = hot.rows_before_HS[h, j] = row_S[j]
        for j in range(len(state)):
            hot.state_H4[h, j] = hot.state_before_H4[h, j] = state[j]


@inlined_kernel
def merge_hot(tags, hot, num_hot, half, likes, key):
    """row <- row + (own - before), and the same for the state."""
    for h in range(num_hot):
        tag = np.uint64(hot.ids_H[h])
        row_S, own_S, before_S = tags.rows_NS[tag], hot.rows_HS[h], hot.rows_before_HS[h]
        at, whole = noise_start(key, h), whole_of(half, likes)
        _merge(row_S, own_S, before_S, 0, whole, half, likes[0], tags.noise, at)
        _merge(row_S, own_S, before_S, whole, half, half, likes[1], tags.noise, at)
        for j in range(LOG_Q):
            tags.tag_state_N4[tag, j] += hot.state_H4[h, j] - hot.state_before_H4[h, j]


@inlined_kernel
def _merge(row_S, own_S, before_S, start, stop, half, like, noise, noise_start):
    for j in range(start, stop, length(like)):
        moved_low = fma(_MINUS, low(before_S, j, like), low(own_S, j, like))
        moved_high = fma(_MINUS, high(before_S, j, half, like), high(own_S, j, half, like))
        new_low = fma(_PLUS, moved_low, low(row_S, j, like))
        new_high = fma(_PLUS, moved_high, high(row_S, j, half, like))
        put(row_S, j, half, new_low, new_high, noise, noise_start + j)
