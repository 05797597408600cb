"""Accidental hits of one example: draws that are true tags.

Legend: K draws, or slots of distinct ones.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.jit import inlined_kernel
from workers.matching import TAGS_AT_ONCE, equal_to, front
from workers.slots import is_among
from workers.vectors import values_from

_MOST_TRUE = 4096  # true tags; to compare with more takes longer than a binary search
_ZERO = np.float32(0)


@inlined_kernel
def _true_ones(tags, start, K, true_tags, first, last):
    """Which of tags[start:K], or of the first block of them, are among true_tags[first:last]: bits of a number."""
    found, count = np.int64(0), min(K - start, TAGS_AT_ONCE)
    if last - first > _MOST_TRUE:
        for i in range(count):
            found |= np.int64(is_among(true_tags, first, last, tags[start + i])) << i
        return found
    true_from = values_from(true_tags, 0)
    for t in range(first, last):
        found |= equal_to(tags, start, true_from[t])
    return found & front(count)


@inlined_kernel
def mask_true(tags, K, true_tags, first, last, multiplicity_S):
    """Set the multiplicity of accidental hits to 0; returns how many draws they were."""
    hits = np.int64(0)
    for start in range(0, K, TAGS_AT_ONCE):
        found = _true_ones(tags, start, K, true_tags, first, last)
        for k in range(start, min(start + TAGS_AT_ONCE, K)):
            if (found >> (k - start)) & 1:
                hits += np.int64(multiplicity_S[k])
                multiplicity_S[k] = _ZERO
    return hits
