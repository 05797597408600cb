"""One compiled pass over a chunk's arrays that says whether all of them keep the rules of `workers.chunk`.

Legend: B examples, D dim.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.config import MAX_FACTOR
from workers.jit import inlined_kernel, kernel

_MOST = np.float32(MAX_FACTOR)


@kernel
def is_sound(pos_ids, pos_offsets, true_ids, true_offsets, items_B, num_tags, num_items):
    """Whether kernels may run on these arrays, whose types and lengths of `B` were checked.

    Args:
        pos_ids: int32.
        pos_offsets: int32 [B + 1].
        true_ids: int32.
        true_offsets: int32 [B + 1]; empty if there are items instead.
        items_B: int64; empty if there are none.
        num_tags: int.
        num_items: int.
    """
    if not _is_ragged(pos_ids, pos_offsets, num_tags):
        return False
    for b in range(len(items_B)):
        if items_B[b] < 0 or items_B[b] >= num_items:
            return False
    if len(true_offsets) == 0:
        return True
    return _is_ragged(true_ids, true_offsets, num_tags) and _ascends_within(true_ids, true_offsets)


@inlined_kernel
def are_weights(weights):
    """Whether none is below 0, above `MAX_FACTOR`, or NaN."""
    wrong = np.int64(0)
    for i in range(len(weights)):
        wrong += not (weights[i] >= 0 and weights[i] <= _MOST)
    return wrong == 0


@kernel
def _is_ragged(ids, offsets, num_tags):
    """Whether offsets rise from 0 to the number of ids, and ids are tags."""
    falls = np.int64(0)
    for i in range(1, len(offsets)):
        falls += offsets[i] < offsets[i - 1]
    strangers = np.int64(0)
    for i in range(len(ids)):
        strangers += (ids[i] < 0) | (ids[i] >= num_tags)
    return offsets[0] == 0 and offsets[-1] == len(ids) and falls == 0 and strangers == 0


@kernel
def _ascends_within(ids, offsets):
    """Whether ids ascend between one offset and the next; offsets were checked."""
    falls = np.int64(0)
    for i in range(1, len(ids)):
        falls += ids[i] <= ids[i - 1]
    for b in range(1, len(offsets) - 1):
        first = offsets[b]
        if 0 < first < offsets[b + 1]:  # from one example to the next they may fall
            falls -= ids[first] <= ids[first - 1]
    return falls == 0


@inlined_kernel
def is_aligned(values):
    """Whether the values of an array lie at multiples of their size; Numba does not look at that."""
    return values.ctypes.data % np.uint64(values.itemsize) == 0
