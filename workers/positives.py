"""Draws of each example's positives from its true tags."""

# mypy: allow-untyped-defs

import numpy as np

from workers.counters import below, random_bits
from workers.jit import kernel


def draw_positives(
    offsets: np.ndarray, tags: np.ndarray, items_B: np.ndarray, num_positives: int, key: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """All true tags of an item that has at most `num_positives`, else so many of them, uniformly without replacement.

    Args:
        offsets: int64 [I + 1], where each item's true tags start.
        tags: int32, the true tags of all items.
        items_B: int64, items in [0, I); each draws for itself, also where one occurs twice.
        num_positives: P, at least 1.
        key: of `counters.stream_key`; equal keys give equal draws.

    Returns:
        pos_ids (int32) with pos_offsets (int32 [B + 1]). An item without tags has an empty range.

    Raises:
        IndexError: an item is outside [0, I).
    """
    items_B = np.ascontiguousarray(items_B, np.int64)
    num_items = len(offsets) - 1
    if len(items_B) and not (items_B.min() >= 0 and items_B.max() < num_items):
        raise IndexError(f"items from {items_B.min()} to {items_B.max()}, but the data set has {num_items}")
    lengths_B = offsets[items_B + 1] - offsets[items_B]
    pos_offsets = np.zeros(len(items_B) + 1, np.int32)
    np.cumsum(np.minimum(lengths_B, num_positives), out=pos_offsets[1:])
    pos_ids = np.empty(pos_offsets[-1], np.int32)
    scratch = np.empty(lengths_B.max(initial=0), np.int32)
    _draw(_read_only(offsets), _read_only(tags), items_B, pos_offsets, np.uint64(key), scratch, pos_ids)
    return pos_ids, pos_offsets


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that compiles to one and the same kernel, whether the array was memory-mapped for reading or not."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@kernel
def _draw(offsets, tags, items_B, pos_offsets, key, scratch, pos_ids):
    for b in range(len(items_B)):
        first, start = offsets[items_B[b]], pos_offsets[b]
        T = offsets[items_B[b] + 1] - first
        P = np.int64(pos_offsets[b + 1] - start)
        if P == T:
            for p in range(P):
                pos_ids[start + p] = tags[first + p]
            continue
        example_key = random_bits(key, np.uint64(b))
        for t in range(T):
            scratch[t] = tags[first + t]
        for p in range(P):  # the first P cards of a shuffle
            other = p + np.int64(below(random_bits(example_key, np.uint64(p)), np.uint64(T - p)))
            pos_ids[start + p] = scratch[other]
            scratch[other] = scratch[p]
